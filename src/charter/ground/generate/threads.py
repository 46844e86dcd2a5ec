"""How many threads a step of the engine computes with, where people wait for replies: as many as cores are idle.

On a busy machine each product waits for a thread that has no core. Idle cores are counted from processor times: those
of the machine less those of this process. Rooms keep their threads, since runs promise equal bits.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import torch

LOOK_SECONDS = 0.5  # between two looks at the machine
SLACK = 0.3  # part of a core that may be busy and counts as idle
LATE_SECONDS = 10.0  # of steps, after which they may count as slow
SLOW = 10  # times as long as the processor worked: the machine is busy

Times = tuple[float, float, float]


def _times() -> Times:
    """Seconds now, and of processors: all that worked, and for this process."""
    cpu = psutil.cpu_times()
    idle = cpu.idle + getattr(cpu, "iowait", 0.0)
    return time.monotonic(), sum(cpu[: min(8, len(cpu))]) - idle, time.process_time()


class Threads:
    """The threads of one engine, for the thread that steps it. The number that torch had at first is the most."""

    def __init__(
        self,
        times: Callable[[], Times] = _times,
        put: Callable[[int], object] = torch.set_num_threads,
        say: Callable[[str], object] = lambda line: print(line, file=sys.stderr),
    ) -> None:
        """`times`, `put`, `say`: the machine's."""
        self._times, self._put, self._say = times, put, say
        self._most = self._now = self.idle = torch.get_num_threads()
        self._last = times()
        self._wall = self._worked = 0.0
        self._said = False

    @property
    def count(self) -> int:
        """The threads for a step."""
        return min(self._most, self.idle)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Computes the block's step with the threads for it, and says once that the machine is busy if steps take ten
        times as long as the processor works on them."""
        self._look()
        if (count := self.count) != self._now:
            self._put(count)
            self._now = count
        began, worked = time.monotonic(), time.thread_time()
        try:
            yield
        finally:
            self._wall += time.monotonic() - began
            self._worked += time.thread_time() - worked
            self._tell()

    def _look(self) -> None:
        """Counts the idle cores again, now and then."""
        now = self._times()
        seconds, busy, own_seconds = (new - old for new, old in zip(now, self._last, strict=True))
        if seconds >= LOOK_SECONDS:
            self._last = now
            free = (psutil.cpu_count() or 1) - max(0.0, busy - own_seconds) / seconds
            self.idle = max(1, math.floor(free + SLACK))

    def _tell(self) -> None:
        if self._wall < LATE_SECONDS:
            return
        if not self._said and self._wall > SLOW * self._worked:
            share = 100 * self._worked / self._wall
            self._say(
                f"charter: this machine is busy: replies get {share:.0f} % of a core; end other programs, or give "
                "--threads 1"
            )
            self._said = True
        self._wall = self._worked = 0.0
