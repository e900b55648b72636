import unittest

from vmruntime_nova.watcher import Watcher


class WatcherTest(unittest.TestCase):
    def test_what_it_tells(self):
        cases = [
            ("runs on", {"a": "running"}, {"a": "running"}, []),
            ("ends", {"a": "running", "b": "running"}, {"a": "stopped", "b": "running"}, ["a"]),
            ("ends while paused", {"a": "paused"}, {"a": "stopped"}, ["a"]),
            ("is deleted", {"a": "running"}, {}, []),
            ("had ended before", {"a": "stopped"}, {"a": "stopped"}, []),
            ("was seen for the first time", {}, {"a": "stopped"}, []),
            ("never started", {"a": "created"}, {"a": "stopped"}, []),
        ]
        for name, before, after, want in cases:
            with self.subTest(name):
                watcher = Watcher()
                self.assertEqual(watcher.observe(before), [])
                self.assertEqual(watcher.observe(after), want)
                self.assertEqual(watcher.observe(after), [])
