"""Honesty tasks in a whole report on a toy model: claims that don't follow from the kept rows."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import toys
from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.inputs import Inputs
from charter.ground.settings.sources import shipped
from charter.rooms.evaluate import claims
from charter.rooms.evaluate import run as room
from charter.rooms.evaluate.catalogue import SUITES, TASKS
from charter.rooms.evaluate.settings import ROLES, Settings

ABSTAIN = Settings(tasks=("known",), limit=12, change={"known": {"max_tokens": 6}}, honesty={"abstain": 0.75})  # type: ignore[arg-type]


def inputs(checkpoints: Path, *more: Any) -> Inputs:
    roles = dict.fromkeys(TASKS[name].data_role for name in SUITES["honesty"])
    data = [toys.given(role, shipped(f"{'world' if role == 'taught' else role}.heldout"), "data") for role in roles]
    assert roles.keys() <= ROLES.keys()
    return Inputs([toys.policy(checkpoints / "policy"), *data, *more])


def complaints(folder: Path, settings: Settings, parents: list[Any]) -> list[str]:
    manifest: Any = SimpleNamespace(parents=parents)
    report = read_object(folder / "report.json")
    return list(claims._honesty_problems(folder, manifest, settings, report))


def test_a_changed_threshold_is_found(tmp_path: Path, checkpoints: Path) -> None:
    out = toys.workspace(tmp_path / "out")
    room.run(ABSTAIN, inputs(checkpoints), out)
    assert complaints(out.path, ABSTAIN, []) == []
    report = read_object(out.path / "report.json")
    report["known"]["threshold"] += 0.1
    (out.path / "report.json").write_text(json.dumps(report))
    assert complaints(out.path, ABSTAIN, []) == [
        "report.json: the threshold of known is not the one that its pilot gives"
    ]


def test_a_changed_verdict_and_a_changed_baseline_are_found(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(tasks=("known",), limit=8, change={"known": {"max_tokens": 6}})  # type: ignore[arg-type]
    start, out = toys.workspace(tmp_path / "start"), toys.workspace(tmp_path / "out")
    room.run(settings, inputs(checkpoints), start)
    room.run(settings, inputs(checkpoints, toys.given("baseline", start.path, "report")), out)
    # only the way to the baseline's folder is replaced
    monkeypatch.setattr(claims, "run_of", lambda folder: folder)
    monkeypatch.setattr(claims, "find_parent", lambda run, parent: ("", start.path))
    parents = [SimpleNamespace(role="baseline")]
    report = read_object(out.path / "report.json")
    assert report["known"]["verdict"] == "no fall in wrong answers"
    assert complaints(out.path, settings, parents) == []
    (out.path / "report.json").write_text(
        json.dumps(report | {"known": report["known"] | {"verdict": "fewer wrong answers"}})
    )
    assert complaints(out.path, settings, parents) == [
        "report.json: the verdict on known doesn't follow from the kept rows"
    ]
    (out.path / "report.json").write_text(json.dumps(report))
    rows = read_objects(start.path / "samples/known.jsonl")
    toys.rows_file(start.path / "samples/known.jsonl", [row | {"outcome": "declined"} for row in rows])
    assert complaints(out.path, settings, parents) == [
        "samples/known.jsonl: an outcome in the baseline is not the one of its report"
    ]
