import tempfile
import unittest
from pathlib import Path

from vmruntime_nova import store


class StoreTest(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.store = store.Store(Path(self.temporary.name) / "instances")
        self.record = store.Record("u", "instance-1", "glance-i", 1, 128, 2, ["sh", "-c", "a b"])
        self.directory = self.store.directory("u")

    def test_a_record_comes_back(self):
        self.directory.make(self.record)
        self.assertEqual(self.directory.record(), self.record)

    def test_only_directories_of_instances_count(self):
        self.assertEqual(self.store.directories(), [])
        self.directory.make(self.record)
        (self.store.path / "locks").mkdir()
        (self.store.path / "compute_nodes").write_text("{}")
        self.assertEqual([d.uuid for d in self.store.directories()], ["u"])

    def test_remove_leaves_nothing_and_can_be_repeated(self):
        self.directory.make(self.record)
        self.directory.files.mkdir()
        (self.directory.files / "hosts").write_text("x")
        for _ in range(2):
            self.directory.remove()
            self.assertEqual(list(self.store.path.iterdir()), [])

    def test_what_a_killed_fetch_has_left_is_removed(self):
        self.store.remove_caches()
        self.directory.make(self.record)
        left = self.store.cache("image-1").path
        left.mkdir()
        (left / "token").write_text("secret")
        self.store.remove_caches()
        self.assertEqual(list(self.store.path.iterdir()), [self.directory.path])

    def test_a_missing_instance_is_an_error(self):
        self.assertFalse(self.directory.exists())
        with self.assertRaises(FileNotFoundError):
            self.directory.record()

    def test_the_end_of_the_console(self):
        self.assertEqual(self.directory.console_tail(10), b"")
        self.directory.make(self.record)
        self.directory.console.write_bytes(b"0123456789")
        self.assertEqual(self.directory.console_tail(4), b"6789")
        self.assertEqual(self.directory.console_tail(100), b"0123456789")

    def test_a_console_is_cut_while_it_is_appended_to(self):
        self.directory.make(self.record)
        with self.directory.console.open("ab", buffering=0) as writer:
            writer.write(b"x" * 20)
            self.directory.cut_console(10)
            self.assertEqual(self.directory.console.stat().st_size, 20)
            writer.write(b"0123456789")
            self.directory.cut_console(10)
            writer.write(b"end")
        self.assertEqual(self.directory.console.read_bytes(), b"0123456789end")

    def test_write_replaces_and_sets_the_mode(self):
        path = Path(self.temporary.name) / "file"
        path.write_text("old")
        store.write(path, b"new", 0o600)
        self.assertEqual(path.read_text(), "new")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual([p.name for p in path.parent.iterdir()], ["file"])
