"""nova-compute is killed while it makes and removes servers: once it is back, none is stuck and nothing is left."""

import os
import subprocess
import time
from contextlib import contextmanager

from tests.live_case import CHECKOUT, DIRECTORY, PATIENCE, RUNTIME, LiveCase
from tests.live_images import app_layer, base_layer, saved

# In vmruntime's place: nova-compute dies at one command. before: nothing of the command happens; during: it goes on
# as an orphan; with: it is killed, too, as a service manager does, once it is on its way.
TRAP = f"""#!/bin/sh
[ ! -e {DIRECTORY}/kill-at ] || read -r when command <{DIRECTORY}/kill-at
case " $* " in
*" ${{command:-nothing}} "*)
    rm {DIRECTORY}/kill-at
    compute=$(cat {DIRECTORY}/pids/nova-compute)
    case $when in
    before) kill -KILL "$compute"; exit 1 ;;
    during) kill -KILL "$compute" ;;
    with) {RUNTIME} "$@" & sleep 0.3; kill -KILL "$compute" $!; exit 1 ;;
    esac
    ;;
esac
exec {RUNTIME} "$@"
"""

SPAWN = (
    ("before", "image pull"),
    ("with", "image pull"),
    ("before", "image bundle"),
    ("during", "image bundle"),
    ("before", "create"),
    ("during", "create"),
    ("with", "create"),
    ("before", "start"),
    ("during", "start"),
)
DESTROY = (
    ("before", "delete"),
    ("during", "delete"),
    ("with", "delete"),
    ("before", "image unbundle"),
    ("during", "image unbundle"),
)


class Killed(LiveCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.program = DIRECTORY / "bin/vmruntime"
        cls.program.unlink()
        cls.program.write_text(TRAP)
        cls.program.chmod(0o755)
        cls.base = base_layer()

    @classmethod
    def tearDownClass(cls):
        cls.program.unlink()
        cls.program.symlink_to(RUNTIME)

    def trap(self, when, command):
        (DIRECTORY / "kill-at").write_text(f"{when} {command}\n")

    def comes_back(self, server):
        """Waits until the trap has killed nova-compute, and starts it again."""
        pid = int((DIRECTORY / "pids/nova-compute").read_text())
        self.eventually(lambda: not _runs(pid) or self.failed(server), "death of nova-compute", PATIENCE)
        self.assertFalse(_runs(pid), f"the trap was not sprung: {self.fault(server)}")
        before = self.reported()
        subprocess.run([CHECKOUT / "hack/openstack.sh", "compute"], check=True, stdin=subprocess.DEVNULL)
        # Nothing is scheduled before.
        self.eventually(lambda: self.reported() != before, "report of nova-compute", PATIENCE)

    def failed(self, server):
        return self.cloud.compute.get_server(server.id).status == "ERROR"

    @contextmanager
    def point(self, when, command):
        """A subtest that leaves nothing to the next one, however it ends."""
        with self.subTest(f"{when} {command}"):
            try:
                yield
            finally:
                (DIRECTORY / "kill-at").unlink(missing_ok=True)
                self.delete_all()
                self.servers.clear()
            self.nothing_left()

    def reported(self):
        """When nova-compute was last heard of."""
        [service] = self.cloud.compute.get("/os-services?binary=nova-compute").json()["services"]
        return service["updated_at"]

    def image(self):
        # Of its own, so that there is something to pull.
        return self.upload(saved([self.base, app_layer(10)]))

    def settled(self, server):
        """Waits until a server is not on its way to anything."""

        def look():
            now = self.cloud.compute.get_server(server.id)
            return now.status in ("ACTIVE", "ERROR") and not now.task_state and now

        return self.eventually(look, "an end of the build", PATIENCE)

    def gone(self, server):
        self.eventually(lambda: not self.cloud.compute.find_server(server.id), "end of the server", PATIENCE)

    def test_spawn(self):
        for when, command in SPAWN:
            with self.point(when, command):
                image = self.image()
                self.trap(when, command)
                server = self.create(image, wait=None, networks=[{"uuid": self.network.id}])
                self.comes_back(server)
                self.figure(f"killed {when} {command}", self.settled(server).status)

    def test_destroy(self):
        for when, command in DESTROY:
            with self.point(when, command):
                server = self.create(self.image(), networks=[{"uuid": self.network.id}])
                self.trap(when, command)
                self.cloud.compute.delete_server(server)
                self.comes_back(server)
                began = time.monotonic()
                self.gone(server)
                self.figure(f"killed {when} {command}, seconds until the server is gone", int(time.monotonic() - began))


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
