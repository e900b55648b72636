"""What the live tests share: a connection to the OpenStack of hack/openstack.sh, and an inventory of the host."""

import json
import os
import re
import subprocess
import time
import unittest
from pathlib import Path

import openstack

DIRECTORY = Path(os.environ.get("NOVA_DIR", "/tmp/vmruntime-nova"))
CHECKOUT = Path(__file__).parents[2]
RUNTIME = CHECKOUT / "bin/vmruntime"
ROOT = "/run/vmruntime-nova"

# Seconds that a change of a server may take on a slow machine.
PATIENCE = 180


def inventory():
    """What servers leave on a host, if they leave anything."""
    cgroup = os.environ["NOVA_CGROUP"]
    links = json.loads(subprocess.check_output(["ip", "-json", "link"]))
    return {
        "mounts": _mounts(),
        "namespaces": _names("/run/netns"),
        "links": {link["ifname"] for link in links if not link["ifname"].startswith("brq")},
        "processes": _processes(),
        "loop devices": {str(p.parent.parent.name) for p in Path("/sys/block").glob("loop*/loop/backing_file")
                         if str(DIRECTORY) in p.read_text()},
        "domains": _names("/run/vmruntime-vm") | _names(ROOT),
        "instances": {p.parent.name for p in (DIRECTORY / "data/instances").glob("*/instance.json")}
        | {n for n in _names(DIRECTORY / "data/instances") if re.fullmatch("[0-9a-f]{8}-.*", n)},
        "bundles": _names(DIRECTORY / "data/images/bundles"),
        "cgroups": {str(p) for where in (cgroup, f"*/{cgroup}")
                    for p in Path("/sys/fs/cgroup").glob(f"{where}/*") if p.is_dir()},
    }  # fmt: skip


def tree(path):
    """Every file below a directory, with what would change if it was written to."""
    found = {}
    for p in sorted(path.rglob("*")):
        s = p.lstat()
        found[str(p)] = (s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_mtime_ns, s.st_nlink)
    return found


def _names(path):
    return {p.name for p in Path(path).glob("*")}


def _mounts():
    # Neutron's and Nova's own, such as /run/netns, stay.
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {p for p in points if re.search("[0-9a-f]{8}-[0-9a-f]{4}-|vmruntime", p.removeprefix(str(DIRECTORY)))}


