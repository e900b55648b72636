"""As much of RFC 6455 as it takes to be a client of nova-serialproxy."""

import os
import socket
import struct
from urllib.parse import urlsplit

BINARY, CLOSE = 2, 8


class WebSocket:
    def __init__(self, url):
        at = urlsplit(url)
        self.socket = socket.create_connection((at.hostname, at.port), timeout=60)
        self.stream = self.socket.makefile("rb")
        lines = [
            f"GET {at.path}?{at.query} HTTP/1.1",
            f"Host: {at.netloc}",
            f"Origin: http://{at.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: binary",
            "Sec-WebSocket-Version: 13",
        ]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        status = self.stream.readline()
        if b" 101 " not in status:
            raise ConnectionError(status.decode())
        while self.stream.readline().strip():
            pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stream.close()
        self.socket.close()

    def write(self, data):
        """Sends less than 126 bytes in one frame, masked as a client's must be."""
        mask = os.urandom(4)
        masked = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
        self.socket.sendall(bytes([0x80 | BINARY, 0x80 | len(data)]) + mask + masked)

    def read_until(self, text):
        """Everything up to text. The proxy itself drops what comes just before an end."""
        found = b""
        while text not in found:
            head = self.stream.read(2)
            if len(head) < 2 or head[0] & 0xF == CLOSE:
                raise EOFError(found)
            size = head[1] & 0x7F
            if size == 126:
                [size] = struct.unpack(">H", self.stream.read(2))
            elif size == 127:
                [size] = struct.unpack(">Q", self.stream.read(8))
            found += self.stream.read(size)
        return found
