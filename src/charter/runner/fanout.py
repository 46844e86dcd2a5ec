"""Fanning out: workers of a Ray cluster make the chunks of steps, and this process leads.

This file doesn't need Ray, which is an extra; `ray_cluster.py` does, and loads only on demand.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.progress import Bar, Progress
from charter.ground.settings.environment import process_count
from charter.ground.settings.execution import Execution
from charter.ground.settings.extras import missing, need
from charter.runner.company import Company
from charter.runner.rooms import load_module

# Returns the labels beside a bar.
Labels = Callable[[], Mapping[str, object]]
LOCAL = "local"
# Ray reads these when it loads: it reports nothing to anyone, keeps GPUs visible to actors that ask for none, and keeps
# its processes' messages on lost workers in its logs.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
# In spite of its name: loopback interface only.
_LOCAL_ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@contextmanager
def fan_out(address: str | None, workers: int | None, execution: Execution, others: Company) -> Iterator[Company]:
    """The workers of a Ray cluster at an address, or of one that starts on this machine for `local`; `others` without
    an address.

    Raises CharterError if Ray isn't installed, can't be reached, or is another version.
    """
    if address is None:
        if workers is not None:
            raise CharterError("--workers counts the workers of --ray: write --ray local, or a cluster's address")
        yield others
        return
    if process_count() > 1:
        raise CharterError(
            "--ray and torchrun can't work on a run at once: learn under torchrun, then use --ray with the same "
            "command without torchrun, which continues in the same directory"
        )
    if missing("ray"):
        raise CharterError(need(f"--ray {address}", "ray"))
    for name, value in (_ENVIRONMENT | (_LOCAL_ENVIRONMENT if address == LOCAL else {})).items():
        os.environ.setdefault(name, value)
    with load_module("charter.runner.ray_cluster").cluster(address, workers, execution) as members:
        yield members


def spread(units: Sequence[int], workers: int | None) -> tuple[int, int]:
    """(workers, cores of each) on machines with `units` cores. Without a number of workers: one a core. Else each has
    the most cores with which all fit, and at least one.

    >>> spread([8, 8], 3)
    (3, 5)
    """
    most = sum(units)
    count = workers if workers is not None else max(1, most)
    each = 1
    while places(units, each + 1) >= count:
        each += 1
    return count, each


def places(units: Sequence[int], each: int) -> int:
    """How many workers with `each` cores fit.

    >>> places([8, 8], 5)
    2
    """
    return sum(unit // each for unit in units)


class WorkerProgress:
    """Progress whose bars show the number of workers."""

    def __init__(self, progress: Progress, labels: Labels) -> None:
        self._progress, self._labels = progress, labels

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
        """A bar with the number of workers beside it."""
        return self._bar(description, total, done)

    @contextmanager
    def _bar(self, description: str, total: int, done: int) -> Iterator[Bar]:
        with self._progress.bar(description, total, done) as bar:
            yield _WorkerBar(bar, self._labels)

    def note(self, text: str) -> None:
        """One line."""
        self._progress.note(text)


class _WorkerBar:
    def __init__(self, bar: Bar, labels: Labels) -> None:
        self._bar, self._labels = bar, labels

    def advance(self, n: int = 1, **labels: object) -> None:
        """Adds n."""
        self._bar.advance(n, **labels, **self._labels())
