"""A control group for each sandbox, if this process may make one: the kernel counts the memory of its processes.

Unlike the look from outside (`memory`), the kernel counts at every allocation, and also counts its own memory for
them: buffers of pipes and sockets, page tables, files of /box. At the limit it kills them. Both versions of cgroups(7)
work: version 2 if a folder above delegates memory, version 1 in the folder of this process.
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
_OWN = 4  # processes beside the command's: process 1, its starter, the mapper of its user; one to spare


@dataclass(frozen=True)
class Group:
    """A control group of one sandbox."""

    folder: Path
    events: str  # the file whose line "oom_kill N" counts the processes that the kernel killed

    def joining(self, command: list[str]) -> list[str]:
        """A command that joins the group and then becomes `command`, with the same process id."""
        return ["/bin/sh", "-c", _JOIN, "sh", str(self.folder / "cgroup.procs"), *command]

    def broken(self) -> bool:
        """Whether the kernel killed a process of the group for its memory."""
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
        have ended. Raises OSError if it can't be made."""
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
    """The folder for groups on this machine, found by making a group and joining it; None if that fails."""
    if sys.platform != "linux":
        return None
    for candidate in _candidates():
        try:
            with candidate.group(64 << 20, 16) as group:
                subprocess.run(group.joining(["true"]), check=True, capture_output=True)
                group.broken()
        except (OSError, ValueError, subprocess.CalledProcessError):
            continue
        for leftover in candidate.folder.glob(f"{_NAME}-*"):  # of a Charter that was killed
            if not psutil.pid_exists(int(leftover.name.split("-")[2])):
                with suppress(OSError):
                    leftover.rmdir()
        return candidate
    return None


def _candidates() -> Iterator[Place]:
    """The folders to try: for version 2 those above this process that delegate memory, then that of version 1."""
    mounts = [line.split() for line in _lines("/proc/self/mountinfo")]
    for line in sorted(_lines("/proc/self/cgroup")):  # 0, version 2, is the first
        number, controllers, path = line.split(":", 2)
        version = 2 if number == "0" else 1
        if version == 1 and "memory" not in controllers.split(","):
            continue
        for mount in mounts:
            root, point, kind, options = mount[3], mount[4], mount[-3], mount[-1].split(",")
            if kind != ("cgroup2" if version == 2 else "cgroup") or (version == 1 and "memory" not in options):
                continue
            top = Path(point)
            start = top / path.removeprefix(root).lstrip("/")
            if version == 1:
                yield Place(1, start)
                continue
            for folder in (start, *start.parents):
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
