"""What a sandbox holds, as seen from outside: a look that is quick where little is held, and exact where much is.

Where no control group counts, a look adds what the kernel may hold for processes: page tables, sockets, pipes. Small
objects, such as descriptions of mappings, it can't see.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_PIPE = 1 << 16  # bytes that a pipe holds, which the filter of calls keeps from growing
_SOCKET = 1.5  # times the default buffer: it is full when it is exceeded, by half of it at most


def held(pid: int, most: int, kernel: bool) -> int:
    """Bytes that all processes below one hold. Up to `most` a page that several share may count for each; above it
    it counts once, and the sum ends where `most` is exceeded. With `kernel`, page tables count too, and for each
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
    if total > most or total + resident <= most:  # what is shared counts too often here
        return total + resident
    for child in children:
        shares = _sizes(f"/proc/{child}/smaps_rollup", "Pss") or _sizes(f"/proc/{child}/status", "VmRSS")
        total += sum(shares.values())
        if total > most:
            break
    return total


def _below(pid: int) -> list[int]:
    """The processes below one, each after its parent. The kernel's own lists, where it keeps them, cost a twentieth of
    a walk through all processes."""
    try:
        found = [pid]
        for one in found:
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended
                for task in os.listdir(f"/proc/{one}/task"):
                    found += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())
        if len(found) > 1:
            return found[1:]
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _sizes(path: str, *names: str) -> dict[str, int]:
    """Bytes that a file of /proc says in kibibytes, by name; none if the process ended or may not be looked into."""
    sizes = dict[str, int]()
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in names:
                sizes[name] = int(rest.split()[0]) * 1024
    return sizes


def _pipes(pid: int) -> Iterator[tuple[int, int]]:
    """The device and number of each pipe, with a name or without, that a process has open."""
    with suppress(OSError):  # it ended, or may not be looked into
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found = os.stat(f"/proc/{pid}/fd/{number}")
                if stat.S_ISFIFO(found.st_mode):
                    yield found.st_dev, found.st_ino


def _unix_sockets(pid: int) -> int:
    """Those of a process's network namespace, by what the kernel counts: one that is closed but holds what
    nobody has read is among them, and one that waits to be accepted."""
    with suppress(OSError):  # it ended
        rows = [line.split()[:3] for line in Path(f"/proc/{pid}/net/protocols").read_text().splitlines()]
        count = sum(int(row[2]) for row in rows if row[0].startswith("UNIX"))
        return int(count * _SOCKET * int(Path("/proc/sys/net/core/wmem_default").read_text()))
    return 0
