"""Images that the live tests boot: busybox with a layer on top, and some that no store may fall for."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

BUSYBOX = Path("/usr/bin/busybox")
APPLETS = "sh ls cat echo sleep env ip ping nc sync touch rm dd hostname mknod grep".split()


class Layer:
    """A layer of an image, built in memory."""

    def __init__(self, *entries):
        self.entries = entries

    def tar(self):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for info, content in self.entries:
                tar.addfile(info, io.BytesIO(content))
        return buffer.getvalue()


def entry(name, content=b"", kind=tarfile.REGTYPE, mode=0o755, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    info.size = len(content)
    return info, content


def directory(name):
    return entry(name, kind=tarfile.DIRTYPE)


def symlink(name, target):
    return entry(name, kind=tarfile.SYMTYPE, link=target)


def base_layer():
    """A root file system: busybox."""
    return Layer(
        *(directory(d) for d in ("bin", "etc", "tmp", "root", "proc", "sys", "dev", "var")),
        entry("bin/busybox", BUSYBOX.read_bytes()),
        *(symlink(f"bin/{a}", "busybox") for a in APPLETS),
        entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
        entry("etc/doomed", b"base"),
    )


def app_layer(size=300_000):
    """A layer on top, with a whiteout and content of its own."""
    files = entry("app/hello", b"app-v2\n"), entry("app/blob", os.urandom(size)), entry("etc/.wh.doomed")
    return Layer(directory("app"), *files)


# Says hello, tells what is in its files, and lives until it is asked to end.
SCRIPT = (
    "for i in 1 2 3; do echo hello $i; done; cat /app/hello; ls /etc/doomed; cat /kept; "
    "trap 'echo ending; exit' TERM; while :; do sleep 1; done"
)


def saved(layers, command=(SCRIPT,), entrypoint=("/bin/sh", "-c"), tamper=None):
    """A tar as docker save writes it. tamper changes the files, by name, before they are written."""
    tars = [layer if isinstance(layer, bytes) else layer.tar() for layer in layers]
    digests = [hashlib.sha256(t).hexdigest() for t in tars]
    config = json.dumps({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "A=1"], "Entrypoint": entrypoint, "Cmd": command, "StopSignal": "SIGTERM"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + d for d in digests]},
    }).encode()  # fmt: skip
    name = hashlib.sha256(config).hexdigest() + ".json"
    files = {name: config} | {f"{d}/layer.tar": t for d, t in zip(digests, tars, strict=True)}
    manifest = [{"Config": name, "RepoTags": ["app:2"], "Layers": [f"{d}/layer.tar" for d in digests]}]
    files["manifest.json"] = json.dumps(manifest).encode()
    if tamper:
        files = tamper(files, digests)
    return Layer(*(entry(n, c) for n, c in files.items())).tar()


def hostile_images(base, outside):
    """(image, what its server's fault must match) by name. outside is a directory that they try to reach."""
    up = "../" * 20

    def archive(*entries):
        return saved([base, Layer(*entries)])

    def content(change):
        return saved([base, app_layer(10)], tamper=change)

    device = entry("disk", kind=tarfile.BLKTYPE)
    device[0].devmajor = 8
    big = entry("big", b"0\n" + bytes(510))
    big[0].pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "big",
                          "GNU.sparse.realsize": str(10 << 30)}  # fmt: skip
    return {
        "a path with ..": (archive(entry(f"{up}{outside}/written", b"x")), "written"),
        "an absolute symbolic link": (archive(symlink("a", str(outside)), entry("a/written", b"x")), "a/written"),
        "a chain of symbolic links": (
            archive(symlink("a", "b"), symlink("b", f"{up}{outside}"), entry("a/written", b"x")), "a/written",
        ),
        "a hard link out": (
            archive(entry("a", kind=tarfile.LNKTYPE, link=f"{up}{outside}/canary"), entry("a", b"dead")), '"a"',
        ),
        "a device": (archive(device), "device"),
        "10 GiB of nothing": (archive(big), "big.*more than"),
        "a broken digest": (content(_changed_layer), "digest|sha256"),
        "a truncated tar": (saved([base])[:500_000], "truncated|unexpected EOF|ends"),
        "a manifest that names a missing layer": (content(_missing_layer), "missing"),
        "no tar at all": (b"#!/bin/sh\n" * 1000, "tar|manifest"),
    }  # fmt: skip


def _changed_layer(files, digests):
    name = f"{digests[1]}/layer.tar"
    return files | {name: files[name].replace(b"app-v2", b"app-v3")}


def _missing_layer(files, digests):
    return {n: c for n, c in files.items() if not n.startswith(digests[1])}
