"""What Nova knows goes into the config.json that vmruntime made from the image. Pure functions on plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

Config = dict[str, Any]

# What cpu.quota is out of, in microseconds.
CPU_PERIOD = 100_000

NOVA_XMLNS = "http://openstack.org/xmlns/libvirt/nova/1.1"


@dataclass(frozen=True)
class Bind:
    """A file or directory of the host that the container sees, read-only: it does not count in its disk's size."""

    source: str
    destination: str


@dataclass(frozen=True)
class Device:
    """A block device of the host: path is where the container has it."""

    path: str
    major: int
    minor: int


@dataclass(frozen=True)
class Machine:
    """What Nova decides about an instance."""

    uuid: str
    hostname: str
    memory_mb: int
    vcpus: int
    netns: str
    cgroup: str
    env: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    binds: Sequence[Bind] = ()
    devices: Sequence[Device] = ()


def apply(config: Config, machine: Machine) -> Config:
    """A new config.json. Applying it again, to its own result as well, comes to the same."""
    linux = config.get("linux", {})
    return config | {
        "hostname": machine.hostname,
        "process": config["process"] | {"terminal": False, "env": _env(config["process"].get("env", []), machine.env)},
        "mounts": _mounts(config.get("mounts", []), machine.binds),
        "annotations": config.get("annotations", {}) | dict(machine.annotations),
        "linux": linux
        | {
            "cgroupsPath": machine.cgroup,
            "namespaces": _namespaces(linux.get("namespaces", []), machine.netns),
            "resources": _resources(linux.get("resources", {}), machine),
            "devices": _devices(linux.get("devices", []), machine.devices),
        },
    }


def _env(env: Sequence[str], more: Mapping[str, str]) -> list[str]:
    """A variable that is there already gets the new value."""
    kept = [e for e in env if e.partition("=")[0] not in more]
    return kept + [f"{name}={value}" for name, value in more.items()]


def _mounts(mounts: Sequence[Config], binds: Sequence[Bind]) -> list[Config]:
    taken = {b.destination for b in binds}
    return [m for m in mounts if m["destination"] not in taken] + [
        {"destination": b.destination, "type": "bind", "source": b.source, "options": ["rbind", "ro", "rprivate"]}
        for b in binds
    ]


def _namespaces(namespaces: Sequence[Config], netns: str) -> list[Config]:
    others = [n for n in namespaces if n["type"] != "network"]
    return [*others, {"type": "network", "path": netns}]


def _resources(resources: Config, machine: Machine) -> Config:
    rules = [r for r in resources.get("devices", []) if r.get("type") != "b" or not r.get("allow")]
    rules += [
        {"allow": True, "type": "b", "major": d.major, "minor": d.minor, "access": "rwm"} for d in machine.devices
    ]
    return resources | {
        "memory": resources.get("memory", {}) | {"limit": machine.memory_mb * 1024 * 1024},
        "cpu": resources.get("cpu", {}) | {"quota": machine.vcpus * CPU_PERIOD, "period": CPU_PERIOD},
        "devices": rules,
    }


def _devices(devices: Sequence[Config], disks: Sequence[Device]) -> list[Config]:
    others = [d for d in devices if d["type"] != "b"]
    return others + [
        {"path": d.path, "type": "b", "major": d.major, "minor": d.minor, "fileMode": 0o660, "uid": 0, "gid": 0}
        for d in disks
    ]


@dataclass(frozen=True)
class Identity:
    """Whose machine it is, for those who look at it through libvirt."""

    uuid: str
    name: str
    project_id: str
    project_name: str
    user_id: str
    user_name: str
    flavor: str
    memory_mb: int
    vcpus: int
    root_gb: int
    image: str


def annotations(identity: Identity) -> dict[str, str]:
    """The annotations of an instance; the last is what libvirt's own driver of Nova writes to a domain's metadata."""
    prefix = "org.openstack.nova."
    return {
        prefix + "uuid": identity.uuid,
        prefix + "name": identity.name,
        prefix + "project": identity.project_id,
        prefix + "flavor": identity.flavor,
        "org.vmruntime.libvirt.metadata": _metadata_element(identity),
    }


def _metadata_element(identity: Identity) -> str:
    """<nova:instance>, as in Nova's virt/libvirt/config.py, LibvirtConfigGuestMetaNovaInstance."""

    def tag(name: str) -> str:
        return f"{{{NOVA_XMLNS}}}{name}"

    ElementTree.register_namespace("nova", NOVA_XMLNS)
    root = ElementTree.Element(tag("instance"))
    ElementTree.SubElement(root, tag("name")).text = identity.name
    flavor = ElementTree.SubElement(root, tag("flavor"), name=identity.flavor)
    for name, value in (("memory", identity.memory_mb), ("disk", identity.root_gb), ("vcpus", identity.vcpus)):
        ElementTree.SubElement(flavor, tag(name)).text = str(value)
    owner = ElementTree.SubElement(root, tag("owner"))
    ElementTree.SubElement(owner, tag("user"), uuid=identity.user_id).text = identity.user_name
    ElementTree.SubElement(owner, tag("project"), uuid=identity.project_id).text = identity.project_name
    if identity.image:
        ElementTree.SubElement(root, tag("root"), type="image", uuid=identity.image)
    ElementTree.SubElement(root, tag("uuid")).text = identity.uuid
    return ElementTree.tostring(root, encoding="unicode")


def stop_signal(config: Config) -> str:
    """What asks the container's process to end: the image's StopSignal."""
    signal: str = config.get("annotations", {}).get("org.opencontainers.image.stopSignal", "")
    return signal or "SIGTERM"
