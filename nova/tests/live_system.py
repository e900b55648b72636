"""A server whose machine is libvirtd's: libvirt_uri = "qemu:///system"."""

import subprocess
from xml.etree import ElementTree

from tests.live_case import CHECKOUT, DIRECTORY, LiveCase
from tests.live_images import app_layer, base_layer, saved

LIBVIRTD = CHECKOUT / "hack/libvirtd.sh"
URI = "qemu:///system"
NOVA = "{http://openstack.org/xmlns/libvirt/nova/1.1}"


class System(LiveCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        subprocess.run([LIBVIRTD, "start"], check=True, stdin=subprocess.DEVNULL)
        cls.addClassCleanup(subprocess.run, [LIBVIRTD, "stop"], check=True, stdin=subprocess.DEVNULL)
        # Each command of the runtime reads it.
        config = DIRECTORY / "etc/vmruntime.toml"
        before = config.read_text()
        cls.addClassCleanup(config.write_text, before)
        config.write_text(f'libvirt_uri = "{URI}"\n{before}')

    def test_server(self):
        """virsh has the running machine with Nova's metadata, and none when the server is deleted."""
        server, seconds = self.timed(self.create, self.upload(saved([base_layer(), app_layer()])))
        self.figure(f"seconds to ACTIVE with {URI}, image not cached", f"{seconds:.1f}")
        self.says(server, "app-v2")
        name = f"vmruntime-{server.id}"
        self.assertIn(name, virsh("list", "--name").split())
        instance = ElementTree.fromstring(virsh("dumpxml", name)).find(f"metadata/{NOVA}instance")
        self.assertEqual(instance.findtext(f"{NOVA}uuid"), server.id)
        self.assertEqual(instance.findtext(f"{NOVA}name"), server.name)
        self.delete_all()
        self.eventually(lambda: not virsh("list", "--all", "--name").split(), "end of the machine")


def virsh(*args):
    return subprocess.check_output(["virsh", "-q", "-c", URI, *args], text=True, timeout=60, stdin=subprocess.DEVNULL)
