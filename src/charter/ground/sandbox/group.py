"""A control group for each sandbox, where this process may make one: the kernel counts what its processes hold.

Unlike the look from outside (`memory`), the kernel counts at every allocation, and counts its own for them too:
buffers of pipes and sockets, page tables, files of /box. At the limit it ends them. Both versions are used: of
cgroups(7) version 2 where a folder above passes memory on, of version 1 the folder of this process.
"""

import functools
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_NAME = "charter-sandbox"
_turn = itertools.count()
_JOIN = 'echo 0 > "$1" && shift && exec "$@"'  # the shell joins, and becomes the command
_OWN = 4  # processes that contain the others: process 1, who started it, who maps its user; one to spare


@dataclass(frozen=True)
class Group:
    """A control group of one sandbox."""

    folder: Path
    events: str  # the file that counts, in a line "oom_kill N", whom the kernel ended

    def joining(self, command: list[str]) -> list[str]:
        """A command that joins the group, then is the one that was given, with the same process id."""
        return ["/bin/sh", "-c", _JOIN, "sh", str(self.folder / "cgroup.procs"), *command]

    def broken(self) -> bool:
        """Whether the kernel ended a process of the group for memory."""
        counts = dict(line.split()[:2] for line in (self.folder / self.events).read_text().splitlines())
        return counts.get("oom_kill", "0") != "0"


@dataclass(frozen=True)
class Place:
    """A folder in which control groups that count memory can be made."""

    version: int
    folder: Path

    @contextmanager
    def group(self, memory: int, processes: int) -> Iterator[Group]:
        """A new group that holds `memory` bytes and no swap; it is removed at the end, when its processes must
        have ended. Raises OSError where it can't be made."""
        folder = self.folder / f"{_NAME}-{os.getpid()}-{next(_turn)}"
        folder.mkdir()
        try:
            if self.version == 2:
                _write(folder, "memory.max", memory)
                _write(folder, "memory.oom.group", 1)
                for name, value in (("memory.swap.max", 0), ("pids.max", processes + _OWN)):
                    if (folder / name).exists():
                        _write(folder, name, value)
            else:
                _write(folder, "memory.limit_in_bytes", memory)
                if (folder / "memory.memsw.limit_in_bytes").exists():
                    _write(folder, "memory.memsw.limit_in_bytes", memory)
            yield Group(folder, "memory.events" if self.version == 2 else "memory.oom_control")
        finally:
            _remove(folder)


@functools.cache
def place() -> Place | None:
    """Where groups can be made here, found by making one and joining it; None where that fails."""
    if sys.platform != "linux":
        return None
    for found in _candidates():
        try:
            with found.group(64 << 20, 16) as group:
                subprocess.run(group.joining(["true"]), check=True, capture_output=True)
                group.broken()
        except (OSError, ValueError, subprocess.CalledProcessError):
            continue
        for left in found.folder.glob(f"{_NAME}-*"):  # of a Charter that was killed
            if not psutil.pid_exists(int(left.name.split("-")[2])):
                with suppress(OSError):
                    left.rmdir()
        return found
    return None


def _candidates() -> Iterator[Place]:
    """The folders to try: of version 2 those above this process that pass memory on, then that of version 1."""
    mounts = [line.split() for line in _lines("/proc/self/mountinfo")]
    for line in sorted(_lines("/proc/self/cgroup")):  # 0, version 2, is the first
        number, controllers, path = line.split(":", 2)
        version = 2 if number == "0" else 1
        if version == 1 and "memory" not in controllers.split(","):
            continue
        for mount in mounts:
            root, point, kind, options = mount[3], mount[4], mount[-3], mount[-1].split(",")
            if kind != ("cgroup2" if version == 2 else "cgroup") or (
                version == 1 and "memory" not in options
            ):
                continue
            top = Path(point)
            own = top / path.removeprefix(root).lstrip("/")
            if version == 1:
                yield Place(1, own)
                continue
            for folder in (own, *own.parents):
                if folder.is_relative_to(top) and "memory" in _lines(folder / "cgroup.subtree_control", " "):
                    yield Place(2, folder)


def _lines(path: str | Path, end: str = "\n") -> list[str]:
    try:
        return Path(path).read_text().strip().split(end)
    except OSError:
        return []


def _write(folder: Path, name: str, value: int) -> None:
    (folder / name).write_text(str(value))


def _remove(folder: Path) -> None:
    """Remove a group; its last process may still be leaving it."""
    for _ in range(100):
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.01)
        else:
            return
