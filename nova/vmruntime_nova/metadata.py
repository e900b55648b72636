"""What the guest is told: Nova's metadata as a directory, keys, names of hosts."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vmruntime_nova import store

# Where cloud-init looks for a config drive that is a directory.
CONFIG_DRIVE = "/var/lib/cloud/seed/config_drive"

# Metadata of that prefix is the container's environment.
ENV_PREFIX = "env."


def write_config_drive(entries: Iterable[tuple[str, bytes | str]], directory: Path) -> None:
    """Writes what InstanceMetadata.metadata_for_config_drive() yields. Names are Nova's own."""
    for name, content in entries:
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        # User data and passwords are not for everyone on the host; the guest's reader is root.
        store.write(file, content.encode() if isinstance(content, str) else content, 0o600)


def environment(metadata: Mapping[str, str]) -> dict[str, str]:
    """The variables that a user has put into metadata as env.NAME."""
    return {k.removeprefix(ENV_PREFIX): v for k, v in metadata.items() if k.startswith(ENV_PREFIX) and k != ENV_PREFIX}


def resolv_conf(network_info: Iterable[Any]) -> str:
    """The name servers of all subnets, the first of a name only."""
    servers = [ip["address"] for vif in network_info for s in vif["network"]["subnets"] for ip in s.get("dns") or []]
    return "".join(f"nameserver {server}\n" for server in dict.fromkeys(servers))


def hosts(hostname: str, network_info: Iterable[Any]) -> str:
    """localhost, and the instance's own name with its fixed addresses."""
    addresses = [ip["address"] for vif in network_info for s in vif["network"]["subnets"] for ip in s["ips"]]
    own = [f"{address} {hostname}" for address in dict.fromkeys(addresses)] or [f"127.0.1.1 {hostname}"]
    return "\n".join(["127.0.0.1 localhost", "::1 localhost", *own, ""])
