"""The time left of a run: the plan's estimates, scaled by how finished steps compared with theirs."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from charter.ground.artifact.progress import Bar
from charter.runner.pace import Pace, StepProgress, spell_minutes


class Clock:
    """A clock that is set by hand, in minutes."""

    def __init__(self) -> None:
        self.minutes = 0.0

    def __call__(self) -> float:
        return 60 * self.minutes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made)
    return made


def test_estimates_are_scaled_by_the_finished_steps(clock: Clock) -> None:
    pace = Pace({"old": 7.0, "a": 10.0, "b": 20.0, "c": None, "d": 4.0})
    pace.reused("old")
    pace.begin("a")
    assert pace.left() == 34
    clock.minutes = 4
    assert pace.left() == 30
    clock.minutes = 15
    assert pace.left() == 24  # the step takes longer than was thought, by an unknown time
    pace.finished("a")
    pace.begin("b", before=6.0)
    assert pace.left() == 1.5 * 24 - 6
    clock.minutes = 24
    pace.finished("b")
    pace.begin("c")
    assert pace.left() == 4.0  # both together took what was thought
    pace.finished("c")
    pace.begin("d")
    pace.finished("d")
    assert pace.left() is None


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(0.0, "under a minute"), (1.2, "1 minute"), (34.4, "34 minutes"), (150.0, "2.5 hours")],
)
def test_minutes_in_words(minutes: float, words: str) -> None:
    assert spell_minutes(minutes) == words


def test_bars_name_their_step_and_say_what_is_left_of_the_run(clock: Clock) -> None:
    seen: list[object] = []

    class Seen:
        def advance(self, n: int = 1, **shown: object) -> None:
            seen.append((n, shown))

        def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
            return self._bar(description, total, done)

        @contextmanager
        def _bar(self, *given: object) -> Iterator[Bar]:
            seen.append(given)
            yield self

        def note(self, text: str) -> None:
            seen.append(text)

    pace = Pace({"start": 5.0})
    pace.begin("start")
    progress = StepProgress(Seen(), "start", pace)
    progress.note("hello")
    with progress.bar("finetune", 183, 2) as bar:
        bar.advance(3, loss=0.5)
        pace.finished("start")
        bar.advance()
    assert seen == [
        "hello",
        ("start: finetune", 183, 2),
        (3, {"loss": 0.5, "left in the run": "5 minutes"}),
        (1, {}),
    ]
