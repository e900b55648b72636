"""What a port becomes, as lines for ip."""

import tests.novacase  # noqa: F401, I001

import tempfile
import unittest
from pathlib import Path
from unittest import mock

from nova.network import model

from vmruntime_nova import network


def vif(**more):
    subnets = [
        model.Subnet(
            cidr="10.0.0.0/24",
            gateway=model.IP("10.0.0.1"),
            ips=[model.FixedIP(address="10.0.0.7")],
            routes=[model.Route(cidr="10.9.0.0/16", gateway=model.IP("10.0.0.2"))],
        ),
        model.Subnet(cidr="2001:db8::/64", gateway=model.IP("2001:db8::1"), ips=[model.FixedIP(address="2001:db8::7")]),
    ]
    net = model.Network(id="n", bridge="brqn", subnets=subnets, mtu=1450)
    port = "51a9642b-1414-4bd6-9a92-1320ddc55a63"
    return model.VIF(id=port, address="fa:16:3e:00:00:01", network=net, type="bridge", **more)


class PortTest(unittest.TestCase):
    def test_the_end_outside(self):
        self.assertEqual(
            network.outside(network.port(vif()), "nova-u", "eth0"),
            [
                "link add tap51a9642b-14 mtu 1450 type veth peer name eth0 address fa:16:3e:00:00:01 netns nova-u",
                "link set tap51a9642b-14 up",
            ],
        )

    def test_the_end_inside(self):
        self.assertEqual(
            network.inside(network.port(vif()), "eth0"),
            [
                "link set lo up",
                "link set eth0 mtu 1450 up",
                "addr replace 10.0.0.7/24 dev eth0",
                "addr replace 2001:db8::7/64 dev eth0 nodad",
                "route replace 0.0.0.0/0 via 10.0.0.1 dev eth0",
                "route replace 10.9.0.0/16 via 10.0.0.2 dev eth0",
                "route replace ::/0 via 2001:db8::1 dev eth0",
            ],
        )

    def test_neutrons_name_of_the_tap_counts(self):
        self.assertEqual(network.port(vif(devname="tapother")).tap, "tapother")

    def test_a_port_without_addresses(self):
        port = vif()
        port["network"]["subnets"] = []
        self.assertEqual(network.inside(network.port(port), "eth1"), ["link set lo up", "link set eth1 mtu 1450 up"])


class RemoveNamespaceTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.enter(mock.patch.object(network, "NETNS_DIRECTORY", Path(directory.name)))
        self.ip = self.enter(mock.patch.object(network.privsep, "ip"))
        self.file = Path(network.path("u"))
        self.file.touch()

    def enter(self, patch):
        self.addCleanup(patch.stop)
        return patch.start()

    def test_somebody_else_is_first(self):
        def fails(args, lines):
            self.file.unlink()
            raise RuntimeError("ip netns delete nova-u: No such file or directory")

        self.ip.side_effect = fails
        network.remove_namespace("u")
        self.ip.assert_called_once()

    def test_it_cannot_be_removed(self):
        self.ip.side_effect = RuntimeError("ip netns delete nova-u: Device or resource busy")
        with self.assertRaisesRegex(RuntimeError, "busy"):
            network.remove_namespace("u")

    def test_there_is_none(self):
        self.file.unlink()
        network.remove_namespace("u")
        self.ip.assert_not_called()
