"""Reading principles: marks by hand, pairs right both ways, trivial rules, a labeller under test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from desk import short_settings

import toys
from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.model.sentence_encoder import PACKAGE, is_installed
from charter.ground.settings.sources import shipped
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.evaluate import run as room
from charter.rooms.evaluate.catalogue import TASKS
from charter.rooms.evaluate.tasks.principles import by_kind, marks


def row(item: str, label: float, better: int, flip_of: str = "") -> dict[str, Any]:
    made = {"id": "p", "item": item, "group": "brevity", "flip_of": flip_of, "label": label, "right": [better]}
    made |= {"principle": "Which is brief?", "replies": ["Be brief, and that is all of it.", "No."], "p_first": 0.5}
    return made | marks(made)


def test_marks_by_hand() -> None:
    first, flip, tied = row("a", 0.2, 1), row("af", 0.2, 0, "a"), row("b", 0.5, 0)
    assert (first["p_correct"], first["correct"]) == (0.8, 1.0)
    assert (flip["p_correct"], flip["correct"], tied["correct"]) == (0.2, 0.0, 0.5)
    rules = ("rule_longer", "rule_first", "rule_refusing", "rule_shared")
    assert [first[rule] for rule in rules] == [0.0, 0.0, 0.5, 0.0]
    assert [flip[rule] for rule in rules] == [1.0, 1.0, 0.5, 1.0]
    assert by_kind([first, flip, tied]) == {"brevity": {"correct": 0.5, "n": 3}}
    numbers = {metric.name: metric.table for metric in TASKS["principles"].numbers}
    values = {
        name: numbers[name]([first, flip, tied]).value
        for name in ("principles", "principles_flipped", "principles_both")
    }  # type: ignore[misc]
    assert values == {"principles": 0.5, "principles_flipped": 0.0, "principles_both": 0.0}


@pytest.mark.parametrize("name", ["principles.train", "principles.dev", "principles.test"])
def test_shipped_rows_give_trivial_rules_one_half(name: str) -> None:
    rows = read_jsonl(shipped(name))
    flips = {entry["flip_of"]: entry for entry in rows if entry["flip_of"]}
    base = [entry for entry in rows if not entry["flip_of"]]
    assert len(flips) == len(base)
    for entry in base:
        flip = flips[entry["id"]]
        assert flip["replies"] == entry["replies"] and flip["better"] == 1 - entry["better"]
        assert flip["principle"] != entry["principle"]
    marked = [
        marks({"principle": r["principle"], "replies": r["replies"], "right": [r["better"]], "label": 0.5})
        for r in rows
    ]
    for rule in ("longer", "first", "refusing"):
        assert sum(entry[f"rule_{rule}"] for entry in marked) == len(rows) / 2
    assert abs(sum(entry["rule_shared"] for entry in marked) / len(rows) - 0.5) < 0.06


def test_no_prompt_and_no_principle_is_both_taught_and_asked() -> None:
    sets = {name: read_jsonl(shipped(f"principles.{name}")) for name in ("train", "dev", "test")}
    for column in ("prompt", "principle"):
        texts = {name: {entry[column].lower() for entry in rows} for name, rows in sets.items()}
        texts["train"] |= {entry["principle"].lower() for entry in read_jsonl(shipped("principle_wordings.train"))}
        assert not texts["train"] & (texts["dev"] | texts["test"]) and not texts["dev"] & texts["test"]


def inputs(tmp_path: Path) -> Inputs:
    rows = read_jsonl(shipped("principles.dev"))[:6]
    data = toys.rows_file(tmp_path / "rows.jsonl", rows)
    labeller = toys.given("policy", toys.labeller_folder(tmp_path / "labeller"), "checkpoint", "labeller")
    return Inputs([labeller, toys.given("principles", data, "questions")])


@pytest.mark.skipif(not is_installed(), reason=f"the package {PACKAGE} is not installed")
def test_a_labeller_is_examined_and_asked_nothing_else(tmp_path: Path) -> None:
    out = toys.workspace(tmp_path / "report")
    room.run(short_settings("principles", limit=0, chunk=4), inputs(tmp_path), out)
    rows, report = read_objects(out.path / "samples/principles.jsonl"), read_object(out.path / "report.json")
    assert len(rows) == 6 and {entry["p_first"] for entry in rows} == {0.5}
    assert sum(kind["n"] for kind in report["principles"]["kinds"].values()) == 6
    words = toys.workspace(tmp_path / "other")
    others = Inputs([*inputs(tmp_path), toys.given("arc", shipped("arc.heldout"), "questions")])
    with pytest.raises(CharterError, match="takes principles alone"):
        room.run(short_settings("arc", limit=2, chunk=4), others, words)
