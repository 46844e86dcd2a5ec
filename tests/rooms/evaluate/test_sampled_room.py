"""The room on a toy model with sampled tasks: its kept rows, and a killed run that ends like an unbroken one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import toys
from charter.ground.artifact.inputs import Inputs
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.program import Outcome, Program, Verdict
from charter.ground.settings.sources import shipped
from charter.rooms.evaluate import run as room
from charter.rooms.evaluate.settings import ROLES, Settings
from charter.rooms.evaluate.tasks import humaneval
from reported import scores

NAMES = ("gsm8k", "humaneval", "mmlu", "triviaqa", "translation")
SETTINGS = Settings(
    tasks=NAMES,
    limit=5,
    chunk=3,
    change={task: {"max_tokens": 8} for task in NAMES} | {"mmlu": {"max_tokens": 8, "shots": 1}},
)


def check_all(_: Any, programs: Sequence[Program], limits: Limits, workers: int) -> list[Outcome]:
    return [Outcome(Verdict.FAILED, f"{len(p.solution)} characters", 0.1) for p in programs]


@pytest.fixture
def inputs(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    monkeypatch.setattr(humaneval, "sandbox", lambda: None)
    monkeypatch.setattr(humaneval, "check_all", check_all)
    sets = [toys.given(task, shipped(f"{task}.heldout"), "data") for task in NAMES]
    assert {entry.role for entry in sets} <= ROLES.keys()
    return Inputs([toys.policy(checkpoints / "policy"), *sets])


@pytest.mark.slow
def test_a_run_killed_anywhere_ends_as_one_never_stopped(tmp_path: Path, inputs: Inputs) -> None:
    whole = toys.workspace(tmp_path / "whole")
    room.run(SETTINGS, inputs, whole)
    rows = {task: (whole.path / "samples" / f"{task}.jsonl").read_text().splitlines() for task in NAMES}
    assert {task: len(lines) for task, lines in rows.items()} == dict.fromkeys(NAMES, 5) | {"translation": 15}
    values = {score.name: score.value for score in scores(whole.path)}
    assert {metric.name: metric.value for metric in whole.metrics} == pytest.approx(values)
    assert {"humaneval", "mmlu_subjects", "triviaqa_wrong", "translation_bleu"} <= values.keys()
    for after in (1, 4, 7, 10, 12):
        folder = tmp_path / f"killed-{after}"
        with pytest.raises(toys.Interrupted):
            room.run(SETTINGS, inputs, toys.workspace(folder, progress=toys.StoppingProgress(after)))
        again = toys.workspace(folder)
        room.run(SETTINGS, inputs, again)
        assert toys.files_of(again.path) == toys.files_of(whole.path), f"killed at step {after}"
