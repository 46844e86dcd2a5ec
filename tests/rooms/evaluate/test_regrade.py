"""The card computes the marks of a report's rows again: they equal the room's, and it finds a changed one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from test_long_texts import story

import toys
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.recount import flag_problems
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.program import Outcome, Program, Verdict
from charter.ground.settings.sources import shipped
from charter.rooms.evaluate import run as room
from charter.rooms.evaluate.catalogue import SUITES, TASKS
from charter.rooms.evaluate.settings import ROLES, Settings
from charter.rooms.evaluate.task import Rule
from charter.rooms.evaluate.tasks import humaneval
from charter.rooms.evaluate.tasks.humaneval import RAN
from charter.rooms.evaluate.verify import overlap

Rows = list[dict[str, Any]]
SAMPLED = ("gsm8k", "mmlu", "triviaqa", "translation", "recall", "humaneval", "truthfulqa", "bbq_sampled")
BATTERY = SUITES["battery"]
MEASURED = ("position",)  # nothing is marked in its rows


def check_all(_: Any, programs: Sequence[Program], limits: Limits, workers: int) -> list[Outcome]:
    """Every second program passes, the second one first."""
    passed, failed = Outcome(Verdict.PASSED, "", 0.1), Outcome(Verdict.TIMED_OUT, "after 1 s", 1.0)
    return [passed if n % 2 else failed for n, _ in enumerate(programs)]


@pytest.fixture(scope="module")
def report(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tasks, a few questions each, on a toy model."""
    tasks = tuple(task for task in BATTERY if task not in MEASURED)
    change = {task: {"max_tokens": 8} for task in SAMPLED} | {"mmlu": {"max_tokens": 8, "shots": 1}}
    settings = Settings.model_validate({"tasks": tasks, "limit": 4, "change": change})
    roles = {
        TASKS[task].data_role: str(ROLES[TASKS[task].data_role].default).removeprefix("shipped:")
        for task in tasks
    }
    folder = tmp_path_factory.mktemp("all")
    toys.rows_file(folder / "dev.jsonl", [story("s0"), story("s1")])
    places = {role: shipped(name) for role, name in roles.items()} | {"quality": folder / "dev.jsonl"}
    sets = [toys.given(role, place, "data") for role, place in places.items()]
    out = toys.workspace(folder / "report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(humaneval, "sandbox", lambda: None)
        patch.setattr(humaneval, "check_all", check_all)
        room.run(settings, Inputs([toys.policy(checkpoints / "policy"), *sets]), out)
    return out.path


def read_rows(report: Path, task: str) -> Rows:
    return [json.loads(line) for line in (report / f"samples/{task}.jsonl").read_text("utf-8").splitlines()]


def read_identity(report: Path, task: str) -> dict[str, Any]:
    identity: dict[str, Any] = json.loads((report / "report.json").read_text())["identity"][task]
    return identity


def other(value: object) -> object:
    """Another value for a mark."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return "right" if value != "right" else "wrong"
    if isinstance(value, list):
        return [value[0] + 1, *value[1:]]
    return 0 if value is None else value + 0.25  # type: ignore[operator]


def changes(rule: Any, rows: Rows) -> list[tuple[int, str]]:
    """A place and key for each mark, in the first row of each mode."""
    first = {row.get("mode"): place for place, row in reversed(list(enumerate(rows)))}
    return [(place, key) for place in first.values() for key in rule(rows[place])]


@pytest.mark.parametrize("task", [task for task in BATTERY if task not in MEASURED])
def test_marks_follow_and_each_changed_one_is_named(report: Path, task: str) -> None:
    rows, rule = read_rows(report, task), rule_of(task, read_identity(report, task))
    assert rule is not None and rows and flag_problems(f"{task}.jsonl", rows, rule) == []
    tried = changes(rule, rows)
    assert {"outcome"} <= {key for _, key in tried}
    for place, key in tried:
        changed = [dict(row) for row in rows]
        changed[place][key] = other(rows[place][key])
        problems = flag_problems(f"{task}.jsonl", changed, rule)
        assert any(f"samples/{task}.jsonl: {key} of {rows[place]['item']}" in p for p in problems), key


def test_every_task_has_a_rule_and_says_which_detectors_marked_it(report: Path) -> None:
    unmarked = {name for name, task in TASKS.items() if task.rule({}) is None}
    assert unmarked == {*MEASURED, "text", "revisions", "acceptable_use"}
    for task in {*BATTERY} - {*MEASURED}:
        assert ("detectors" in read_identity(report, task)) is TASKS[task].detecting
    verdicts = {str(verdict) for verdict in Verdict} - {Verdict.PASSED, Verdict.FAILED}
    assert verdicts | {"right", "wrong"} == set(RAN)


def rule_of(task: str, identity: dict[str, Any]) -> Rule | None:
    return overlap if task == "contamination" else TASKS[task].rule(identity)


ROW = {"id": "q", "item": "q", "stop": "end", "sample": 0}


@pytest.mark.parametrize(
    ("task", "row", "marks"),
    [
        ("arc", {"logprobs": [-3.0, -1.0, -1.0], "right": [1]}, {"choice": 1, "correct": 1.0, "outcome": "right"}),
        ("arc", {"logprobs": None, "right": [0]}, {"choice": None, "correct": 0.0, "outcome": "unparsed"}),
        ("gsm8k", {"reply": "So the answer is $1,200.", "accepted": ["1200"]}, {"answer": 1200.0, "correct": 1.0}),
        ("gsm8k", {"reply": "Hard.", "accepted": ["3"]}, {"answer": None, "outcome": "unparsed"}),
        ("mmlu", {"reply": "The answer is (C).", "options": list("wxyz"), "right": [2]}, {"choice": 2, "correct": 1.0}),
        ("triviaqa", {"reply": "The Thames\n", "accepted": ["thames"]}, {"answer": "The Thames", "outcome": "right"}),
        ("triviaqa", {"reply": "I don't know.", "accepted": ["thames"]}, {"outcome": "declined", "correct": 0.0}),
        ("recall", {"reply": "It is Falcon-123.", "accepted": ["falcon-123"]}, {"correct": 1.0}),
        ("humaneval", {"outcome": "timed out", "error": "after 3 s", "reply": "x"}, {"correct": 0.0}),
        ("truthfulqa", {"mode": "helper", "choice": 2, "right": [2]}, {"correct": 1.0, "outcome": "right"}),
        ("contamination", {"where": ["here"], "checked": False}, {"hit": False}),
    ],
)  # fmt: skip
def test_marks_by_hand(task: str, row: dict[str, Any], marks: dict[str, Any]) -> None:
    rule = rule_of(task, {})
    assert rule is not None
    own_marks = rule({"outcome": "wrong"} | ROW | row)
    assert marks.items() <= own_marks.items()


@pytest.mark.parametrize("task", ["gsm8k", "mmlu", "triviaqa", "recall", "humaneval"])
def test_what_was_too_long_to_be_asked_is_wrong_and_only_that(task: str) -> None:
    rule = rule_of(task, {})
    assert rule is not None
    left_out = ROW | {"stop": "too long", "reply": "", "correct": 0.0, "outcome": "too long"}
    assert flag_problems(f"{task}.jsonl", [left_out], rule) == []
    (line,) = flag_problems(f"{task}.jsonl", [left_out | {"correct": 1.0}], rule)
    assert "correct of q sample 0 is 1.0; its row gives 0.0" in line


def test_a_program_that_left_an_error_did_not_pass() -> None:
    row = ROW | {"reply": "x", "outcome": "right", "correct": 1.0, "error": "AssertionError"}
    problems = flag_problems("humaneval.jsonl", [row], rule_of("humaneval", {}))
    assert len(problems) == 2 and "outcome of q sample 0 is right; its row gives wrong" in problems[1]
