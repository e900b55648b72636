"""What Nova finds as nova.virt.vmruntime, once the launcher has added this directory."""

from vmruntime_nova.driver import VMRuntimeDriver

__all__ = ["VMRuntimeDriver"]
