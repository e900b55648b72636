import socket
import subprocess
import sys
import unittest


class ConsoleTest(unittest.TestCase):
    def setUp(self):
        argv = [sys.executable, "-m", "vmruntime_nova.console", "127.0.0.1", "/bin/sh", "-c", "test -t 0 && cat"]
        self.console = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(self.console.wait)
        self.addCleanup(self.console.kill)
        self.addCleanup(self.console.stdin.close)
        self.addCleanup(self.console.stdout.close)
        self.port = int(self.console.stdout.readline())

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.addCleanup(client.close)
        return client.makefile("rwb", buffering=0)

    def test_a_terminal_for_one_client_after_the_other(self):
        for _ in range(2):
            with self.connect() as client:
                client.write(b"hello\n")
                # The terminal's echo, and cat's.
                self.assertEqual([client.readline() for _ in range(2)], [b"hello\r\n"] * 2)
                # ^D ends cat, and cat's end the connection.
                client.write(b"\x04")
                self.assertEqual(client.readline(), b"")

    def test_its_owners_end_is_its_own(self):
        with self.connect() as client:
            client.write(b"hello\n")
            client.readline()
            self.console.stdin.close()
            self.assertEqual(self.console.wait(30), 0)
