"""An instance's network namespace, with a veth pair per port: its end outside is Neutron's tap.

os-vif does what the port's type asks for (makes the bridge, tells Open vSwitch);
vmruntime gives the guest what is in the namespace, and follows its changes.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import os_vif
from nova import exception
from nova.network import os_vif_util

from vmruntime_nova import privsep

NETNS_DIRECTORY = Path("/run/netns")


@dataclass(frozen=True)
class Port:
    """What a port looks like on both sides. Routes are (destination, gateway)."""

    tap: str
    mac: str
    mtu: int
    addresses: Sequence[str]
    routes: Sequence[tuple[str, str]]


def port(vif: Any) -> Port:
    """Nova's network_model.VIF as plain data."""
    addresses, routes = [], []
    for subnet in vif["network"]["subnets"]:
        prefix = str(subnet["cidr"]).partition("/")[2]
        addresses += [f"{ip['address']}/{prefix}" for ip in subnet["ips"]]
        gateway = (subnet.get("gateway") or {}).get("address")
        if gateway:
            routes.append(("::/0" if ip_interface(gateway).version == 6 else "0.0.0.0/0", gateway))
        routes += [(r["cidr"], r["gateway"]["address"]) for r in subnet.get("routes") or [] if r["gateway"]]
    mtu = vif["network"].get_meta("mtu") or 1500
    return Port(vif["devname"] or ("tap" + vif["id"])[:14], vif["address"], int(mtu), addresses, routes)


def outside(p: Port, namespace: str, name: str) -> list[str]:
    """The lines of ip -batch that make the pair; name is that of the end in the namespace."""
    return [
        f"link add {p.tap} mtu {p.mtu} type veth peer name {name} address {p.mac} netns {namespace}",
        f"link set {p.tap} up",
    ]


def inside(p: Port, name: str) -> list[str]:
    """The lines of ip -batch that configure the end in the namespace."""
    lines = ["link set lo up", f"link set {name} mtu {p.mtu} up"]
    lines += [f"addr replace {a} dev {name}{_nodad(a)}" for a in p.addresses]
    return lines + [f"route replace {d} via {g} dev {name}" for d, g in p.routes]


def _nodad(address: str) -> str:
    """Neutron has given the address to nobody else."""
    return " nodad" if ip_interface(address).version == 6 else ""


def namespace(uuid: str) -> str:
    """The name of an instance's network namespace."""
    return "nova-" + uuid


def path(uuid: str) -> str:
    """Where the namespace is, for config.json."""
    return str(NETNS_DIRECTORY / namespace(uuid))


def make_namespace(uuid: str) -> None:
    """Makes the namespace where it is missing."""
    if not Path(path(uuid)).exists():
        privsep.ip(["netns", "add", namespace(uuid)], [])


def remove_namespace(uuid: str) -> None:
    """Removes the namespace and what is left in it. None there is fine."""
    _delete(["netns", "delete", namespace(uuid)], Path(path(uuid)).exists)


def plug(instance: Any, vifs: Iterable[Any]) -> None:
    """Plugs the ports in; those that are in already stay as they are."""
    make_namespace(instance.uuid)
    for vif in vifs:
        _plug(instance, vif)


def _plug(instance: Any, vif: Any) -> None:
    p, netns = port(vif), namespace(instance.uuid)
    links = _links(["-netns", netns])
    if p.mac not in links.values():
        _remove(p.tap)
        name = next(n for n in (f"eth{i}" for i in range(len(links) + 1)) if n not in links)
        privsep.ip([], outside(p, netns, name))
        privsep.ip(["-netns", netns], inside(p, name))
    osvif = _os_vif(vif)
    os_vif.plug(osvif, os_vif_util.nova_to_osvif_instance(instance))
    bridge = getattr(osvif, "bridge_name", None) if "bridge_name" in osvif else None
    if bridge and bridge in _links([]) and not _is_ovs_port(osvif):
        privsep.ip(["link", "set", p.tap, "master", bridge], [])


def unplug(instance: Any, vifs: Iterable[Any]) -> None:
    """Takes the ports out. Those that are not in are fine."""
    for vif in vifs:
        os_vif.unplug(_os_vif(vif), os_vif_util.nova_to_osvif_instance(instance))
        _remove(port(vif).tap)


def _remove(tap: str) -> None:
    _delete(["link", "delete", tap], lambda: tap in _links([]))


def _delete(command: list[str], exists: Callable[[], bool]) -> None:
    """Deletes what exists. Who else does so, as a delete during a rebuild, may be first."""
    if not exists():
        return
    try:
        privsep.ip(command, [])
    except RuntimeError:
        if exists():
            raise


def _links(where: list[str]) -> dict[str, str | None]:
    """The addresses of interfaces by their names."""
    shown = json.loads(privsep.ip(["-json", *where, "link"], []))
    return {link["ifname"]: link.get("address") for link in shown}


def _os_vif(vif: Any) -> Any:
    # With Open vSwitch os-vif makes the port only if it is asked to: libvirt does for others.
    vif["delegate_create"] = True
    converted = os_vif_util.nova_to_osvif_vif(vif)
    if converted is None:
        raise exception.InternalError(f"port {vif['id']}: its type {vif['type']} cannot be plugged: use bridge or ovs")
    return converted


def _is_ovs_port(osvif: Any) -> bool:
    return bool(osvif.obj_name() == "VIFOpenVSwitch")
