"""Worker processes: all cores do pieces of work. Results come in the order of the pieces, and few are under way.

Processes are spawned, not forked, because libraries with threads don't survive a fork. They end with the room, even if
it is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.environment import physical_cores

P = TypeVar("P")
R = TypeVar("R")
N = TypeVar("N")
_AHEAD = 2  # pieces under way for each process: while it does one, the next is ready

_KILLED = (
    "a worker process was killed, probably because memory ran out: set fewer `workers` and run again: finished work is "
    "kept; a smaller reading.batch_mib helps too, but starts over"
)

_working: list[Any] = []  # the work function of this process, set once at its start


class Crew(Generic[P, R]):
    """`count` processes (0: one for each core; 1: this one) that each run the function `make(*arguments)`."""

    def __init__(self, count: int, make: Callable[..., Callable[[P], R]], *arguments: object) -> None:
        self.count = count or physical_cores()
        self._pool = (
            None
            if self.count == 1
            else ProcessPoolExecutor(
                self.count, multiprocessing.get_context("spawn"), initializer=_start, initargs=(make, arguments)
            )
        )
        self._own = make(*arguments) if self._pool is None else None

    def __enter__(self) -> Crew[P, R]:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def results(self, pieces: Iterable[tuple[P, N]]) -> Iterator[tuple[N, R]]:
        """(note, result) of each piece, in order. Raises the errors of the work, and CharterError if a process
        died."""
        if self._own is not None:
            yield from ((note, self._own(piece)) for piece, note in pieces)
            return
        assert self._pool is not None
        under_way: deque[tuple[N, Future[R]]] = deque()
        try:
            for piece, note in pieces:
                under_way.append((note, self._pool.submit(_do, piece)))
                if len(under_way) > _AHEAD * self.count:
                    note, future = under_way.popleft()
                    yield note, future.result()
            for note, future in under_way:
                yield note, future.result()
        except BrokenProcessPool:
            raise CharterError(_KILLED) from None


def run_apart(make: Callable[..., Callable[[P], R]], arguments: Sequence[object], piece: P) -> R:
    """Runs one piece of work in its own process, which frees its memory at its end."""
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=_start, initargs=(make, tuple(arguments))
    ) as pool:
        try:
            result: R = pool.submit(_do, piece).result()
        except BrokenProcessPool:
            raise CharterError(_KILLED) from None
    return result


def _start(make: Callable[..., Callable[[Any], Any]], arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the room, which then ends its workers
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)  # the room was killed, so no more work will come

    threading.Thread(target=follow, name="charter-follow", daemon=True).start()
    _working[:] = [make(*arguments)]


def _do(piece: Any) -> Any:
    return _working[0](piece)
