"""A serial console: a command at a terminal of its own for who connects to a TCP port, one client after the other.

A program, for Nova's threads must not wait for terminals: python3 -m vmruntime_nova.console ADDRESS COMMAND...
It prints the port, and ends when its stdin does.
"""

import os
import pty
import select
import signal
import socket
import sys

CHUNK = 1 << 16


def serve(server: socket.socket, command: list[str]) -> None:
    """Until stdin ends, which is its owner's end."""
    while True:
        ready, _, _ = select.select([server, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        client, _ = server.accept()
        with client:
            pid, terminal = pty.fork()
            if pid == 0:
                os.execv(command[0], command)  # noqa: S606
            goes_on = relay(client, terminal)
            # Its terminal's end is a hangup to whatever runs at it.
            os.close(terminal)
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        if not goes_on:
            return


def relay(client: socket.socket, terminal: int) -> bool:
    """Copies until one side ends, or stdin: then the answer is False."""
    sides = {client.fileno(): terminal, terminal: client.fileno()}
    while True:
        ready, _, _ = select.select([*sides, sys.stdin], [], [])
        if sys.stdin in ready:
            return False
        for source in ready:
            try:
                data = os.read(source, CHUNK)
                if not data:
                    return True
                while data:
                    data = data[os.write(sides[source], data) :]
            except OSError:
                # EIO is how a terminal ends.
                return True


def main() -> None:
    server = socket.create_server((sys.argv[1], 0))
    print(server.getsockname()[1], flush=True)
    serve(server, sys.argv[2:])


if __name__ == "__main__":
    main()
