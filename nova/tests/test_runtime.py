import json
import subprocess
import tempfile
import unittest
from pathlib import Path

from vmruntime_nova.runtime import Result, Runtime, RuntimeFailed, last_error

FAKE = str(Path(__file__).parent / "fake_vmruntime.py")


def execute(argv, timeout, output):
    if output is None:
        done = subprocess.run(argv, capture_output=True, text=True)
        return Result(done.returncode, done.stdout, done.stderr)
    with open(output, "ab") as file:
        return Result(subprocess.run(argv, stdout=file, stderr=file).returncode, "", "")


class RuntimeTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)
        self.runtime = Runtime(FAKE, str(self.root), execute)
        (self.root / "headers").write_text("X-Auth-Token: t\n")

    def calls(self):
        return [json.loads(line) for line in (self.root / "calls.log").read_text().splitlines()]

    def created(self):
        self.runtime.pull("i", "http://glance/file", self.root / "headers")
        self.runtime.bundle("i", self.root / "b")
        self.runtime.create("c", self.root / "b", self.root / "log", self.root / "console")

    def test_version(self):
        self.assertEqual(self.runtime.version(), "vmruntime version 0.0-fake")

    def test_a_life(self):
        self.assertIsNone(self.runtime.status("c"))
        self.created()
        seen = [self.runtime.status("c")]
        for step in (self.runtime.start, self.runtime.pause, self.runtime.resume):
            step("c")
            seen.append(self.runtime.status("c"))
        self.runtime.kill("c", "SIGTERM")
        self.runtime.kill("c", "SIGTERM")
        seen.append(self.runtime.statuses())
        self.runtime.delete("c")
        self.runtime.delete("c")
        seen.append(self.runtime.statuses())
        self.assertEqual(seen, ["created", "running", "paused", "running", {"c": "stopped"}, {}])

    def test_a_bundle_has_a_size_and_a_command_if_it_is_given_one(self):
        self.runtime.pull("i", "http://glance/file", self.root / "headers")
        self.runtime.bundle("i", self.root / "b", 10, ["sh", "-c", "echo"])
        want = ["image", "bundle", "--image", "i", "--size", "10G", str(self.root / "b"), "--", "sh", "-c", "echo"]
        self.assertEqual(self.calls()[-1], want)

    def test_a_bundle_that_is_not_there_is_unbundled_but_no_failure_is_hidden(self):
        self.runtime.unbundle(self.root / "b")
        (self.root / "image-unbundle.fail").write_text("bundle b: device or resource busy")
        with self.assertRaises(RuntimeFailed):
            self.runtime.unbundle(self.root / "b")

    def test_a_failure_has_the_runtimes_sentence(self):
        with self.assertRaises(RuntimeFailed) as caught:
            self.runtime.bundle("nowhere", self.root / "b")
        self.assertEqual(str(caught.exception), "vmruntime image bundle: image nowhere: not there")

    def test_a_failed_create_tells_from_its_log(self):
        (self.root / "create.fail").write_text("process.args: /app is not in the image")
        with self.assertRaises(RuntimeFailed) as caught:
            self.created()
        self.assertEqual(caught.exception.reason, "process.args: /app is not in the image")

    def test_a_signal_that_cannot_be_sent_to_a_running_container_is_an_error(self):
        self.created()
        self.runtime.start("c")
        (self.root / "kill.fail").write_text("no such signal")
        with self.assertRaises(RuntimeFailed):
            self.runtime.kill("c", "SIGNONE")

    def test_a_state_that_cannot_be_told_is_an_error(self):
        (self.root / "state.fail").write_text("permission denied")
        with self.assertRaises(RuntimeFailed):
            self.runtime.status("c")


class LastErrorTest(unittest.TestCase):
    def test_of_a_log(self):
        with tempfile.TemporaryDirectory() as directory:
            log = Path(directory) / "log"
            self.assertIsNone(last_error(log))
            error = '{"level":"error","msg":"%s"}\n'
            log.write_text(error % "one" + error % "two" + '{"level":"info","msg":"x"}\nrub')
            self.assertEqual(last_error(log), "two")
