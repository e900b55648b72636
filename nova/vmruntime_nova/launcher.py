"""Starts nova-compute with the driver loadable as compute_driver = vmruntime.VMRuntimeDriver.

Nova looks for drivers below its own package nova.virt and nowhere else.
"""

from pathlib import Path


def register() -> None:
    """Makes `nova.virt.vmruntime` importable. Repeating it changes nothing."""
    import nova.virt

    here = str(Path(__file__).parent / "virt")
    if here not in nova.virt.__path__:
        nova.virt.__path__.append(here)


def main() -> None:
    """Is nova-compute, with its arguments."""
    # First of all, for importing it decides how threads are made.
    import nova.cmd.compute

    register()
    nova.cmd.compute.main()


if __name__ == "__main__":
    main()
