"""Control groups of version 1 and 2, as far as these tests need them."""

import os
from pathlib import Path

from polling import wait_until

MOUNT = Path("/sys/fs/cgroup")


class NotHere(Exception):
    """Why no group can be made here."""


class Group:
    """A control group below our own, whose processes together get no more than `limit` bytes."""

    def __init__(self, limit):
        self.is_v2 = (MOUNT / "cgroup.controllers").is_file()
        root = MOUNT if self.is_v2 else MOUNT / "memory"
        self.folder = root / own_path("" if self.is_v2 else "memory") / f"onnxd-test-{os.getpid()}"
        try:
            if self.is_v2:
                (self.folder.parent / "cgroup.subtree_control").write_text("+memory")
            self.folder.mkdir()
            self._file("memory.max", "memory.limit_in_bytes").write_text(str(limit))
        except OSError as error:
            raise NotHere(f"no control group with a limit on memory can be made here: {error}") from error

    def enter(self):
        """Puts the calling process in; for preexec_fn."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def kills(self):
        """How many processes were killed because the memory had run out."""
        text = self._file("memory.events", "memory.oom_control").read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])

    def remove(self):
        """Once what was in it has ended."""
        wait_until(lambda: not (self.folder / "cgroup.procs").read_text(), 30, "the group is empty")
        self.folder.rmdir()

    def _file(self, v2, v1):
        return self.folder / (v2 if self.is_v2 else v1)


def own_path(controller):
    """The path of our own group, without its first slash."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.lstrip("/")
    raise NotHere("this process is in no control group for memory")
