"""Nova's own contract for drivers, and the list of what this one leaves out."""

import inspect
import json
import unittest
from pathlib import Path
from unittest import mock

from tests.novacase import Host, driver, nova  # isort: skip

from nova import exception, objects, test
from nova.tests.fixtures import glance
from nova.tests.unit import utils
from nova.tests.unit.virt.test_virt_drivers import _VirtDriverTestCase
from nova.virt.driver import ComputeDriver

# What Nova may ask for and gets NotImplementedError, with the reason.
NOT_IMPLEMENTED = {
    "Nova's own answer is right": """
        rebuild default_root_device_name default_device_names_for_instance get_device_name_for_instance
        soft_delete restore""",
    "a container has no screen": "get_vnc_console get_spice_console get_rdp_console get_mks_console",
    "a server stays on its host, with its flavor": """
        finish_migration confirm_migration finish_revert_migration
        live_migration live_migration_abort live_migration_force_complete
        pre_live_migration post_live_migration_at_source post_live_migration_at_destination
        check_can_live_migrate_source check_can_live_migrate_destination cleanup_live_migration_destination_check
        rollback_live_migration_at_destination get_instance_disk_info
        check_instance_shared_storage_local check_instance_shared_storage_remote""",
    "suspend never succeeds": "resume",
    "a machine has its disks from its start on": "swap_volume extend_volume",
    "of volumes not there yet": "volume_snapshot_create volume_snapshot_delete get_all_volume_usage block_stats",
    "a container has no such thing": """
        set_admin_password trigger_crash_dump quiesce unquiesce rescue unrescue power_update_event""",
    "figures are not there yet": "get_diagnostics get_instance_diagnostics get_host_cpu_stats",
    "the host is not the driver's": "host_power_action host_maintenance_mode set_host_enabled",
    "a reboot is over when its call is": "poll_rebooting_instances",
}

# A volume that is a file of the host, where a block device is wanted.
LOCAL = {"driver_volume_type": "local", "data": {"device_path": __file__}}

_plain_instance = utils.get_test_instance


def _instance(*args, **kwargs):
    """Nova's test instance, with what one from the database has besides."""
    instance = _plain_instance(*args, **kwargs)
    if isinstance(instance, objects.Instance):
        instance.metadata = {}
    return instance


class ContractTest(_VirtDriverTestCase, test.TestCase):
    REQUIRES_LOCKING = True

    def setUp(self):
        self.driver_module = "nova.virt.vmruntime.VMRuntimeDriver"
        self.host = Host(self)
        images = {**glance.GlanceFixture.image4, "container_format": "docker", "disk_format": "raw"}
        self.useFixture(nova.test.fixtures.MockPatchObject(glance.GlanceFixture, "image4", images))
        self.useFixture(nova.test.fixtures.MockPatch("nova.tests.unit.utils.get_test_instance", _instance))
        # Nova's test ports have too little for real metadata; the functional tests have it.
        data = mock.Mock(**{"metadata_for_config_drive.return_value": [("openstack/latest/meta_data.json", b"{}")]})
        metadata = mock.Mock(return_value=data)
        self.useFixture(nova.test.fixtures.MockPatchObject(driver.instance_metadata, "InstanceMetadata", metadata))
        super().setUp()
        self.connection.init_host("myhostname")
        self.addCleanup(self.connection.cleanup_host, "myhostname")

    def test_suspend(self):
        instance, _ = self._get_running_instance()
        error = self.assertRaises(exception.InstanceFaultRollback, self.connection.suspend, self.ctxt, instance)
        self.assertIsInstance(error.inner_exception, exception.InstanceSuspendFailure)

    test_resume_suspended_instance = test_suspend

    def test_migrate_disk_and_power_off(self):
        instance, network_info = self._get_running_instance()
        error = self.assertRaises(
            exception.InstanceFaultRollback,
            self.connection.migrate_disk_and_power_off,
            self.ctxt, instance, "dest", instance.flavor, network_info,
        )  # fmt: skip
        self.assertIsInstance(error.inner_exception, exception.ResizeError)

    def test_attach_detach_volume(self):
        """A running machine's disks stay as they are; what is refused says what to do."""
        instance, _ = self._get_running_instance()
        for change in (self.connection.attach_volume, self.connection.detach_volume):
            error = self.assertRaises(exception.InvalidVolume, change, self.ctxt, LOCAL, instance, "/dev/vdb")
            self.assertIn("stop the server", str(error))

    def test_attach_detach_different_power_states(self):
        instance, network_info = self._get_running_instance()
        self.connection.power_off(instance)
        self.connection.attach_volume(self.ctxt, LOCAL, instance, "/dev/vdb")
        volumes = {"block_device_mapping": [{"connection_info": LOCAL, "mount_device": "/dev/vdb"}]}
        self.assertRaises(exception.InvalidVolume, self.connection.power_on, self.ctxt, instance, network_info, volumes)
        with mock.patch.object(driver.volume, "block_device", return_value=(7, 3)):
            self.connection.power_on(self.ctxt, instance, network_info, volumes)
        config = json.loads((Path(driver.CONF.instances_path) / instance.uuid / "bundle/config.json").read_text())
        [device] = config["linux"]["devices"]
        self.assertEqual([device[k] for k in ("path", "type", "major", "minor")], ["/dev/vdb", "b", 7, 3])
        self.connection.power_off(instance)
        self.connection.detach_volume(self.ctxt, LOCAL, instance, "/dev/vdb")

    test_swap_volume = None

    def test_live_migration(self):
        self.assertRaises(
            NotImplementedError, self.connection.live_migration, self.ctxt, None, "dest", lambda: None, lambda: None
        )

    def test_live_migration_force_complete(self):
        self.assertRaises(NotImplementedError, self.connection.live_migration_force_complete, None)


class NotImplementedTest(unittest.TestCase):
    def test_what_is_left_out(self):
        """The contract passes over what raises NotImplementedError: here it is, all of it."""
        methods = inspect.getmembers(ComputeDriver, inspect.isfunction)
        raising = {name for name, method in methods if "raise NotImplementedError" in inspect.getsource(method)}
        left = {name for name in raising if name not in vars(driver.VMRuntimeDriver)}
        self.assertEqual(left, set(" ".join(NOT_IMPLEMENTED.values()).split()))
