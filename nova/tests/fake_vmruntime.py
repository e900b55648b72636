#!/usr/bin/python3 -IS
"""Stands in for vmruntime: its command line, and its state in a file below --root, but no machines.

Every call is a line of calls.log below the root. A file NAME.fail there makes the
command of that name fail with the file's text.
"""

import json
import os
import sys


def main():
    args = sys.argv[1:]
    root, log = "/run/vmruntime", None
    while args and args[0] in ("--root", "--log", "--log-format"):
        root = args[1] if args[0] == "--root" else root
        log = args[1] if args[0] == "--log" else log
        args = args[2:]
    if args == ["--version"]:
        print("vmruntime version 0.0-fake")
        return
    with open(root + "/calls.log", "a") as calls:
        calls.write(json.dumps(args) + "\n")
    words = 2 if args[0] == "image" else 1
    command, rest = "-".join(args[:words]), args[words:]
    trap = f"{root}/{command}.fail"
    if os.path.exists(trap):
        fail(open(trap).read(), log)
    state = State(root)
    COMMANDS[command](state, rest, log)
    state.save()


def fail(message, log=None):
    if log:
        with open(log, "a") as file:
            file.write(json.dumps({"level": "error", "msg": message}) + "\n")
    print(message, file=sys.stderr)
    sys.exit(1)


class State:
    def __init__(self, root):
        self.path = root + "/fake.json"
        self.containers, self.images = {}, {}
        if os.path.exists(self.path):
            with open(self.path) as file:
                self.containers, self.images = json.load(file)

    def save(self):
        with open(self.path + ".new", "w") as file:
            json.dump([self.containers, self.images], file)
        os.rename(self.path + ".new", self.path)

    def move(self, name, before, after):
        if self.containers.get(name) not in before:
            fail(f"container {name} is {self.containers.get(name)}")
        self.containers[name] = after


def create(state, args, log):
    name, bundle = args[-1], args[args.index("--bundle") + 1]
    if name in state.containers:
        fail(f"container {name} exists", log)
    with open(bundle + "/config.json") as file:
        json.load(file)
    state.containers[name] = "created"


def start(state, args, log):
    state.move(args[0], ["created"], "running")
    print("started", file=sys.stderr)


def list_(state, args, log):
    print(json.dumps([{"id": i, "status": s} for i, s in state.containers.items()] or None))


def show(state, args, log):
    if args[0] not in state.containers:
        fail("container does not exist")
    print(json.dumps({"id": args[0], "status": state.containers[args[0]]}))


def kill(state, args, log):
    state.move(args[0], ["created", "running"], "stopped")


def delete(state, args, log):
    state.containers.pop(args[-1], None)


def pause(state, args, log):
    state.move(args[0], ["running"], "paused")


def resume(state, args, log):
    state.move(args[0], ["paused"], "running")


def image_list(state, args, log):
    print(json.dumps([{"name": name} for name in state.images]))


def image_pull(state, args, log):
    with open(args[args.index("--header-file") + 1]) as headers:
        headers.read()
    state.images[args[args.index("--name") + 1]] = args[-1]
    print(json.dumps({"name": "x", "id": "sha256:0", "layers": [], "transferred": 1, "size": 2}))


def image_remove(state, args, log):
    del state.images[args[0]]


def image_gc(state, args, log):
    pass


def image_bundle(state, args, log):
    image = args[args.index("--image") + 1]
    if image not in state.images:
        fail(f"image {image}: not there")
    if "--" in args:
        bundle, command = args[args.index("--") - 1], args[args.index("--") + 1 :]
    else:
        bundle, command = args[-1], ["/bin/sh"]
    if os.path.exists(bundle + "/config.json"):
        return
    os.makedirs(bundle + "/rootfs", exist_ok=True)
    config = {
        "ociVersion": "1.0.2",
        "process": {"args": command, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts", "network")]},
        "annotations": {"org.opencontainers.image.stopSignal": "SIGQUIT"},
    }
    with open(bundle + "/config.json", "w") as file:
        json.dump(config, file)


def image_unbundle(state, args, log):
    if not os.path.exists(args[-1] + "/config.json"):
        fail(f"bundle {args[-1]}: it is not made of an image of this store")
    if "--keep" not in args:
        os.remove(args[-1] + "/config.json")
        os.rmdir(args[-1] + "/rootfs")
        os.rmdir(args[-1])


def image_commit(state, args, log):
    with open(args[args.index("-o") + 1], "w") as file:
        file.write("layers")


COMMANDS = {
    "create": create,
    "start": start,
    "state": show,
    "list": list_,
    "kill": kill,
    "delete": delete,
    "pause": pause,
    "resume": resume,
    "image-list": image_list,
    "image-pull": image_pull,
    "image-remove": image_remove,
    "image-gc": image_gc,
    "image-bundle": image_bundle,
    "image-unbundle": image_unbundle,
    "image-commit": image_commit,
}

main()