def _processes():
    """vmruntime's and QEMU's, other than those that save a machine to start others from."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        ours = re.search(b"qemu-system|vmruntime-(shim|qemu)|/vmruntime$", words[0])
        # list is the driver's, which looks at instances all the time.
        if ours and b"list" not in words and b"template" not in b" ".join(words):
            found.add(b" ".join(words[:8]).decode(errors="replace"))
    return found


class LiveCase(unittest.TestCase):
    """Every test deletes its servers, and nothing of them may be left then."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.cloud = openstack.connect(compute_api_version="2.92")
        cls.flavor = cls.cloud.compute.find_flavor("tiny")
        cls.network = cls.cloud.network.find_network("net")

    def setUp(self):
        self.servers = []
        self.before = inventory()
        self.ports_before = {p.id for p in self.cloud.network.ports()}
        self.addCleanup(self.nothing_left)
        self.addCleanup(self.delete_all)

    # Figures are printed, for docs/nova.md.

    def figure(self, what, value):
        print(f"FIGURE {what}: {value}", flush=True)

    def upload(self, content, name="app", **properties):
        image = self.cloud.image.create_image(
            name, data=content, container_format="docker", disk_format="raw", allow_duplicates=True,
            validate_checksum=False, img_hv_type="docker", **properties,
        )  # fmt: skip
        self.addCleanup(self.cloud.image.delete_image, image.id, ignore_missing=True)
        return image

    def create(self, image, wait="ACTIVE", networks="none", **more):
        server = self.cloud.compute.create_server(
            name=self._testMethodName, image_id=image.id, flavor_id=self.flavor.id, networks=networks, **more
        )
        self.servers.append(server.id)
        return self.reaches(server, wait) if wait else server

    def reaches(self, server, status, patience=PATIENCE):
        """Waits until the server has the status and no task, and has it then."""
        until = time.monotonic() + patience
        while True:
            now = self.cloud.compute.get_server(server.id)
            if now.status == status and not now.task_state:
                return now
            if now.status == "ERROR" or time.monotonic() > until:
                self.fail(f"{server.id} is {now.status}, {now.task_state}, not {status}: {self.fault(server)}")
            time.sleep(0.2)

    def fault(self, server):
        """Why a server has failed."""
        shown = self.cloud.compute.get(f"/servers/{server.id}").json()["server"]
        return shown.get("fault", {}).get("message", "")

    def inside(self, server, *command, check=True):
        """What a command prints in the server's container."""
        done = self.runtime("exec", server.id, *command)
        if check:
            self.assertEqual(done.returncode, 0, (command, done.stdout, done.stderr))
        return done.stdout

    def state(self, server):
        """Of the container, None if there is none."""
        done = self.runtime("state", server.id)
        return json.loads(done.stdout)["status"] if done.returncode == 0 else None

    def runtime(self, *args):
        argv = [RUNTIME, "--root", ROOT, *args]
        return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)

    def boot_id(self, server, check=True):
        return self.inside(server, "cat", "/proc/sys/kernel/random/boot_id", check=check)

    def domain(self, server):
        """The XML of the server's machine, as libvirt's embedded driver keeps it."""
        files = [p for p in Path("/run/vmruntime-vm").glob("*/run/qemu/*.xml") if server.id in p.read_text()]
        self.assertTrue(files, "no domain")
        return files[0].read_text()

    def transferred(self, image):
        """How many bytes of an image were fetched, and of how many, as nova-compute logs it."""
        log = (DIRECTORY / "log/nova-compute.log").read_text()
        lines = re.findall(rf"image {image.id}: (\d+) of (\d+) bytes", log)
        self.assertEqual(len(lines), 1, "fetched once")
        return tuple(map(int, lines[0]))

    def outcomes(self, server, action):
        """Results of what was done to a server, the newest first."""
        path = f"/servers/{server.id}/os-instance-actions"
        actions = self.cloud.compute.get(path).json()["instanceActions"]
        requests = [a["request_id"] for a in actions if a["action"] == action]
        shown = [self.cloud.compute.get(f"{path}/{r}").json()["instanceAction"] for r in requests]
        return [e["result"] for a in shown for e in a["events"]]

    def timed(self, call, *args, **more):
        began = time.monotonic()
        return call(*args, **more), time.monotonic() - began

    def console(self, server):
        return self.cloud.compute.get_server_console_output(server.id)["output"] or ""

    def says(self, server, text, patience=60):
        """Waits until the console log has the text, and has the log then."""
        return self.eventually(lambda: text in (log := self.console(server)) and log, f"{text!r} in the log", patience)

    def eventually(self, look, what, patience=60):
        until = time.monotonic() + patience
        while not (found := look()):
            if time.monotonic() > until:
                self.fail(f"{what}: not within {patience} s")
            time.sleep(0.2)
        return found

    def delete_all(self):
        for server in self.servers:
            self.cloud.compute.delete_server(server, ignore_missing=True)
        for server in self.servers:
            self.eventually(lambda s=server: not self.cloud.compute.find_server(s), f"end of {server}", PATIENCE)

    def nothing_left(self):
        def left():
            now = inventory()
            return {what: sorted(now[what] - self.before[what]) for what in now if now[what] - self.before[what]}

        # Machines are taken away after Nova has its answer.
        until = time.monotonic() + 20
        while left() and time.monotonic() < until:
            time.sleep(0.2)
        self.assertEqual(left(), {})
        self.assertEqual({p.id for p in self.cloud.network.ports()} - self.ports_before, set())
