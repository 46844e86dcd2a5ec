"""A report on exams by the runner: verified, asked again, stopped and resumed; and what it says of its examiner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from desk import execute_step
from test_exams import choice, item

import toys
from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.store import read_manifest
from charter.rooms.evaluate.regenerate import regenerate
from charter.runner.verify import artifact_problems

OPTIONS = ["one", "two", "three", "four"]
ESSAYS = [
    {
        "text_id": f"e{n}",
        "prompt": "Bridges",
        "overall": 1 + (7 * n % 9) / 2,
        "full_text": f"Bridge {n} is good. " * (1 + 5 * n % 7),
    }
    for n in range(12)
]
FILES: dict[str, list[dict[str, Any]]] = {
    "gre_verbal": [
        item("one", "equivalence", "AC", options=OPTIONS),
        item("two", "completion", "B", blanks=[OPTIONS]),
        item("gone", "single", "B", options=OPTIONS, image="removed"),
    ],
    "gre_quant": [item("sum", "numeric", "1/2"), item("compare", "comparison", "C")],
    "gre_writing": [item("essay", "essay", None)],
    "mbe": [choice(n, "ABC"[n]) for n in range(3)],
    "usmle": [choice(n, "ABC"[n], step=str(n + 1), image=("none", "none", "removed")[n]) for n in range(3)],
    "essay_grader": ESSAYS,
}
SETTINGS: dict[str, Any] = {
    "tasks": list(FILES),
    "chunk": 2,
    "change": {
        "gre_verbal": {"shots": 0, "max_tokens": 6, "samples": 2},
        "gre_quant": {"shots": 0, "max_tokens": 6},
        "gre_writing": {"shots": 0, "max_tokens": 8, "samples": 2},
        "mbe": {"shots": 0},
        "usmle": {"shots": 0},
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exams")
    for task, rows in FILES.items():
        toys.rows_file(folder / f"{task}.jsonl", rows)
    scores = "".join(f"percentile,GRE,writing,{half / 2},{7 * half},mine,2020,50\n" for half in range(13))
    (folder / "tables.csv").write_text(f"table,exam,section,score,value,source,years,n\n{scores}")
    return folder


@pytest.fixture(scope="module")
def report(checkpoints: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = {"policy": str(checkpoints / "policy")} | {task: str(data / f"{task}.jsonl") for task in FILES}
    sources["exam_tables"] = str(data / "tables.csv")
    return execute_step(tmp_path_factory.mktemp("place") / "run", sources, settings=SETTINGS)


def test_numbers_follow_from_the_rows(report: Path) -> None:
    manifest = read_manifest(report)
    assert artifact_problems(report, manifest) == []
    numbers = {m.name: m for m in manifest.metrics}
    assert {*FILES, "gre_verbal_if_removed_wrong", "usmle_step_1"} <= numbers.keys()
    assert (numbers["gre_verbal"].n, numbers["gre_verbal_if_removed_wrong"].n) == (4, 6), "two samples of each"
    assert "gre_quant_if_removed_wrong" not in numbers and "usmle_step_3" not in numbers
    assert numbers["mbe_guessing"].value == 0.25
    assert regenerate(report, 100) == []


def test_the_examiner_is_named_and_judged(report: Path) -> None:
    said = read_object(report / "report.json")
    rows = read_objects(report / "samples/essay_grader.jsonl")
    assert said["examiner"]["id"] == said["model"]["id"], "the model itself, for want of another"
    assert said["examiner"]["fit"] in (True, False) and "12 essays" in said["examiner"]["why"]
    assert said["identity"]["gre_writing"]["examiners"] == [said["model"]["id"]]
    assert len(rows) == 12 and all(len(row["readings"]) in (2, 3) for row in rows)
    written = said["gre_writing"]["scale"]
    assert [entry["value"] for entry in written["percentile"]] == [14 * written["score"]]
    assert said["gre_verbal"]["items"] | {"exams": 0} == {
        "asked": 2,
        "removed": 1,
        "transcribed": 0,
        "exams": 0,
        "stand_in": False,
    }


def test_a_changed_mark_or_verdict_is_named(report: Path, tmp_path: Path) -> None:
    manifest = read_manifest(report)
    path = report / "samples/usmle.jsonl"
    text = path.read_text("utf-8")
    path.write_text(text.replace('"outcome": "image removed"', '"outcome": "right"', 1), "utf-8")
    assert any("usmle" in line for line in artifact_problems(report, manifest))
    path.write_text(text, "utf-8")
    said = read_object(report / "report.json")
    text = (report / "report.json").read_text("utf-8")
    said["examiner"]["fit"] = not said["examiner"]["fit"]
    (report / "report.json").write_text(json.dumps(said), "utf-8")
    assert any("calls its examiner" in line for line in artifact_problems(report, manifest))
    (report / "report.json").write_text(text, "utf-8")
    assert artifact_problems(report, manifest) == []
