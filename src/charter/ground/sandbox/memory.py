"""The memory of a sandbox, as seen from outside: a quick look while it is small, an exact one when it is large.

Without a control group, a look adds what the kernel may hold for processes: page tables, sockets, pipes. It can't see
small objects, such as descriptions of mappings.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_PIPE = 1 << 16  # bytes that a pipe holds, which the filter of calls keeps from growing
_SOCKET = 1.5  # times the default buffer: it is full when it is exceeded, by half of it at most


def measure_memory(pid: int, most: int, kernel: bool) -> int:
    """Bytes that all processes below `pid` hold. Up to `most` a shared page may count for each process; above it a
    page counts once, and the sum stops as soon as it exceeds `most`. With `kernel`, page tables count too, and for each
    pipe and Unix socket the most that its buffer can hold."""
    children = _below(pid)
    total = _unix_sockets(children[0]) if kernel and children else 0
    resident = 0
    for child in children:
        sizes = _sizes(f"/proc/{child}/status", "VmRSS", "VmPTE")
        resident += sizes.get("VmRSS", 0)
        total += sizes.get("VmPTE", 0) if kernel else 0
    if kernel and total <= most:
        total += _PIPE * len({pipe for child in children for pipe in _pipes(child)})
    if total > most or total + resident <= most:  # shared pages count several times here
        return total + resident
    for child in children:
        shares = _sizes(f"/proc/{child}/smaps_rollup", "Pss") or _sizes(f"/proc/{child}/status", "VmRSS")
        total += sum(shares.values())
        if total > most:
            break
    return total


def _below(pid: int) -> list[int]:
    """The processes below one, each after its parent. The kernel's own lists, if it keeps them, cost a twentieth of
    a walk through all processes."""
    try:
        pids = [pid]
        for process in pids:
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended
                for task in os.listdir(f"/proc/{process}/task"):
                    pids += map(int, Path(f"/proc/{process}/task/{task}/children").read_text().split())
        if len(pids) > 1:
            return pids[1:]
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _sizes(path: str, *names: str) -> dict[str, int]:
    """Values of a file of /proc, from kibibytes to bytes, by name; empty if the process ended or may not be read."""
    sizes = dict[str, int]()
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            name, _, size = line.partition(":")
            if name in names:
                sizes[name] = int(size.split()[0]) * 1024
    return sizes


def _pipes(pid: int) -> Iterator[tuple[int, int]]:
    """The device and inode of each open pipe of a process, with a name or without."""
    with suppress(OSError):  # it ended, or may not be read
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                status = os.stat(f"/proc/{pid}/fd/{number}")
                if stat.S_ISFIFO(status.st_mode):
                    yield status.st_dev, status.st_ino


def _unix_sockets(pid: int) -> int:
    """Unix sockets of a process's network namespace, by the kernel's count: it includes closed ones that hold unread
    data and ones that wait to be accepted."""
    with suppress(OSError):  # it ended
        rows = [line.split()[:3] for line in Path(f"/proc/{pid}/net/protocols").read_text().splitlines()]
        count = sum(int(row[2]) for row in rows if row[0].startswith("UNIX"))
        return int(count * _SOCKET * int(Path("/proc/sys/net/core/wmem_default").read_text()))
    return 0
