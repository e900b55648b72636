"""An OpenStack Nova compute driver that runs container images as virtual machines.

It stays outside of Nova: launcher makes it loadable, driver answers Nova, and the
other modules each know one thing (runtime: the program, spec: its config.json,
store: what is on disk, network: interfaces, metadata: what the guest is told).
"""
