"""The compute driver: what Nova asks for, in terms of the runtime, the store and the network."""

import re
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nova.conf
import os_resource_classes as orc
import os_vif
from nova import context as nova_context
from nova import exception
from nova.api.metadata import base as instance_metadata
from nova.compute import power_state, task_states
from nova.console import type as console_type
from nova.image import glance
from nova.objects import fields
from nova.virt import driver, event, hardware
from oslo_log import log as logging
from oslo_serialization import jsonutils
from oslo_utils import versionutils

from vmruntime_nova import conf, host, metadata, network, privsep, spec, store, volume
from vmruntime_nova.runtime import Result, Runtime, RuntimeFailed
from vmruntime_nova.watcher import Watcher

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

# Hosts have it; an image or flavor asks for it with trait:CUSTOM_VMRUNTIME=required.
TRAIT = "CUSTOM_VMRUNTIME"

POWER_STATES = {
    "running": power_state.RUNNING,
    "paused": power_state.PAUSED,
    "stopped": power_state.SHUTDOWN,
    "creating": power_state.NOSTATE,
    "created": power_state.NOSTATE,
}

# Seconds between two looks at a container that was asked to end.
END_POLL = 0.2


class VMRuntimeDriver(driver.ComputeDriver):
    """Instances are containers of vmruntime, their ids the instances' UUIDs."""

    capabilities = dict(
        driver.ComputeDriver.capabilities,
        has_imagecache=True,
        supports_attach_interface=True,
        supports_image_type_raw=True,
    )

    def __init__(self, virtapi: Any) -> None:
        super().__init__(virtapi)
        conf.register(CONF)
        options = CONF.vmruntime
        self._runtime = Runtime(options.runtime, options.root, _execute, options.command_timeout)
        self._store = store.Store(Path(CONF.instances_path))
        self._images = glance.API()
        self._stop = threading.Event()
        self._unused: dict[str, float] = {}

    # The host.

    def init_host(self, host: str) -> None:
        """Fails where the runtime does not work, and begins to watch instances."""
        privsep.initialize()
        os_vif.initialize()
        # A command of the runtime wants a root that is there.
        Path(CONF.vmruntime.root).mkdir(parents=True, exist_ok=True)
        LOG.info("%s, %s", self._runtime.program, self._runtime.version())
        self._store.remove_caches()
        self._stop.clear()
        threading.Thread(target=self._watch, name="vmruntime-watcher", daemon=True).start()

    def cleanup_host(self, host: str) -> None:
        self._stop.set()

    def get_available_nodes(self, refresh: bool = False) -> list[str]:
        return [CONF.host]

    def get_host_ip_addr(self) -> str:
        return str(CONF.my_ip)

    def get_host_uptime(self) -> str:
        return host.uptime()

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        figures = host.resources(self._store.path)
        records = [d.record() for d in self._store.directories()]
        return {
            "vcpus": figures.vcpus,
            "memory_mb": figures.memory_mb,
            "local_gb": figures.disk_gb,
            "vcpus_used": sum(r.vcpus for r in records),
            "memory_mb_used": figures.memory_mb - figures.memory_mb_free,
            "local_gb_used": figures.disk_gb - figures.disk_gb_free,
            "disk_available_least": figures.disk_gb_free,
            "hypervisor_type": fields.HVType.DOCKER,
            "hypervisor_version": versionutils.convert_version_to_int("1.0.0"),
            "hypervisor_hostname": CONF.host,
            "cpu_info": jsonutils.dumps({}),
            "supported_instances": [(fields.Architecture.from_host(), fields.HVType.DOCKER, fields.VMMode.EXE)],
            "numa_topology": None,
        }

    def update_provider_tree(
        self, provider_tree: Any, nodename: str, allocations: dict[str, Any] | None = None
    ) -> None:
        figures = host.resources(self._store.path)
        ratios = self._get_allocation_ratios(provider_tree.data(nodename).inventory)
        totals = {
            orc.VCPU: (figures.vcpus, CONF.reserved_host_cpus),
            orc.MEMORY_MB: (figures.memory_mb, CONF.reserved_host_memory_mb),
            orc.DISK_GB: (figures.disk_gb, self._get_reserved_host_disk_gb_from_config()),
        }
        provider_tree.update_inventory(
            nodename,
            {
                resource: {
                    "total": total,
                    "min_unit": 1,
                    "max_unit": total,
                    "step_size": 1,
                    "allocation_ratio": ratios[resource],
                    "reserved": reserved,
                }
                for resource, (total, reserved) in totals.items()
            },
        )
        provider_tree.add_traits(nodename, TRAIT)

    # What there is.

    def list_instances(self) -> list[str]:
        return [d.record().name for d in self._store.directories()]

    def list_instance_uuids(self) -> list[str]:
        return [d.uuid for d in self._store.directories()]

    def get_info(self, instance: Any, use_cache: bool = True) -> hardware.InstanceInfo:
        directory = self._directory(instance)
        status = self._runtime.status(instance.uuid)
        state = power_state.SHUTDOWN if status is None else POWER_STATES.get(status, power_state.NOSTATE)
        return hardware.InstanceInfo(state, directory.uuid)

    def get_console_output(self, context: Any, instance: Any) -> str:
        """The end of what the container has printed, a character per byte: it may be cut within one."""
        return self._directory(instance).console_tail(CONF.vmruntime.console_log_size).decode("latin-1")

    def get_serial_console(self, context: Any, instance: Any) -> console_type.ConsoleSerial:
        """A shell in the container, for nova-serialproxy."""
        self._directory(instance)
        if self._runtime.status(instance.uuid) != "running":
            raise exception.InstanceNotReady(instance_id=instance.uuid)
        address = CONF.serial_console.proxyclient_address
        argv = self._runtime.exec_argv(instance.uuid, CONF.vmruntime.console_command)
        return console_type.ConsoleSerial(address, privsep.console(instance.uuid, argv, address))

    # Making and removing.

    def spawn(
        self,
        context: Any,
        instance: Any,
        image_meta: Any,
        injected_files: Any,
        admin_password: str | None,
        allocations: Any,
        network_info: Any = None,
        block_device_info: Any = None,
        power_on: bool = True,
        accel_info: Any = None,
    ) -> None:
        network_info = network_info or []
        directory = self._store.directory(instance.uuid)
        record = _record(instance, image_meta)
        try:
            directory.make(record)
            self._pull(context, directory, image_meta.id, record.image)
            with self._vifs_plugged(instance, network_info):
                self._runtime.bundle(record.image, directory.bundle, record.root_gb, record.args)
                self._write_files(instance, directory, injected_files, admin_password, network_info)
            self._configure(instance, directory, block_device_info)
            if power_on:
                self._start(directory)
        except Exception as error:
            with _reraised_for_nova(instance, error):
                self._remove(instance, network_info, block_device_info)

    def destroy(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        destroy_secrets: bool = True,
    ) -> None:
        self._remove(instance, network_info or [], block_device_info, destroy_disks)

    def cleanup(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        migrate_data: Any = None,
        destroy_vifs: bool = True,
        destroy_secrets: bool = True,
    ) -> None:
        self._remove(instance, (network_info or []) if destroy_vifs else [], block_device_info, destroy_disks)

    def _remove(
        self, instance: Any, network_info: Sequence[Any], block_device_info: Any = None, disks: bool = True
    ) -> None:
        """Removes an instance, or what an earlier attempt has left of it."""
        directory = self._store.directory(instance.uuid)
        privsep.end_console(instance.uuid)
        self._runtime.delete(instance.uuid)
        volume.disconnect(block_device_info)
        network.unplug(instance, network_info)
        network.remove_namespace(instance.uuid)
        # Not whether there is a bundle: who was killed may have left nothing but vmruntime's record of it.
        if directory.exists():
            self._runtime.unbundle(directory.bundle, keep=not disks)
        if disks:
            directory.remove()

    def _pull(self, context: Any, directory: store.Directory, image_id: str, name: str) -> bool:
        """Fetches an image that is not there yet: whether it was fetched. Glance lets in who may see it."""
        if self._runtime.has_image(name):
            return False
        # The endpoint as Nova finds it; Nova's client would read the whole image.
        url = f"{next(glance.get_api_servers(context)).rstrip('/')}/v2/images/{image_id}/file"
        headers = directory.path / "headers"
        store.write(headers, f"X-Auth-Token: {context.auth_token}\n".encode(), 0o600)
        try:
            pulled = self._runtime.pull(name, url, headers)
        finally:
            headers.unlink()
        LOG.info("image %s: %s of %s bytes transferred", image_id, pulled.get("transferred"), pulled.get("size"))
        return True

    def _write_files(
        self, instance: Any, directory: store.Directory, injected_files: Any, password: str | None, network_info: Any
    ) -> None:
        """Everything that the guest is told."""
        directory.files.mkdir(exist_ok=True)
        extra = {"admin_pass": password} if password else {}
        data = instance_metadata.InstanceMetadata(
            instance, content=injected_files or [], extra_md=extra, network_info=network_info
        )
        metadata.write_config_drive(data.metadata_for_config_drive(), directory.config_drive)
        files = {
            "resolv.conf": metadata.resolv_conf(network_info),
            "hosts": metadata.hosts(_hostname(instance), network_info),
        }
        for name, content in files.items():
            if content:
                privsep.write_file(str(directory.files / name), content.encode(), 0o644)
        if instance.key_data:
            # sshd wants it owned by root.
            key = instance.key_data.rstrip("\n") + "\n"
            privsep.write_file(str(directory.files / "authorized_keys"), key.encode(), 0o600)

    def _configure(self, instance: Any, directory: store.Directory, block_device_info: Any) -> None:
        """Puts what Nova decides into config.json."""
        record = directory.record()
        machine = spec.Machine(
            uuid=instance.uuid,
            hostname=_hostname(instance),
            memory_mb=record.memory_mb,
            vcpus=record.vcpus,
            netns=network.path(instance.uuid),
            cgroup=f"{CONF.vmruntime.cgroup_parent}/{instance.uuid}",
            env=metadata.environment(instance.metadata),
            annotations=spec.annotations(_identity(instance)),
            binds=_binds(directory),
            devices=volume.connect(block_device_info),
        )
        config = spec.apply(jsonutils.loads(directory.config.read_bytes()), machine)
        privsep.write_file(str(directory.config), jsonutils.dump_as_bytes(config), 0o644)

    def _start(self, directory: store.Directory) -> None:
        """Creates and starts the container of a bundle that is mounted."""
        directory.console.touch()
        self._runtime.create(directory.uuid, directory.bundle, directory.log, directory.console)
        self._runtime.start(directory.uuid)

    @contextmanager
    def _vifs_plugged(self, instance: Any, network_info: Sequence[Any]) -> Iterator[None]:
        """Plugs the ports in, and leaves when Neutron says that they are."""
        wanted = [("network-vif-plugged", vif["id"]) for vif in network_info if vif.get("active") is False]
        if not CONF.vif_plugging_timeout:
            wanted = []
        try:
            with self.virtapi.wait_for_instance_event(
                instance, wanted, deadline=CONF.vif_plugging_timeout, error_callback=_plugging_failed
            ):
                network.plug(instance, network_info)
                yield
        except _timeouts() as e:
            LOG.warning("Neutron has not said within %s s that the ports are plugged", CONF.vif_plugging_timeout)
            if CONF.vif_plugging_is_fatal:
                raise exception.VirtualInterfaceCreateException() from e

    # Power.

    def power_off(self, instance: Any, timeout: int = 0, retry_interval: int = 0) -> None:
        """Asks the process to end, and ends it after timeout seconds. What it has written stays."""
        directory = self._directory(instance)
        if self._runtime.status(instance.uuid) == "paused":
            self._runtime.resume(instance.uuid)
        if timeout > 0 and directory.config.exists():
            self._ask_to_end(directory, timeout)
        privsep.end_console(instance.uuid)
        self._runtime.delete(instance.uuid)

    def _ask_to_end(self, directory: store.Directory, timeout: float) -> None:
        if self._runtime.status(directory.uuid) != "running":
            return
        signal = spec.stop_signal(jsonutils.loads(directory.config.read_bytes()))
        deadline = time.monotonic() + timeout
        self._runtime.kill(directory.uuid, signal)
        while self._runtime.status(directory.uuid) == "running" and time.monotonic() < deadline:
            time.sleep(END_POLL)

    def power_on(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        accel_info: Any = None,
        share_info: Any = None,
    ) -> None:
        directory = self._directory(instance)
        record = directory.record()
        self._runtime.delete(instance.uuid)
        # After a reboot of the host the bundle is not mounted, and there is no network.
        self._runtime.bundle(record.image, directory.bundle, record.root_gb, record.args)
        network.plug(instance, network_info or [])
        self._configure(instance, directory, block_device_info)
        self._start(directory)

    def reboot(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        reboot_type: str,
        block_device_info: Any = None,
        bad_volumes_callback: Any = None,
        accel_info: Any = None,
        share_info: Any = None,
    ) -> None:
        self.power_off(instance, CONF.shutdown_timeout if reboot_type == "SOFT" else 0)
        self.power_on(context, instance, network_info, block_device_info)

    def resume_state_on_host_boot(
        self, context: Any, instance: Any, network_info: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Starts an instance that is to run, unless it does."""
        # Since Nova 31 there is another argument before it.
        block_device_info = kwargs.get("block_device_info", args[-1] if args else None)
        if self._runtime.status(instance.uuid) not in ("running", "paused"):
            self.power_on(context, instance, network_info, block_device_info)

    def pause(self, instance: Any) -> None:
        self._directory(instance)
        if self._runtime.status(instance.uuid) != "paused":
            self._runtime.pause(instance.uuid)

    def unpause(self, instance: Any) -> None:
        self._directory(instance)
        if self._runtime.status(instance.uuid) == "paused":
            self._runtime.resume(instance.uuid)

    def suspend(self, context: Any, instance: Any) -> None:
        """Refused: the server stays as it is."""
        reason = "vmruntime cannot save a machine to disk yet: pause or shelve the server instead"
        raise exception.InstanceFaultRollback(exception.InstanceSuspendFailure(reason=reason))

    def migrate_disk_and_power_off(
        self,
        context: Any,
        instance: Any,
        dest: str,
        flavor: Any,
        network_info: Any,
        block_device_info: Any = None,
        timeout: int = 0,
        retry_interval: int = 0,
    ) -> None:
        """Refused: the server stays as it is."""
        reason = "vmruntime does not move or resize servers: shelve and unshelve, or rebuild from a snapshot"
        raise exception.InstanceFaultRollback(exception.ResizeError(reason=reason))

    # Volumes.

    def get_volume_connector(self, instance: Any) -> dict[str, Any]:
        return volume.properties()

    def attach_volume(
        self,
        context: Any,
        connection_info: Any,
        instance: Any,
        mountpoint: str,
        disk_bus: str | None = None,
        device_type: str | None = None,
        encryption: Any = None,
    ) -> None:
        """Nothing to do while it is stopped: its next start has the volume."""
        if encryption:
            raise exception.InvalidVolume(reason="vmruntime does not decrypt volumes: use one that is not encrypted")
        self._need_stopped(instance, "attach")

    def detach_volume(
        self, context: Any, connection_info: Any, instance: Any, mountpoint: str, encryption: Any = None
    ) -> None:
        self._need_stopped(instance, "detach")
        volume.disconnect_one(connection_info)

    def _need_stopped(self, instance: Any, action: str) -> None:
        if self._runtime.status(instance.uuid) in ("creating", "created", "running", "paused"):
            reason = f"a machine gets its disks when it starts: stop the server, {action} the volume, and start it"
            raise exception.InvalidVolume(reason=reason)

    # Network.

    def plug_vifs(self, instance: Any, network_info: Any) -> None:
        network.plug(instance, network_info)

    def unplug_vifs(self, instance: Any, network_info: Any) -> None:
        network.unplug(instance, network_info)

    def attach_interface(self, context: Any, instance: Any, image_meta: Any, vif: Any) -> None:
        """The guest of a running container sees it at once."""
        self._directory(instance)
        try:
            network.plug(instance, [vif])
        except Exception as e:
            raise exception.InterfaceAttachFailed(instance_uuid=instance.uuid) from e

    def detach_interface(self, context: Any, instance: Any, vif: Any) -> None:
        self._directory(instance)
        try:
            network.unplug(instance, [vif])
        except Exception as e:
            raise exception.InterfaceDetachFailed(instance_uuid=instance.uuid) from e

    # Images.

    def snapshot(self, context: Any, instance: Any, image_id: str, update_task_state: Any) -> None:
        """The image's layers and one more, of what the container has written. It stands still meanwhile."""
        if not self._store.directory(instance.uuid).exists():
            raise exception.InstanceNotRunning(instance_id=instance.uuid)
        directory = self._directory(instance)
        tar = directory.path / f"snapshot-{image_id}.tar"
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        try:
            with self._paused(instance):
                self._runtime.commit(directory.bundle, tar)
            update_task_state(
                task_state=task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD
            )
            formats = {"container_format": "docker", "disk_format": "raw"}
            with tar.open("rb") as data:
                self._images.update(context, image_id, formats, data, purge_props=False)
        finally:
            tar.unlink(missing_ok=True)

    @contextmanager
    def _paused(self, instance: Any) -> Iterator[None]:
        """Nothing runs within; what was not running before does not run after."""
        if self._runtime.status(instance.uuid) != "running":
            yield
            return
        self._runtime.pause(instance.uuid)
        try:
            yield
        finally:
            self._runtime.resume(instance.uuid)

    def cache_image(self, context: Any, image_id: str) -> bool:
        """Fetches an image before it is needed: whether it was not there yet."""
        directory = self._store.cache(image_id)
        directory.path.mkdir(parents=True, exist_ok=True)
        try:
            return self._pull(context, directory, image_id, _image_name(image_id))
        finally:
            shutil.rmtree(directory.path)

    def manage_image_cache(self, context: Any, all_instances: Any) -> None:
        """Forgets images that no instance here has been made of for a while, and what layers nothing else needs."""
        if not CONF.image_cache.remove_unused_base_images:
            return
        used = {d.record().image for d in self._store.directories()}
        unused = {n for n in self._runtime.images() if n.startswith(_image_name("")) and n not in used}
        now, age = time.monotonic(), CONF.image_cache.remove_unused_original_minimum_age_seconds
        # From when on nobody was seen to use an image: one that was fetched ahead waits for its first instance.
        self._unused = {name: self._unused.get(name, now) for name in unused}
        for name, since in self._unused.items():
            if now - since >= age:
                self._runtime.remove_image(name)
        self._runtime.collect_images(age)

    # Events.

    def _watch(self) -> None:
        watcher = Watcher()
        while not self._stop.wait(CONF.vmruntime.poll_interval):
            try:
                self._look(watcher)
            except Exception:
                LOG.exception("looking at instances failed")

    def _look(self, watcher: Watcher) -> None:
        for uuid in watcher.observe(self._runtime.statuses()):
            LOG.info("instance %s has ended by itself", uuid)
            self.emit_event(event.LifecycleEvent(uuid, event.EVENT_LIFECYCLE_STOPPED))
        for directory in self._store.directories():
            directory.cut_console(CONF.vmruntime.console_log_size)

    def _directory(self, instance: Any) -> store.Directory:
        directory = self._store.directory(instance.uuid)
        if not directory.exists():
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        return directory


def _execute(argv: list[str], timeout: float | None, output: str | None) -> Result:
    return Result(*privsep.runtime(argv, timeout, output))


def _image_name(image_id: str) -> str:
    """In vmruntime's store: Glance's ids are unique, its names are anybody's."""
    return "glance-" + image_id


def _hostname(instance: Any) -> str:
    return str(instance.hostname or instance.uuid)


def _record(instance: Any, image_meta: Any) -> store.Record:
    """Refuses what is no container image: no other host can run it as one either."""
    if not image_meta.obj_attr_is_set("id"):
        raise _abort(instance, "it has no image: a container cannot be booted from a volume")
    if image_meta.container_format != "docker":
        raise _abort(
            instance,
            f"image {image_meta.id} has container_format {image_meta.container_format}: "
            "upload what docker save writes, with container_format docker and disk_format raw",
        )
    command = image_meta.properties.get("os_command_line")
    try:
        args = shlex.split(command) if command else []
    except ValueError as e:
        raise _abort(instance, f"os_command_line of image {image_meta.id}: {e}") from e
    return store.Record(
        uuid=instance.uuid,
        name=instance.name,
        image=_image_name(image_meta.id),
        vcpus=instance.flavor.vcpus,
        memory_mb=instance.flavor.memory_mb,
        root_gb=instance.flavor.root_gb,
        args=args,
    )


def _identity(instance: Any) -> spec.Identity:
    context: nova_context.RequestContext = instance._context
    return spec.Identity(
        uuid=instance.uuid,
        name=instance.display_name or instance.name,
        project_id=instance.project_id or "",
        project_name=getattr(context, "project_name", None) or "",
        user_id=instance.user_id or "",
        user_name=getattr(context, "user_name", None) or "",
        flavor=instance.flavor.name,
        memory_mb=instance.flavor.memory_mb,
        vcpus=instance.flavor.vcpus,
        root_gb=instance.flavor.root_gb,
        image=instance.image_ref or "",
    )


def _binds(directory: store.Directory) -> list[spec.Bind]:
    places = {
        directory.config_drive: metadata.CONFIG_DRIVE,
        directory.files / "resolv.conf": "/etc/resolv.conf",
        directory.files / "hosts": "/etc/hosts",
        directory.files / "authorized_keys": "/root/.ssh/authorized_keys",
    }
    return [spec.Bind(str(source), destination) for source, destination in places.items() if source.exists()]


# What Nova keeps of a fault, 255 characters, less what it puts before the reason.
FAULT_SIZE = 190


def _for_fault(error: RuntimeFailed) -> str:
    """The runtime's sentence as it fits into a fault: the cause is at its end, names that the user knows before it."""
    reason = re.sub(r"^image glance-\S+ from \S+: ", "", error.reason)
    reason = re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", reason)
    text = f"{error.command}: {reason}"
    return text if len(text) <= FAULT_SIZE else f"{error.command}: ...{reason[len(text) + 3 - FAULT_SIZE :]}"


def _abort(instance: Any, reason: str) -> exception.BuildAbortException:
    """Ends a build for good, and shows the reason to its user; anything else is tried on another host."""
    return exception.BuildAbortException(instance_uuid=instance.uuid, reason=reason)


@contextmanager
def _reraised_for_nova(instance: Any, error: Exception) -> Iterator[None]:
    """Undoes within, and then raises error: what the runtime says of the image or its command ends the build."""
    try:
        yield
    except Exception:
        LOG.exception("undoing the failed build of instance %s failed; deleting it does so again", instance.uuid)
    if isinstance(error, RuntimeFailed):
        LOG.error("instance %s: %s", instance.uuid, error)
        raise _abort(instance, _for_fault(error)) from error
    raise error


def _plugging_failed(name: str, instance: Any) -> None:
    LOG.error("Neutron reports that %s failed for instance %s", name, instance.uuid)
    if CONF.vif_plugging_is_fatal:
        raise exception.VirtualInterfaceCreateException()


def _timeouts() -> tuple[type[BaseException], ...]:
    """What wait_for_instance_event raises: eventlet's until Nova 31, Nova's own since."""
    own = getattr(exception, "InstanceEventTimeout", None)
    eventlet = sys.modules.get("eventlet")
    return tuple(t for t in (own, eventlet and eventlet.timeout.Timeout) if t)
