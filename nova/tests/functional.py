"""Nova's API, scheduler, conductor and compute in this process, with the driver: a server from its user's side."""

from tests.novacase import CONF, Host, driver, nova  # isort: skip

import json
import os
import socket
import unittest
from pathlib import Path
from unittest import mock

from nova.tests.functional import integrated_helpers

API_PASTE = "/usr/share/nova-common/api-paste.ini"

# Of Nova's own waits, which count halves of a second.
RETRIES = 600


@unittest.skipUnless(os.path.exists(API_PASTE), f"no {API_PASTE}: run hack/nova.sh setup")  # noqa: PTH110
class FunctionalTest(integrated_helpers.ProviderUsageBaseTestCase):
    compute_driver = "vmruntime.VMRuntimeDriver"

    def setUp(self):
        self.flags(api_paste_config=API_PASTE, group="wsgi")
        self.flags(instances_path=self.useFixture(nova.test.fixtures.TempDir()).path)
        self.useFixture(nova.test.fixtures.MockPatchObject(driver.fields.Architecture, "from_host", lambda: "x86_64"))
        # Of the directory that instances are in.
        figures = driver.host.Resources(4, 8192, 8192, 1000, 1000)
        self.useFixture(nova.test.fixtures.MockPatchObject(driver.host, "resources", lambda _: figures))
        self.host = Host(self)
        super().setUp()
        self.flags(api_servers=["http://glance"], group="glance")
        self.image = self.image_of("docker")
        self.compute = self._start_compute("host1")
        self.driver = self.compute.manager.driver
        self.addCleanup(self.driver.cleanup_host, "host1")

    def image_of(self, container_format, **properties):
        meta = {"name": "app", "container_format": container_format, "disk_format": "raw", "status": "active"}
        defaults = {"min_ram": 0, "min_disk": 0, "size": 1, "properties": properties}
        return self.glance.create(None, {**meta, **defaults})["id"]

    def _wait_for_server_parameter(self, server, expected_params, max_retries=RETRIES, **more):
        return super()._wait_for_server_parameter(server, expected_params, RETRIES, **more)

    def create(self, state="ACTIVE", image=None, **more):
        body = self._build_server(image_uuid=image or self.image, networks="auto")
        server = self.api.post_server({"server": {**body, **more}})
        return self._wait_for_state_change(server, state)

    def act(self, server, action, state, body=None):
        self.api.post_server_action(server["id"], {action: body})
        return self._wait_for_server_parameter(server, {"status": state, "OS-EXT-STS:task_state": None})

    def config(self, server):
        return json.loads((Path(CONF.instances_path) / server["id"] / "bundle/config.json").read_text())

    def test_a_life(self):
        server = self.create(metadata={"env.GREETING": "hello"}, user_data="ZGF0YQ==")
        config = self.config(server)
        self.assertIn("GREETING=hello", config["process"]["env"])
        self.assertEqual(config["linux"]["resources"]["memory"]["limit"], server["flavor"]["ram"] << 20)
        self.assertIn(server["id"], config["annotations"]["org.vmruntime.libvirt.metadata"])
        drive = Path(CONF.instances_path) / server["id"] / "config_drive/openstack/latest"
        self.assertEqual(json.loads((drive / "meta_data.json").read_text())["uuid"], server["id"])
        self.assertEqual((drive / "user_data").read_text(), "data")

        for action, state, body in (
            ("os-stop", "SHUTOFF", None),
            ("os-start", "ACTIVE", None),
            ("pause", "PAUSED", None),
            ("unpause", "ACTIVE", None),
            ("reboot", "ACTIVE", {"type": "SOFT"}),
            ("reboot", "ACTIVE", {"type": "HARD"}),
        ):
            self.act(server, action, state, body)
        self._delete_server(server)
        self.assertEqual(self.host.leftovers(), [])

    def test_stop_asks_with_the_images_signal(self):
        server = self.create()
        self.act(server, "os-stop", "SHUTOFF")
        self.assertEqual(self.host.calls("kill"), [["kill", server["id"], "SIGQUIT"]])

    def test_the_image_is_fetched_once_and_by_its_id(self):
        self.create()
        self.create()
        pulls = self.host.calls("image pull")
        self.assertEqual([p[-1] for p in pulls], [f"http://glance/v2/images/{self.image}/file"])
        self.assertEqual(pulls[0][pulls[0].index("--name") + 1], "glance-" + self.image)

    def test_a_command_of_the_image_property(self):
        self.create(image=self.image_of("docker", os_command_line="sh -c 'exit 1'"))
        [bundle] = self.host.calls("image bundle")
        self.assertEqual(bundle[bundle.index("--") + 1 :], ["sh", "-c", "exit 1"])

    def test_no_container_image(self):
        server = self.create("ERROR", image=self.image_of("bare"))
        self.assertIn("container_format bare", server["fault"]["message"])
        self._delete_server(server)
        self.assertEqual(self.host.leftovers(), [])

    def test_what_the_runtime_refuses_is_told_and_leaves_nothing(self):
        for command in ("image-pull", "image-bundle", "create", "start"):
            self.host.fail(command, "no such program")
            server = self.create("ERROR")
            self.assertIn("no such program", server["fault"]["message"])
            self.assertEqual(self.host.leftovers(), [], command)
            (self.host.root / f"{command}.fail").unlink()

    def test_a_fault_has_its_cause_where_nova_cuts_it(self):
        digest = "5597d26d7403efac3863460" + "0" * 41
        url = f"http://glance/v2/images/{self.image}/file"
        self.host.fail("image-pull", f"image glance-{self.image} from {url}: layer sha256:{digest}: no such luck")
        server = self.create("ERROR")
        self.assertIn("aborted: image pull: layer sha256:5597d26d7403: no such luck", server["fault"]["message"])
        self.host.fail("image-pull", "x" * 300 + ": no such luck")
        self.assertTrue(self.create("ERROR")["fault"]["message"].endswith("xxx: no such luck"))

    def test_one_that_ends_by_itself(self):
        server = self.create()
        state = self.host.root / "fake.json"
        self.driver._look(self.watcher)
        state.write_text(state.read_text().replace("running", "stopped"))
        self.driver._look(self.watcher)
        self._wait_for_state_change(server, "SHUTOFF")
        self.act(server, "os-start", "ACTIVE")

    @property
    def watcher(self):
        self.__dict__.setdefault("_watcher", driver.Watcher())
        return self._watcher

    def test_suspend_leaves_it_as_it_is(self):
        server = self.create()
        self.act(server, "suspend", "ACTIVE")
        self.assertEqual(self.driver.get_info(mock.Mock(uuid=server["id"])).state, driver.power_state.RUNNING)
        actions = self.api.get_instance_actions(server["id"])
        self.assertIn("Error", [a["message"] for a in actions if a["action"] == "suspend"])

    def test_a_snapshot_is_uploaded_and_taken_while_it_stands_still(self):
        server = self.create()
        uploaded = {}
        real = self.driver._images.update

        def update(context, image, formats, data, **more):
            uploaded[image] = (formats["container_format"], data.read())
            return real(context, image, formats, **more)

        self.driver._images.update = update
        self.api.post_server_action(server["id"], {"createImage": {"name": "snap"}})
        self._wait_for_server_parameter(server, {"OS-EXT-STS:task_state": None})
        self.assertEqual(list(uploaded.values()), [("docker", b"layers")])
        calls = [c[0] for c in self.host.calls("pause", "resume", "image commit")]
        self.assertEqual(calls, ["pause", "image", "resume"])

    def test_console_log(self):
        server = self.create()
        output = self.api.api_post(f"/servers/{server['id']}/action", {"os-getConsoleOutput": {}}).body["output"]
        self.assertEqual(output, "")

    def test_a_serial_console_is_a_command_of_the_runtime(self):
        self.flags(enabled=True, group="serial_console")
        server = self.create()
        body = {"remote_console": {"protocol": "serial", "type": "serial"}}
        shown = self.api.api_post(f"/servers/{server['id']}/remote-consoles", body).body["remote_console"]
        self.assertIn("token=", shown["url"])
        port = self.driver.get_serial_console(None, mock.Mock(uuid=server["id"])).port
        self.assertEqual(port, self.driver.get_serial_console(None, mock.Mock(uuid=server["id"])).port)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            # The stand-in knows no such command, and says so at its terminal.
            while client.recv(4096):
                pass
        self.assertEqual(self.host.calls("exec"), [["exec", "--tty", server["id"], "/bin/sh"]])
        self._delete_server(server)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port))

    def test_the_host_has_the_trait_and_its_inventory(self):
        provider = self._get_provider_uuid_by_host("host1")
        self.assertIn(driver.TRAIT, self._get_provider_traits(provider))
        totals = {name: i["total"] for name, i in self._get_provider_inventory(provider).items()}
        self.assertEqual(totals, {"VCPU": 4, "MEMORY_MB": 8192, "DISK_GB": 1000})

    def test_a_host_that_has_booted_starts_what_ran(self):
        server = self.create()
        (self.host.root / "fake.json").write_text('[{}, {"glance-%s": ""}]' % self.image)
        self.flags(resume_guests_state_on_host_boot=True)
        self.restart_compute_service(self.compute)
        self.assertEqual(list(self.driver._runtime.statuses().items()), [(server["id"], "running")])

    def test_images_that_nothing_has_been_made_of_for_a_while_are_forgotten(self):
        other = self.image_of("docker")
        self.create()
        self.driver.cache_image(mock.Mock(auth_token="t"), other)
        # Nobody can have used yet what was fetched ahead.
        self.driver.manage_image_cache(None, [])
        self.assertEqual(self.host.calls("image remove"), [])
        self.flags(remove_unused_original_minimum_age_seconds=0, group="image_cache")
        self.driver.manage_image_cache(None, [])
        self.assertEqual(self.host.calls("image remove"), [["image", "remove", "glance-" + other]])
