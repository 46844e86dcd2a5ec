"""How fast this machine is against the one behind the rooms' rates: measured once, kept in the cache folder.

Both numbers are the best of some seconds, so that a busy machine is not taken for a slow one. The speed is their
geometric mean: learning waits for products, and sampling for memory.
"""

import json
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil

from charter.ground.artifact.store import atomic_write
from charter.ground.settings.environment import physical_cores
from charter.ground.settings.execution import instructions
from charter.ground.settings.places import cache_folder
from charter.ground.settings.room import THREADS

# what the machine of the measured rates gives on two threads, in float32
GFLOPS, COPIED = 260.0, 24.0
# names of the numbers of a speed in the file
KEYS = ("threads", "gflops", "copied")
# seconds of each measurement
SECONDS = 1.5


@dataclass(frozen=True)
class MachineSpeed:
    """Products of matrices in GFLOP/s (float32) and copies in GB/s (read and written), with that many threads."""

    threads: int
    gflops: float
    copy_gb_per_s: float

    @property
    def factor(self) -> float:
        """The speed of a thread, as a multiple of that behind the rooms' rates."""
        both = (self.gflops / GFLOPS * self.copy_gb_per_s / COPIED) ** 0.5
        return float(both / (self.threads / 2) ** THREADS)


def speed_file() -> Path:
    """Where the speed of this machine is kept."""
    return cache_folder() / "machine.json"


def read_speed() -> MachineSpeed | None:
    """The measured speed of this machine; None if there is none, or if it is of another CPU."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads(speed_file().read_text("utf-8"))
        speed = MachineSpeed(*(content["speed"][key] for key in KEYS))
        if content["machine"] == _machine() and min(speed.threads, speed.gflops, speed.copy_gb_per_s) > 0:
            return speed
    return None


def keep_speed(speed: MachineSpeed) -> None:
    """Keeps a measured speed for later forecasts. Raises OSError if the cache folder can't be written."""
    speed_file().parent.mkdir(parents=True, exist_ok=True)
    atomic_write(
        speed_file(),
        json.dumps({"machine": _machine(), "speed": dict(zip(KEYS, astuple(speed), strict=True))}, indent=1) + "\n",
    )


def is_busy() -> bool:
    """Whether other programs kept more than half of the cores at work during the last minute."""
    return psutil.getloadavg()[0] > physical_cores() / 2


def best_rate(work: Callable[[], object], amount: float) -> float:
    """The most of `amount` a second that a piece of work reached in some seconds."""
    least, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - start)
    return amount / least


def _machine() -> list[object]:
    """What tells this machine from another with the same cache folder."""
    return [platform.machine(), physical_cores(), instructions()]
