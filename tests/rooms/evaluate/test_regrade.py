"""Marks that the card computes again from a report's rows, worked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from charter.ground.artifact.recount import flag_problems
from charter.ground.sandbox.program import Verdict
from charter.rooms.evaluate.catalogue import TASKS
from charter.rooms.evaluate.task import Rule
from charter.rooms.evaluate.tasks.humaneval import RAN
from charter.rooms.evaluate.verify import overlap

Rows = list[dict[str, Any]]


def test_each_verdict_of_a_sandbox_is_an_outcome() -> None:
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
)
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
