"""The speed of this machine: measured once, kept for its own CPU, and what forecasts make of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from charter.cli import doctor
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.ground.settings.room import ROW_TOKENS, TEMPLATE_TOKENS, Estimate, Sizes
from charter.runner import machine
from charter.runner.forecast import expected_minutes, forecast
from charter.runner.machine import COPIED, GFLOPS, MachineSpeed, best_rate, keep_speed, read_speed, speed_file
from charter.runner.pace import START
from charter.runner.plan import Plan, make_plan

REFERENCE = MachineSpeed(2, GFLOPS, COPIED)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARTER_CACHE", str(tmp_path / "cache"))


def test_the_reference_is_1_and_half_the_threads_are_no_slower_a_thread_than_they_scale() -> None:
    assert REFERENCE.factor == pytest.approx(1)
    assert MachineSpeed(2, 4 * GFLOPS, COPIED).factor == pytest.approx(2)
    one = MachineSpeed(1, GFLOPS / 1.6, COPIED / 1.6)
    assert one.factor == pytest.approx(1, abs=0.02)


def test_a_speed_is_kept_for_the_cpu_that_it_was_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_speed() is None
    keep_speed(REFERENCE)
    assert read_speed() == REFERENCE
    monkeypatch.setattr(machine, "physical_cores", lambda: 4096)
    assert read_speed() is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"speed": {"threads": 2}}'])
def test_a_damaged_file_is_no_speed(text: str) -> None:
    keep_speed(REFERENCE)
    speed_file().write_text(text)
    assert read_speed() is None


def test_a_speed_of_zero_is_none() -> None:
    keep_speed(MachineSpeed(2, 0.0, COPIED))
    assert read_speed() is None


def test_the_best_of_some_seconds_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lengths = [0.0], iter([0.5, 0.25, 0.8, 9.0])
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def work() -> None:
        now[0] += next(lengths)

    assert best_rate(work, 10.0) == 40.0


@pytest.fixture
def plan_of_rows(folder: Path) -> Callable[[], Plan]:
    def cost(settings: object, sizes: Sizes) -> Estimate:
        return Estimate(minutes=6.0 / sizes.speed(134_500_000))

    def plan() -> Plan:
        made = make_plan(load_recipe(folder / "recipe.yaml", ()), folder, folder / "run", Execution())
        for planned in made.steps:
            object.__setattr__(planned.room, "estimate", cost)
        return made

    return plan


def test_forecasts_follow_the_speed_and_count_the_start_of_each_step(plan_of_rows: Callable[[], Plan]) -> None:
    plan = plan_of_rows()
    assert list(expected_minutes(plan).values()) == [pytest.approx(6.0)] * 3
    keep_speed(MachineSpeed(2, GFLOPS / 4, COPIED))
    assert list(expected_minutes(plan).values()) == [pytest.approx(12.0)] * 3
    assert [line.estimate.minutes for line in forecast(plan) if line.estimate] == [pytest.approx(12 + START)] * 3
    assert json.loads(speed_file().read_text())["speed"]["threads"] == 2


def test_the_tokens_of_a_row_come_from_its_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of four times the text has four times the tokens, beside those of its template; its other columns count nothing. A row that a step makes
    has as many as its room says."""
    seen: list[tuple[float, ...]] = []

    def tokens(text: str) -> tuple[float, ...]:
        row = {"id": "a" * 500, "messages": [{"role": "user", "content": text}]}
        (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(3)))
        plan = make_plan(load_recipe(folder / "recipe.yaml", ()), folder, folder / "run", Execution())

        def cost(_: object, sizes: Sizes) -> Estimate:
            seen.extend(sizes.row_tokens(role) for role in sizes.each)
            return Estimate(1.0, row_tokens=7.0)

        for planned in plan.steps:
            object.__setattr__(planned.room, "estimate", cost)
        seen.clear()
        expected_minutes(plan)
        return seen[0]

    (short,), (long,) = tokens("x" * 90), tokens("x" * 360)
    assert (short, long) == (20.0 + TEMPLATE_TOKENS, 80.0 + TEMPLATE_TOKENS) and (7.0,) in seen


def test_without_text_a_row_has_the_usual_tokens() -> None:
    sizes = Sizes({"prompts": (3, 9)}, tokens={"prompts": (10.0, 90.0)})
    assert sizes.mean_tokens("prompts") == 70.0
    assert Sizes({"prompts": (3, 9)}).row_tokens("prompts") == (ROW_TOKENS, ROW_TOKENS)
    assert sizes.mean_tokens("none") == ROW_TOKENS


@pytest.mark.parametrize("idle", [True, False])
def test_a_speed_measured_on_a_busy_machine_is_not_kept(monkeypatch: pytest.MonkeyPatch, idle: bool) -> None:
    monkeypatch.setattr(doctor, "is_idle", lambda: idle)
    monkeypatch.setattr(doctor, "_measure", lambda: MachineSpeed(2, GFLOPS / 9, COPIED / 9))
    keep_speed(REFERENCE)
    line = doctor._speed(again=True)[2]
    assert ("not kept" in line) is not idle
    assert read_speed() == (MachineSpeed(2, GFLOPS / 9, COPIED / 9) if idle else REFERENCE)
