import tempfile
import unittest
from pathlib import Path

from vmruntime_nova import metadata


def vif(addresses, servers):
    subnet = {"ips": [{"address": a} for a in addresses], "dns": [{"address": s} for s in servers]}
    return {"network": {"subnets": [subnet]}}


class MetadataTest(unittest.TestCase):
    def test_environment(self):
        of = metadata.environment({"env.A": "1", "env.": "x", "other": "y", "env.B.C": "2"})
        self.assertEqual(of, {"A": "1", "B.C": "2"})

    def test_name_servers_of_all_ports_once(self):
        ports = [vif(["10.0.0.1"], ["9.9.9.9", "::1"]), vif(["10.0.1.1"], ["9.9.9.9"])]
        self.assertEqual(metadata.resolv_conf(ports), "nameserver 9.9.9.9\nnameserver ::1\n")
        self.assertEqual(metadata.resolv_conf([]), "")

    def test_hosts(self):
        self.assertIn("10.0.0.1 web\n", metadata.hosts("web", [vif(["10.0.0.1"], [])]))
        self.assertIn("127.0.1.1 web\n", metadata.hosts("web", []))

    def test_the_config_drive_is_a_directory_for_root(self):
        with tempfile.TemporaryDirectory() as directory:
            drive = Path(directory) / "config_drive"
            for _ in range(2):
                metadata.write_config_drive([("openstack/latest/meta_data.json", b"{}"), ("ec2/x", "y")], drive)
            file = drive / "openstack/latest/meta_data.json"
            self.assertEqual(file.read_bytes(), b"{}")
            self.assertEqual(file.stat().st_mode & 0o777, 0o600)
            self.assertEqual((drive / "ec2/x").read_text(), "y")
