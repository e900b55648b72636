"""What is kept of instances on disk: one directory each, below Nova's instances_path.

    UUID/instance.json   who it is; there from before anything else is made until all is gone
    UUID/bundle/         the bundle, which vmruntime makes
    UUID/console.log     what the container has printed
    UUID/runtime.log     why the runtime could not make it
    UUID/config_drive/   metadata, as the guest sees it
    UUID/files/          resolv.conf, hosts and keys, as the guest sees them
    cache-IMAGE/         the token with which an image is being fetched ahead
"""

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


_CACHE = "cache-"


@dataclass(frozen=True)
class Record:
    """What must be known of an instance when Nova is not there to tell."""

    uuid: str
    name: str
    # The name of its image in vmruntime's store.
    image: str
    vcpus: int
    memory_mb: int
    root_gb: int
    # In place of the image's Cmd, if any.
    args: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Directory:
    """The directory of one instance."""

    path: Path

    @property
    def uuid(self) -> str:
        return self.path.name

    @property
    def bundle(self) -> Path:
        return self.path / "bundle"

    @property
    def config(self) -> Path:
        return self.bundle / "config.json"

    @property
    def console(self) -> Path:
        return self.path / "console.log"

    @property
    def log(self) -> Path:
        return self.path / "runtime.log"

    @property
    def config_drive(self) -> Path:
        return self.path / "config_drive"

    @property
    def files(self) -> Path:
        return self.path / "files"

    def exists(self) -> bool:
        return (self.path / "instance.json").exists()

    def record(self) -> Record:
        """Who the instance is. FileNotFoundError if there is none."""
        return Record(**json.loads((self.path / "instance.json").read_text()))

    def make(self, record: Record) -> None:
        """Makes the directory, with nothing in it but the record."""
        self.path.mkdir(parents=True, exist_ok=True)
        write(self.path / "instance.json", json.dumps(dataclasses.asdict(record)).encode())

    def remove(self) -> None:
        """Removes the directory, the record last: whoever is interrupted finds it again."""
        if not self.path.exists():
            return
        for entry in self.path.iterdir():
            if entry.name == "instance.json":
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        shutil.rmtree(self.path)

    def console_tail(self, size: int) -> bytes:
        """The last size bytes of the console log, none if there is none yet."""
        try:
            with self.console.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - size))
                return log.read(size)
        except FileNotFoundError:
            return b""

    def cut_console(self, size: int) -> None:
        """Leaves the end of a console log that has more than twice size bytes. It is appended to meanwhile."""
        try:
            if self.console.stat().st_size <= 2 * size:
                return
            tail = self.console_tail(size)
            os.truncate(self.console, 0)
            with self.console.open("ab") as log:
                log.write(tail)
        except FileNotFoundError:
            return


@dataclass(frozen=True)
class Store:
    """All instances' directories."""

    path: Path

    def directory(self, uuid: str) -> Directory:
        return Directory(self.path / uuid)

    def cache(self, image: str) -> Directory:
        """Where an image is fetched ahead from."""
        return self.directory(_CACHE + image)

    def remove_caches(self) -> None:
        """Removes what a nova-compute has left that was killed while it fetched an image ahead."""
        for left in self.path.glob(_CACHE + "*"):
            shutil.rmtree(left)

    def directories(self) -> list[Directory]:
        """Those that an instance is in."""
        if not self.path.exists():
            return []
        found = [Directory(entry) for entry in sorted(self.path.iterdir())]
        return [d for d in found if d.exists()]


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Makes or replaces a file at once."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    new.rename(path)


def write_json(path: Path, value: Any) -> None:
    """Makes or replaces a file at once."""
    write(path, json.dumps(value, indent=1).encode())
