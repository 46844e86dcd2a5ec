"""Rate limits: a token bucket for each caller, in this process's memory."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

CALLERS = 20_000  # remembered at a time; the one that was quiet longest is dropped first


class Limiter:
    """Lets each caller do `burst` things at once and `rate` a second afterwards."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, caller: str, cost: float = 1.0) -> float:
        """Takes `cost` from the caller's bucket and returns 0, or takes nothing and returns the seconds until that
        is possible."""
        with self._lock:
            now = self._clock()
            level, then = self._buckets.pop(caller, (self.burst, now))
            level = min(self.burst, level + (now - then) * self.rate)
            short = cost - level
            self._buckets[caller] = (level if short > 0 else level - cost, now)
            if len(self._buckets) > CALLERS:
                self._buckets.popitem(last=False)
            return max(0.0, short / self.rate)
