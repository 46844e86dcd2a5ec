"""Progress of a whole run: the step's name on its bars, and the time until the run ends."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from charter.ground.artifact.progress import LEFT_IN_RUN, Bar, Progress

# Minutes that any step takes besides its work: reading models, writing and hashing its product.
START = 2 / 60
# The weight of the estimates against finished steps: this share of the run, or at least this many minutes.
PRIOR = 0.1, 1.0
# Minutes after which a bar's own pace counts.
KNOWN = 0.5
# The largest scale: time beyond it says nothing about other steps.
MOST = 4.0
# A step this many times as long as estimated, and for at least this many minutes, says that the machine is busy.
SLOW = 10.0, 1.0
# A shown end of the run moves to a new one in about this share of the time left, or at least in these minutes.
SMOOTH = 0.1, 0.5


class Pace:
    """The minutes until the run ends: `charter plan`'s estimates for the unfinished steps and the start of each, scaled
    by how the finished steps compared with theirs. Steps without an estimate count nothing.

    The scale is (spent + w) / (expected + w), at most `MOST`, with w the weight of the estimates. So steps of seconds
    can't multiply hours, and a large finished step counts nearly alone. A step that takes longer than estimated counts
    with its time so far, and never ends before its bar does. `jobs`: the number of steps that run at a time."""

    def __init__(self, estimates: Mapping[str, float | None], jobs: int = 1) -> None:
        self._waiting = {name: minutes + START for name, minutes in estimates.items() if minutes is not None}
        self._jobs = jobs
        self._expected = self._spent = 0.0
        # the start of each running step, in seconds
        self._began: dict[str, float] = {}
        # when the end of the run was last shown, and that end, in minutes
        self._shown: tuple[float, float] | None = None
        self._said_slow = False

    def begin(self, step: str, before: float = 0.0) -> None:
        """A step starts, or resumes after `before` minutes of earlier work."""
        self._began[step] = time.monotonic() - 60 * before

    def skip(self, step: str) -> None:
        """A step needs no work, or waits for people."""
        self._waiting.pop(step, None)
        self._began.pop(step, None)

    def finish(self, step: str) -> None:
        """A running step is done."""
        elapsed = self._elapsed(step)
        self._began.pop(step, None)
        estimate = self._waiting.pop(step, None)
        if estimate is not None:
            self._expected += estimate
            self._spent += elapsed

    def remaining(self, step: str = "", bar: float = 0.0) -> float | None:
        """Minutes until the run is done, None if no unfinished step has an estimate. `bar`: minutes until the bar of a
        running step is full, by its own pace. Assumes that all jobs are busy until the end."""
        if not self._waiting:
            return None
        scale = self._scale()
        running = [
            max(bar if name == step else 0.0, scale * self._waiting.get(name, 0.0) - self._elapsed(name))
            for name in self._began
        ]
        idle = [scale * minutes for name, minutes in self._waiting.items() if name not in self._began]
        return max([*running, *idle, (sum(running) + sum(idle)) / self._jobs])

    def smoothed(self, step: str = "", bar: float = 0.0) -> float | None:
        """`remaining` without its jumps: the end of the run moves a part of the way to each new one, by the time since
        the last."""
        minutes = self.remaining(step, bar)
        if minutes is None:
            return None
        now = time.monotonic() / 60
        end = now + minutes
        if self._shown is not None:
            before, shown_end = self._shown
            share, least = SMOOTH
            end = shown_end + (end - shown_end) * -math.expm1((before - now) / max(share * minutes, least))
        self._shown = now, end
        return max(0.0, end - now)

    def slow(self, step: str) -> str:
        """A line for the first step that runs at less than a tenth of the plan's speed, else ""."""
        times, least = SLOW
        elapsed, estimate = self._elapsed(step), self._waiting.get(step)
        if self._said_slow or estimate is None or elapsed < max(times * estimate, least):
            return ""
        self._said_slow = True
        longer = f"{step} takes {elapsed / estimate:.0f} times as long as planned"
        return f"{longer}: if other programs keep this machine busy, end them"

    def _scale(self) -> float:
        """How many times longer than their estimates the steps take."""
        share, least = PRIOR
        weight = max(share * (self._expected + sum(self._waiting.values())), least)
        spent, expected = self._spent + weight, self._expected + weight
        for step in self._began:
            estimate, elapsed = self._waiting.get(step), self._elapsed(step)
            if estimate is not None and elapsed > estimate:
                spent, expected = spent + elapsed, expected + estimate
        return min(spent / expected, MOST)

    def _elapsed(self, step: str) -> float:
        return (time.monotonic() - self._began.get(step, time.monotonic())) / 60


def spell_minutes(minutes: float) -> str:
    """'under a minute', '34 minutes', '2.5 hours'."""
    if round(minutes) < 1:
        return "under a minute"
    if minutes >= 120:
        return f"{minutes / 60:.1f} hours"
    return "1 minute" if round(minutes) == 1 else f"{minutes:.0f} minutes"


class PacedProgress:
    """The progress of one step: its bars show the time until the run ends."""

    def __init__(self, progress: Progress, step: str, pace: Pace) -> None:
        self._progress, self._step, self._pace = progress, step, pace

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
        """A bar of the step."""
        return self._bar(description, total, done)

    @contextmanager
    def _bar(self, description: str, total: int, done: int) -> Iterator[Bar]:
        with self._progress.bar(description, total, done) as bar:
            yield _StepBar(bar, self, self._pace, total - done)

    def note(self, text: str) -> None:
        """One line."""
        self._progress.note(text)

    @property
    def step(self) -> str:
        """The name of the step."""
        return self._step


class StepProgress(PacedProgress):
    """The same, with the step's name at the start of its bars."""

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
        """A bar of the step."""
        return super().bar(f"{self._step}: {description}", total, done)


class _StepBar:
    """A bar that shows the time until the run ends, if it is known."""

    def __init__(self, bar: Bar, progress: PacedProgress, pace: Pace, missing: int) -> None:
        self._bar, self._progress, self._pace = bar, progress, pace
        self._made, self._missing, self._began = 0, missing, time.monotonic()

    def advance(self, n: int = 1, **labels: object) -> None:
        """Adds n; the time left comes after the other values."""
        self._made, self._missing = self._made + n, self._missing - n
        elapsed = (time.monotonic() - self._began) / 60
        has_pace = elapsed >= KNOWN and self._made > 0
        minutes = self._pace.smoothed(
            self._progress.step, elapsed / self._made * max(0, self._missing) if has_pace else 0.0
        )
        run = {} if minutes is None else {LEFT_IN_RUN: spell_minutes(minutes)}
        self._bar.advance(n, **labels, **run)
        if line := self._pace.slow(self._progress.step):
            self._progress.note(line)
