"""The vmruntime program: one method per command, nothing of Nova.

Errors are RuntimeFailed, with the program's own sentence.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Result(NamedTuple):
    """How a command ended. out and err are what it printed."""

    status: int
    out: str
    err: str


class RuntimeFailed(Exception):
    """A command of the runtime that did not exit with 0."""

    def __init__(self, command: str, reason: str) -> None:
        super().__init__(f"vmruntime {command}: {reason}")
        self.command = command
        self.reason = reason


# Runs argv for at most timeout seconds (None: without a limit). What it and the
# processes that it leaves behind print is appended to the file output, if any.
Execute = Callable[[list[str], float | None, str | None], Result]


@dataclass(frozen=True)
class Runtime:
    """vmruntime with its --root. execute runs it with the rights that it needs."""

    program: str
    root: str
    execute: Execute
    timeout: float = 300

    def version(self) -> str:
        """The first line of --version."""
        return self._run("--version", ["--version"]).splitlines()[0]

    def create(self, name: str, bundle: Path, log: Path, console: Path) -> None:
        """Makes the container, not started. Its output goes to console, the runtime's errors to log."""
        log.unlink(missing_ok=True)
        argv = [
            self.program, "--root", self.root, "--log", str(log), "--log-format", "json",
            "create", "--bundle", str(bundle), name,
        ]  # fmt: skip
        result = self.execute(argv, self.timeout, str(console))
        if result.status != 0:
            raise RuntimeFailed("create", last_error(log) or f"exit status {result.status}")

    def start(self, name: str) -> None:
        """Starts the process of a created container."""
        self._run("start", ["start", name])

    def status(self, name: str) -> str | None:
        """creating, created, running, paused, stopped, or None if there is no such container."""
        try:
            return str(json.loads(self._run("state", ["state", name]))["status"])
        except RuntimeFailed as e:
            # The sentence is runc's, which engines rely on.
            if "does not exist" in e.reason:
                return None
            raise

    def statuses(self) -> dict[str, str]:
        """The status of every container below the root."""
        out = self._run("list", ["list", "--format", "json"])
        return {c["id"]: c["status"] for c in json.loads(out) or []}

    def kill(self, name: str, signal: str) -> None:
        """Sends a signal to the container's process. A container that has ended by then is fine."""
        try:
            self._run("kill", ["kill", name, signal])
        except RuntimeFailed:
            if self.status(name) in ("created", "running", "paused"):
                raise

    def delete(self, name: str) -> None:
        """Ends the container in any state and takes it away. None there is fine."""
        self._run("delete", ["delete", "--force", name])

    def exec_argv(self, name: str, command: str) -> list[str]:
        """What runs a further program in the container, at the terminal that it is run at itself."""
        return [self.program, "--root", self.root, "exec", "--tty", name, command]

    def pause(self, name: str) -> None:
        """Stops the container's processes from running."""
        self._run("pause", ["pause", name])

    def resume(self, name: str) -> None:
        """Lets a paused container run again."""
        self._run("resume", ["resume", name])

    def has_image(self, image: str) -> bool:
        """Whether an image of that name is in the store."""
        return image in self.images()

    def images(self) -> list[str]:
        """The names of the images in the store."""
        out = self._run("image list", ["image", "list", "--format", "json"])
        return [i["name"] for i in json.loads(out) or []]

    def pull(self, image: str, url: str, header_file: Path) -> dict[str, Any]:
        """Fetches what is missing of an image, and tells about it: its layers and how much was transferred."""
        args = ["image", "pull", "--header-file", str(header_file), "--name", image, url]
        out: dict[str, Any] = json.loads(self._run("image pull", args, None))
        return out

    def remove_image(self, image: str) -> None:
        """Takes the name of an image away; its layers go with the next collection."""
        self._run("image remove", ["image", "remove", image])

    def collect_images(self, older_than: int) -> None:
        """Removes layers that nothing has used for so many seconds."""
        self._run("image gc", ["image", "gc", "--older-than", f"{older_than}s"], None)

    def bundle(self, image: str, bundle: Path, size_gb: int = 0, args: Sequence[str] = ()) -> None:
        """Makes a bundle of an image, or mounts it again. size_gb limits what the container can write, 0 does not."""
        size = ["--size", f"{size_gb}G"] if size_gb else []
        command = ["--", *args] if args else []
        self._run("image bundle", ["image", "bundle", "--image", image, *size, str(bundle), *command])

    def unbundle(self, bundle: Path, keep: bool = False) -> None:
        """Unmounts a bundle and removes it, or keeps what the container has written. None there is fine."""
        try:
            self._run("image unbundle", ["image", "unbundle", *(["--keep"] if keep else []), str(bundle)])
        except RuntimeFailed as e:
            if "it is not made of an image of this store" not in e.reason:
                raise

    def commit(self, bundle: Path, target: Path) -> None:
        """Writes a bundle's image with what the container has written as one more layer, as docker-save tar."""
        self._run("image commit", ["image", "commit", str(bundle), "-o", str(target)], None)

    def _run(self, command: str, args: list[str], timeout: float | None = -1) -> str:
        limit = self.timeout if timeout == -1 else timeout
        result = self.execute([self.program, "--root", self.root, *args], limit, None)
        if result.status != 0:
            raise RuntimeFailed(command, result.err.strip() or f"exit status {result.status}")
        return result.out


def last_error(log: Path) -> str | None:
    """The last error in a log of the runtime, in its JSON format."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("level") == "error":
            return str(entry.get("msg"))
    return None
