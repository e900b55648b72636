"""What tests with Nova share. Importing it without Nova skips the importing module."""

import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

try:
    # Decides how threads are made, before anything else.
    import nova.monkey_patch  # noqa: F401
    import nova.tests.unit.virt.test_virt_drivers
except ImportError as e:
    raise unittest.SkipTest(f"Nova's tests cannot be imported ({e}): run hack/nova.sh setup") from e

import nova.conf

from vmruntime_nova import conf, driver, launcher, network, privsep

CONF = nova.conf.CONF
FAKE = Path(__file__).parent / "fake_vmruntime.py"

launcher.register()
conf.register(CONF)


class Host:
    """The fake runtime, with what it was called with, and no network: lines for ip are kept instead."""

    def __init__(self, test):
        temporary = tempfile.TemporaryDirectory()
        test.addCleanup(temporary.cleanup)
        self.path = Path(temporary.name)
        self.root = self.path / "root"
        self.ip = []
        self.namespaces = set()
        test.flags(runtime=str(FAKE), root=str(self.root), poll_interval=3600, group="vmruntime")
        test.flags(api_servers=["http://glance"], group="glance")
        test.flags(vif_plugging_timeout=0)
        for where, name, what in (
            (privsep.context, "client_mode", False),
            (privsep, "ip", self._ip),
            (network, "NETNS_DIRECTORY", self.path / "netns"),
            (network.os_vif, "plug", mock.Mock()),
            (network.os_vif, "unplug", mock.Mock()),
        ):
            patcher = mock.patch.object(where, name, what)
            patcher.start()
            test.addCleanup(patcher.stop)

    def _ip(self, args, lines):
        self.ip.append((args, lines))
        netns = self.path / "netns"
        if args[:2] == ["netns", "add"]:
            netns.mkdir(exist_ok=True)
            (netns / args[2]).touch()
        if args[:2] == ["netns", "delete"]:
            (netns / args[2]).unlink()
        return '[{"ifname": "lo", "address": "00:00:00:00:00:00"}]'

    def calls(self, *commands):
        """What the runtime was called with, the commands that only look aside."""
        lines = map(json.loads, (self.root / "calls.log").read_text().splitlines())
        calls = [c for c in lines if c[0] not in ("state", "list") and c[:2] != ["image", "list"]]
        return [c for c in calls if not commands or " ".join(c[:2]) in commands or c[0] in commands]

    def fail(self, command, sentence):
        """From now on the command fails."""
        (self.root / f"{command}.fail").write_text(sentence)

    def leftovers(self):
        """What is there that an instance needs."""
        found = list((self.path / "netns").glob("*")) + list(Path(CONF.instances_path).glob("*"))
        state = self.root / "fake.json"
        containers = json.loads(state.read_text())[0] if state.exists() else {}
        return [p.name for p in found] + list(containers)


__all__ = ["CONF", "FAKE", "Host", "driver", "nova"]
