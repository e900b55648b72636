"""The host's figures."""

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

MEMINFO = Path("/proc/meminfo")
GIB = 1024**3


class Resources(NamedTuple):
    """vcpus are the CPUs that are online, the others what their names say."""

    vcpus: int
    memory_mb: int
    memory_mb_free: int
    disk_gb: int
    disk_gb_free: int


def resources(directory: Path) -> Resources:
    """The host's, with the file system that the directory is on, or will be."""
    memory = _meminfo()
    while not directory.exists():
        directory = directory.parent
    disk = os.statvfs(directory)
    return Resources(
        vcpus=os.cpu_count() or 1,
        memory_mb=memory["MemTotal"] // 1024,
        memory_mb_free=memory["MemAvailable"] // 1024,
        disk_gb=disk.f_blocks * disk.f_frsize // GIB,
        disk_gb_free=disk.f_bavail * disk.f_frsize // GIB,
    )


def _meminfo() -> dict[str, int]:
    """/proc/meminfo in KiB."""
    lines = (line.split() for line in MEMINFO.read_text().splitlines())
    return {fields[0].rstrip(":"): int(fields[1]) for fields in lines}


def uptime() -> str:
    """What uptime(1) prints, which Nova's API takes apart."""
    return subprocess.run(
        ["uptime"], env={**os.environ, "LANG": "C"}, capture_output=True, text=True, check=True
    ).stdout.strip()
