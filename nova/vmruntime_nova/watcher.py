"""Sees that an instance has ended by itself. Pure: who calls observe, and how often, is the driver's."""

from collections.abc import Mapping

# States in which the container's process is there.
ALIVE = frozenset({"running", "paused"})


class Watcher:
    """Compares what the runtime says with what it said before."""

    def __init__(self) -> None:
        self._alive: set[str] = set()

    def observe(self, statuses: Mapping[str, str]) -> list[str]:
        """The names of those that have ended since the last call. One that is gone altogether was deleted."""
        ended = sorted(name for name in self._alive if statuses.get(name) == "stopped")
        self._alive = {name for name, status in statuses.items() if status in ALIVE}
        return ended
