"""Servers with real machines, on the OpenStack of hack/openstack.sh: what a user sees, and what the host has then."""

import subprocess
from pathlib import Path

from tests.live_case import DIRECTORY, PATIENCE, LiveCase, inventory, tree
from tests.live_cinder import Cinder
from tests.live_images import app_layer, base_layer, hostile_images, saved
from tests.live_websocket import WebSocket

# Seconds. The issue's own figure.
ACTIVE_WITHIN = 30


class Servers(LiveCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.base = base_layer()
        cls.app = saved([cls.base, app_layer()])

    def test_create(self):
        """Output on the console, metadata for libvirt, layers transferred once, the second server in time."""
        image = self.upload(self.app)
        first = self.create(image, metadata={"env.GREETING": "hello from Nova"})
        log = self.says(first, "app-v2")
        self.assertIn("hello 3", log)
        self.assertIn("/etc/doomed: No such file", log)
        self.assertIn("GREETING=hello from Nova", self.inside(first, "env"))
        self.assertEqual(self.inside(first, "hostname").strip(), first.hostname)
        self.assertIn(f"<nova:uuid>{first.id}</nova:uuid>", self.domain(first))

        second, seconds = self.timed(self.create, image)
        self.figure("seconds to ACTIVE, image cached", f"{seconds:.1f}")
        self.assertLess(seconds, ACTIVE_WITHIN)
        transferred, size = self.transferred(image)
        self.figure("bytes of the image's first server", f"{transferred} of {size}")

        # The same content under another id: its layers are there.
        again = self.upload(self.app)
        self.create(again)
        transferred, size = self.transferred(again)
        self.figure("bytes of an image whose layers are there", f"{transferred} of {size}")
        self.assertLess(transferred, 64 << 10)

        blob = 200_000
        other = self.upload(saved([self.base, app_layer(blob)]))
        self.create(other)
        transferred, size = self.transferred(other)
        self.figure(f"bytes of a new image on the same base, its own layer {blob}", f"{transferred} of {size}")
        self.assertLess(transferred, blob + (64 << 10))
        self.assertGreater(size, 4 * transferred)

    def test_network(self):
        """Ping and TCP between two servers over a network of Neutron's, and a port that comes and goes."""
        image = self.upload(saved([self.base], ["while :; do echo over-tcp | nc -l -p 80; done"]))
        one, other = (self.create(image, networks=[{"uuid": self.network.id}]) for _ in range(2))
        [address] = [a["addr"] for a in one.addresses["net"]]
        self.assertIn(" 0% packet loss", self.inside(other, "ping", "-c", "3", "-w", "30", address))
        self.assertEqual(self.inside(other, "nc", "-w", "10", address, "80").strip(), "over-tcp")

        port = self.cloud.network.create_port(network_id=self.network.id)
        self.addCleanup(self.cloud.network.delete_port, port.id, ignore_missing=True)
        self.cloud.compute.create_server_interface(other, port_id=port.id)
        new = port.fixed_ips[0]["ip_address"]
        self.eventually(lambda: new in self.inside(other, "ip", "addr"), "the new address in the guest")
        self.assertIn(" 0% packet loss", self.inside(one, "ping", "-c", "1", "-w", "30", new))
        self.cloud.compute.delete_server_interface(port.id, server=other)
        self.eventually(lambda: new not in self.inside(other, "ip", "addr"), "the address is gone from the guest")

    def test_power(self):
        """Stop and start, reboots, pause: what it has written stays."""
        server = self.create(self.upload(self.app))
        compute = self.cloud.compute
        self.says(server, "app-v2")
        self.inside(server, "sh", "-c", "echo still here >/kept")
        boot = self.boot_id(server)

        compute.pause_server(server)
        self.reaches(server, "PAUSED")
        self.assertEqual(self.state(server), "paused")
        compute.unpause_server(server)
        self.reaches(server, "ACTIVE")
        self.assertEqual(self.boot_id(server), boot)

        compute.stop_server(server)
        self.reaches(server, "SHUTOFF")
        self.assertIn("ending", self.console(server))
        self.assertIsNone(self.state(server))
        compute.start_server(server)
        self.reaches(server, "ACTIVE")
        self.says(server, "still here")
        for kind in ("SOFT", "HARD"):
            before = self.boot_id(server)
            compute.reboot_server(server, kind)
            self.eventually(lambda b=before: self.boot_id(server, check=False) not in ("", b), f"{kind} reboot")
            self.reaches(server, "ACTIVE")
            self.assertEqual(self.inside(server, "cat", "/kept"), "still here\n")

        compute.suspend_server(server)
        self.eventually(lambda: "Error" in self.outcomes(server, "suspend"), "the refusal to suspend")
        self.reaches(server, "ACTIVE")

    def test_ends_by_itself(self):
        server = self.create(self.upload(saved([self.base], ["echo done; sleep 3"])))
        self.says(server, "done")
        _, seconds = self.timed(self.reaches, server, "SHUTOFF")
        self.figure("seconds until a server that ends after 3 s is SHUTOFF", f"{seconds:.1f}")

    def test_images_of_servers(self):
        """Snapshot, a server of it, rebuild, shelve and unshelve."""
        image = self.upload(self.app)
        compute = self.cloud.compute
        server = self.create(image)
        self.says(server, "app-v2")
        self.inside(server, "sh", "-c", "echo in the snapshot >/kept; rm /app/blob")
        snapshot = self.snapshot(server)
        copy = self.create(snapshot)
        self.says(copy, "in the snapshot")
        self.assertEqual(self.inside(copy, "ls", "/app"), "hello\n")
        transferred, size = self.transferred(snapshot)
        self.figure("bytes of a snapshot's first server", f"{transferred} of {size}")
        self.assertLess(transferred, 64 << 10)

        compute.rebuild_server(copy, image.id)
        self.eventually(lambda: "Success" in self.outcomes(copy, "rebuild"), "rebuild", PATIENCE)
        self.reaches(copy, "ACTIVE")
        self.assertEqual(self.inside(copy, "ls", "/app"), "blob\nhello\n")

        compute.shelve_server(server)
        self.reaches(server, "SHELVED_OFFLOADED")
        self.assertIsNone(self.state(server))
        self.assertNotIn(server.id, inventory()["instances"])
        compute.unshelve_server(server)
        self.reaches(server, "ACTIVE")
        self.says(server, "in the snapshot")

    def snapshot(self, server):
        image = self.cloud.compute.create_server_image(server, "snapshot")
        self.addCleanup(self.cloud.image.delete_image, image.id, ignore_missing=True)
        self.eventually(lambda: self.cloud.image.get_image(image.id).status == "active", "the snapshot", PATIENCE)
        self.reaches(server, "ACTIVE")
        return self.cloud.image.get_image(image.id)

    def test_volume(self):
        """A volume is a disk of a server that was stopped when it came, and no change of a running one."""
        cinder = Cinder()
        self.addCleanup(cinder.close)
        volume = cinder.volume(self.loop_device("on the volume"))
        server = self.create(self.upload(self.app))
        attachments = f"/servers/{server.id}/os-volume_attachments"
        body = {"volumeAttachment": {"volumeId": volume}}
        self.cloud.compute.post(attachments, json=body)
        self.eventually(lambda: "Error" in self.outcomes(server, "attach_volume"), "the refusal", PATIENCE)
        self.eventually(lambda: not cinder.attachments, "the attachment's end", PATIENCE)

        self.stop(server)
        self.cloud.compute.post(attachments, json=body)
        self.eventually(lambda: "Success" in self.outcomes(server, "attach_volume"), "the attachment", PATIENCE)
        self.start(server)
        [attached] = self.cloud.compute.get(attachments).json()["volumeAttachments"]
        device = attached["device"]
        self.assertEqual(self.inside(server, "dd", f"if={device}", "bs=13", "count=1"), "on the volume")
        self.inside(server, "sh", "-c", f"echo from inside | dd of={device} && sync")

        self.stop(server)
        self.cloud.compute.delete(f"{attachments}/{volume}")
        self.eventually(lambda: not cinder.attachments, "the attachment's end", PATIENCE)
        self.assertEqual(Path(cinder.volumes[volume]).open("rb").readline(), b"from inside\n")
        self.start(server)
        self.assertNotEqual(self.runtime("exec", server.id, "ls", device).returncode, 0)

    def stop(self, server):
        self.cloud.compute.stop_server(server)
        self.reaches(server, "SHUTOFF")

    def start(self, server):
        self.cloud.compute.start_server(server)
        self.reaches(server, "ACTIVE")

    def loop_device(self, text):
        file = DIRECTORY / "volume"
        file.write_bytes(text.encode().ljust(1 << 20, b"\0"))
        self.addCleanup(file.unlink)
        device = subprocess.check_output(["losetup", "--find", "--show", file], text=True).strip()
        self.addCleanup(subprocess.check_call, ["losetup", "--detach", device])
        return device

    def test_serial_console(self):
        """openstack console url show --serial, and what nova-serialproxy has behind the URL."""
        server = self.create(self.upload(self.app))
        body = {"remote_console": {"protocol": "serial", "type": "serial"}}
        shown = self.cloud.compute.post(f"/servers/{server.id}/remote-consoles", json=body).json()
        with WebSocket(shown["remote_console"]["url"]) as console:
            console.write(b"echo $((6 * 7)) at $(hostname)\n")
            console.read_until(f"42 at {server.hostname}".encode())

    def test_hostile_images(self):
        """Each fails its server, with a reason that can be read, and changes nothing outside of the store."""
        outside = DIRECTORY / "outside"
        outside.mkdir(exist_ok=True)
        (outside / "canary").write_text("alive")
        places = [outside, Path("/etc"), DIRECTORY / "etc", DIRECTORY / "data/glance"]
        hostile = hostile_images(self.base, outside)
        images = {name: (self.upload(content), reason) for name, (content, reason) in hostile.items()}
        before = [tree(p) for p in places]
        for name, (image, reason) in images.items():
            with self.subTest(name):
                server = self.reaches(self.create(image, wait=None), "ERROR")
                fault = self.fault(server)
                self.figure(f"fault of {name}", fault)
                self.assertRegex(fault, reason)
        self.assertEqual([tree(p) for p in places], before)
