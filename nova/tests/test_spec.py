import json
import unittest
from xml.etree import ElementTree

from vmruntime_nova import spec

CONFIG = {
    "ociVersion": "1.0.2",
    "process": {"args": ["/app"], "cwd": "/", "env": ["PATH=/bin", "A=1"], "terminal": True},
    "mounts": [
        {"destination": "/proc", "type": "proc"},
        {"destination": "/etc/hosts", "type": "bind", "source": "/old"},
    ],
    "linux": {
        "namespaces": [{"type": "pid"}, {"type": "network"}],
        "resources": {"devices": [{"allow": False, "access": "rwm"}], "memory": {"swap": 0}},
    },
}

MACHINE = spec.Machine(
    uuid="u",
    hostname="web",
    memory_mb=128,
    vcpus=2,
    netns="/run/netns/nova-u",
    cgroup="/vmruntime-nova/u",
    env={"A": "2", "B": "x=y"},
    annotations={"k": "v"},
    binds=[spec.Bind("/i/hosts", "/etc/hosts")],
    devices=[spec.Device("/dev/vdb", 8, 16)],
)


class ApplyTest(unittest.TestCase):
    def setUp(self):
        self.before = json.dumps(CONFIG)
        self.config = spec.apply(CONFIG, MACHINE)

    def test_the_image_has_its_command(self):
        self.assertEqual(self.config["process"]["args"], ["/app"])
        self.assertEqual(self.config["ociVersion"], "1.0.2")

    def test_environment_of_metadata_replaces_that_of_the_image(self):
        self.assertEqual(self.config["process"]["env"], ["PATH=/bin", "A=2", "B=x=y"])

    def test_the_flavor_limits_memory_and_cpu(self):
        resources = self.config["linux"]["resources"]
        self.assertEqual(resources["memory"], {"swap": 0, "limit": 128 * 1024 * 1024})
        self.assertEqual(resources["cpu"], {"quota": 200000, "period": 100000})

    def test_the_network_namespace_is_joined_by_path(self):
        self.assertEqual(
            self.config["linux"]["namespaces"], [{"type": "pid"}, {"type": "network", "path": "/run/netns/nova-u"}]
        )

    def test_binds_are_read_only_and_take_the_place_of_others(self):
        self.assertEqual([m["destination"] for m in self.config["mounts"]], ["/proc", "/etc/hosts"])
        self.assertEqual(self.config["mounts"][1]["source"], "/i/hosts")
        self.assertIn("ro", self.config["mounts"][1]["options"])

    def test_a_device_is_there_and_allowed(self):
        self.assertEqual(self.config["linux"]["devices"][0]["path"], "/dev/vdb")
        rules = self.config["linux"]["resources"]["devices"]
        self.assertEqual(rules[1], {"allow": True, "type": "b", "major": 8, "minor": 16, "access": "rwm"})

    def test_there_is_no_terminal(self):
        self.assertFalse(self.config["process"]["terminal"])

    def test_applying_it_twice_is_applying_it_once(self):
        self.assertEqual(spec.apply(self.config, MACHINE), self.config)

    def test_a_device_that_is_gone_is_allowed_no_more(self):
        gone = spec.apply(self.config, spec.Machine("u", "web", 128, 2, "/n", "/c"))
        self.assertEqual(gone["linux"]["devices"], [])
        self.assertEqual(gone["linux"]["resources"]["devices"], [{"allow": False, "access": "rwm"}])

    def test_the_original_is_untouched(self):
        self.assertEqual(json.dumps(CONFIG), self.before)


class AnnotationsTest(unittest.TestCase):
    def test_the_metadata_element_is_novas_whatever_the_name_is(self):
        identity = spec.Identity("u", '<&"', "p", "demo", "a", "alice", "m1.tiny", 128, 1, 2, "i")
        annotations = spec.annotations(identity)
        self.assertEqual(annotations["org.openstack.nova.uuid"], "u")
        root = ElementTree.fromstring(annotations["org.vmruntime.libvirt.metadata"])
        namespace = {"nova": spec.NOVA_XMLNS}
        self.assertEqual(root.tag, "{%s}instance" % spec.NOVA_XMLNS)
        self.assertEqual(root.find("nova:name", namespace).text, '<&"')
        self.assertEqual(root.find("nova:flavor", namespace).get("name"), "m1.tiny")
        self.assertEqual(root.find("nova:flavor/nova:memory", namespace).text, "128")
        self.assertEqual(root.find("nova:owner/nova:project", namespace).get("uuid"), "p")
        self.assertEqual(root.find("nova:uuid", namespace).text, "u")


class StopSignalTest(unittest.TestCase):
    def test_the_images_or_sigterm(self):
        annotated = {"annotations": {"org.opencontainers.image.stopSignal": "SIGQUIT"}}
        for config, want in ((annotated, "SIGQUIT"), ({}, "SIGTERM"), ({"annotations": {}}, "SIGTERM")):
            with self.subTest(config=config):
                self.assertEqual(spec.stop_signal(config), want)
