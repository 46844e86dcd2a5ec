"""The time left of a run: the plan's estimates, scaled by how finished steps compared with theirs."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from charter.ground.artifact.progress import Bar
from charter.runner.pace import START, Pace, StepProgress, spell_minutes


class Clock:
    """A clock that the test sets, in minutes."""

    def __init__(self) -> None:
        self.minutes = 0.0

    def __call__(self) -> float:
        return 60 * self.minutes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(time, "monotonic", fake)
    return fake


# Estimated and actual minutes of the steps of recipes/scratch.yaml on two cores.
SCRATCH = {
    "corpus": (0.560, 0.314), "ladder_1": (0.106, 0.556), "ladder_2": (0.308, 0.845), "ladder_3": (1.229, 1.957),
    "base": (13.722, 12.512), "law": (0.300, 0.042), "long": (0.852, 2.576), "start": (0.283, 0.314),
    "debiased": (0.022, 0.036), "taught": (0.330, 0.504), "revisions": (0.018, 0.043), "sl_cai": (0.015, 0.025),
    "labels": (0.010, 0.016), "pm_reward": (0.146, 0.176), "pm_grader": (0.146, 0.176), "rater": (0.092, 0.099),
    "rl": (0.019, 0.031), "eval_start": (0.011, 0.028), "eval_taught": (0.011, 0.024), "eval_sl_cai": (0.011, 0.022),
    "eval_rl": (0.013, 0.026), "bench_start": (0.018, 0.132), "bench_rl": (0.018, 0.111), "votes": (0.011, 0.026),
    "reviews": (0.008, 0.004), "card": (0.100, 0.103),
}  # fmt: skip


def test_estimates_are_scaled_by_the_finished_steps(clock: Clock) -> None:
    minutes = {"old": 7.0, "a": 10.0, "b": 20.0, "c": None, "d": 4.0}
    pace = Pace({name: m if m is None else m - START for name, m in minutes.items()})
    pace.skip("old")
    pace.begin("a")
    assert pace.remaining() == pytest.approx(34)
    clock.minutes = 4
    assert pace.remaining() == pytest.approx(30)
    clock.minutes = 15
    scale = (15 + 3.4) / (10 + 3.4)  # the estimates weigh as much as a tenth of the run
    assert pace.remaining() == pytest.approx(scale * 24)  # the step takes longer than was thought, by an unknown time
    pace.finish("a")
    pace.begin("b", before=6.0)
    assert pace.remaining() == pytest.approx(scale * 24 - 6)
    clock.minutes = 24
    pace.finish("b")
    pace.begin("c")
    assert pace.remaining() == pytest.approx(4)  # both together took what was thought
    pace.finish("c")
    pace.begin("d")
    pace.finish("d")
    assert pace.remaining() is None


def test_a_real_run_is_foretold_within_a_factor_of_two_from_its_first_step_on(clock: Clock) -> None:
    pace = Pace({name: estimate for name, (estimate, _) in SCRATCH.items()})
    for name, (estimate, took) in SCRATCH.items():
        pace.begin(name)
        if estimate is not None:
            truth = sum(actual for _, actual in SCRATCH.values()) - clock.minutes
            minutes = pace.remaining()
            assert minutes is not None and 0.5 < minutes / truth < 2, name
        clock.minutes += took
        pace.finish(name)
    assert pace.remaining() is None


def test_steps_side_by_side_share_what_is_left(clock: Clock) -> None:
    minutes = {"a": 10.0, "b": 20.0, "c": 6.0}
    pace = Pace({name: m - START for name, m in minutes.items()}, jobs=2)
    pace.begin("a")
    pace.begin("b")
    assert pace.remaining() == pytest.approx(20)  # of the longest, not the 18 of all in two processes
    clock.minutes = 10
    pace.finish("a")
    pace.begin("c")
    assert pace.remaining() == pytest.approx(10)
    assert pace.remaining("c", 12.0) == pytest.approx(12)  # as its bar says
    clock.minutes = 16
    pace.finish("c")
    assert pace.remaining() == pytest.approx(4)
    pace.skip("b")
    assert pace.remaining() is None


def test_the_time_shown_does_not_jump(clock: Clock) -> None:
    pace = Pace({"a": 20.0 - START})
    pace.begin("a")
    assert pace.smoothed("a") == pytest.approx(20)
    clock.minutes = 1
    assert pace.smoothed("a") == pytest.approx(19)
    clock.minutes = 1.1
    jump = pace.smoothed("a", 40.0)
    assert jump is not None and 18.9 < jump < 21, "a bar that suddenly says 40 moves it a little"
    for _ in range(200):
        clock.minutes += 0.1
        shown = pace.smoothed("a", 40.0)
    assert shown == pytest.approx(40.0, abs=4.5), "if it goes on saying so, the time follows"
    pace.finish("a")
    assert pace.smoothed() is None


@pytest.mark.parametrize(("took", "most"), [(1.0, 1.3), (100.0, 4.0)])
def test_no_step_of_seconds_multiplies_what_is_left(clock: Clock, took: float, most: float) -> None:
    pace = Pace({"tiny": 0.001, "hour": 60.0})
    pace.begin("tiny")
    clock.minutes = took
    pace.finish("tiny")
    pace.begin("hour")
    minutes = pace.remaining()
    assert minutes is not None and 60 < minutes <= most * (60 + START)


@pytest.mark.parametrize(
    ("minutes", "words"), [(0.0, "under a minute"), (1.2, "1 minute"), (34.4, "34 minutes"), (150.0, "2.5 hours")]
)
def test_minutes_in_words(minutes: float, words: str) -> None:
    assert spell_minutes(minutes) == words


def test_a_step_at_under_a_tenth_of_the_planned_speed_is_told_once(clock: Clock) -> None:
    pace = Pace({"start": 0.5 - START, "short": 0.02 - START, "rl": 0.5 - START, "unknown": None})
    for name in ("start", "short", "rl", "unknown"):
        pace.begin(name)
    clock.minutes = 0.9
    assert not any(pace.slow(name) for name in ("start", "short", "rl", "unknown")), "seconds are no news"
    clock.minutes = 4.9
    assert not pace.slow("start") and not pace.slow("unknown")
    clock.minutes = 6.0
    assert pace.slow("start").startswith("start takes 12 times as long as planned: ")
    assert not pace.slow("rl"), "one line is enough"


def test_bars_name_their_step_and_say_what_is_left_of_the_run(clock: Clock) -> None:
    calls: list[object] = []

    class Seen:
        def advance(self, n: int = 1, **labels: object) -> None:
            calls.append((n, labels))

        def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
            return self._bar(description, total, done)

        @contextmanager
        def _bar(self, *arguments: object) -> Iterator[Bar]:
            calls.append(arguments)
            yield self

        def note(self, text: str) -> None:
            calls.append(text)

    pace = Pace({"start": 5.0})
    pace.begin("start")
    progress = StepProgress(Seen(), "start", pace)
    progress.note("hello")
    with progress.bar("finetune", 183, 2) as bar:
        bar.advance(3, loss=0.5)
        clock.minutes = 4
        bar.advance(37)
        clock.minutes = 51
        bar.advance(0)
        pace.finish("start")
        bar.advance()
    assert calls == [
        "hello",
        ("start: finetune", 183, 2),
        (3, {"loss": 0.5, "left in the run": "5 minutes"}),
        # 40 of 181 in 4 minutes: 14 minutes and not the one that the plan says, and the clock goes there by and by
        (37, {"left in the run": "13 minutes"}),
        (0, {"left in the run": "2.7 hours"}),
        "start takes 10 times as long as planned: if other programs keep this machine busy, end them",
        (1, {}),
    ]
