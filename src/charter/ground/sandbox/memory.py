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


def exceeds(pid: int, most: int, kernel: bool) -> bool:
    """Whether all processes below one hold more than `most` bytes, a page that several share counted once. With
    `kernel`, page tables count too, and for each pipe and Unix socket the most that its buffer can hold."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return False
    total = _unix_sockets(children[0].pid) if kernel and children else 0
    resident = 0
    pipes = set[tuple[int, int]]()
    for child in children:
        with suppress(psutil.NoSuchProcess, OSError):
            if kernel:
                total += _page_tables(child.pid)
                pipes |= set(_pipes(child.pid))
            resident += child.memory_info().rss
    total += len(pipes) * _PIPE
    if total > most or total + resident <= most:  # what is shared counts too often here
        return total > most
    for child in children:
        with suppress(psutil.NoSuchProcess):
            try:
                total += child.memory_full_info().pss
            except psutil.AccessDenied:
                total += child.memory_info().rss
        if total > most:
            return True
    return False


def _page_tables(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmPTE:"):
            return int(line.split()[1]) * 1024
    return 0


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
