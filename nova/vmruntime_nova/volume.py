"""Cinder's volumes: os-brick makes block devices of the host of them, which vmruntime gives to the guest as disks."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nova.conf
from nova import exception
from nova.utils import get_root_helper
from nova.virt import driver
from os_brick.initiator import connector

from vmruntime_nova import spec

CONF = nova.conf.CONF


def properties() -> dict[str, Any]:
    """What Cinder must know of the host to let it in."""
    found: dict[str, Any] = connector.get_connector_properties(
        get_root_helper(), CONF.my_block_storage_ip, multipath=False, enforce_multipath=False, host=CONF.host
    )
    return found


def connect(block_device_info: Any) -> list[spec.Device]:
    """Connects the volumes, those that are connected as well, and has them as the container's devices."""
    return [_connect(v["connection_info"], v["mount_device"]) for v in _volumes(block_device_info)]


def disconnect(block_device_info: Any) -> None:
    """Lets go of the volumes. Those that are not connected are fine."""
    for v in _volumes(block_device_info):
        disconnect_one(v["connection_info"])


def disconnect_one(connection_info: Any) -> None:
    """Lets go of one volume."""
    _connector(connection_info).disconnect_volume(connection_info["data"], None, ignore_errors=True)


def _connect(connection_info: Any, place: str) -> spec.Device:
    path = _connector(connection_info).connect_volume(connection_info["data"])["path"]
    number = block_device(path)
    if number is None:
        kind = connection_info["driver_volume_type"]
        reason = f"{path}, of type {kind}, is no block device: use volumes that the host has as such, by iSCSI or NVMe"
        raise exception.InvalidVolume(reason=reason)
    return spec.Device(place, *number)


def block_device(path: str) -> tuple[int, int] | None:
    """The number of a block device, None if it is something else."""
    if not Path(path).is_block_device():
        return None
    number = Path(path).stat().st_rdev
    return os.major(number), os.minor(number)


def _connector(connection_info: Any) -> Any:
    return connector.InitiatorConnector.factory(
        connection_info["driver_volume_type"].upper(), get_root_helper(), use_multipath=False
    )


def _volumes(block_device_info: Any) -> Iterable[Any]:
    """Swap and ephemeral disks are none: the container's files are on its root disk."""
    return [v for v in driver.block_device_info_get_mapping(block_device_info) if v.get("connection_info")]
