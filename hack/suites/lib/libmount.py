"""What crun's tests use of util-linux's libmount, which Debian 12 has not for Python."""


class Mount:
    def __init__(self, line):
        before, after = line.rstrip("\n").split(" - ", 1)
        fields = before.split(" ")
        self.target, self.vfs_options = fields[4], fields[5]
        self.fs_options = after.split(" ")[2]


class Table:
    """A mountinfo file."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as lines:
            self.mounts = [Mount(line) for line in lines if " - " in line]

    def find_target(self, target):
        """The mount that covers the others on target, or None."""
        return next((m for m in reversed(self.mounts) if m.target == target), None)
