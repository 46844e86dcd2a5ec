"""A whole report of the runner: stopped and resumed, verified deeply, and checked for contamination."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from desk import execute_step
from test_choices import MMLU
from test_long_texts import STORY, story

import toys
from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.progress import SilentProgress
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import Recipe
from charter.rooms.evaluate.catalogue import TASKS as EVALUATIONS
from charter.rooms.evaluate.claims import report_problems
from charter.rooms.evaluate.contamination import contamination
from charter.rooms.evaluate.regenerate import regenerate, same
from charter.runner.execute import execute
from charter.runner.plan import make_plan
from charter.runner.verify import artifact_problems

TASKS = ("mmlu_plain", "gsm8k", "quality", "position")
SUMS = [
    {
        "question": f"Crew {n} loads {n} crates on {n} ferries at {n} while {n} dogs watch {n} ropes for {n} days: how many?",
        "answer": f"#### {54 * n}",
    }
    for n in range(2, 9)
]
FILES: dict[str, dict[str, list[dict[str, Any]]]] = {
    "mmlu_plain": MMLU,
    "gsm8k": {"test": SUMS},
    "quality": {"dev": [story("s0"), story("s1")]},
    "position": {"text": [{"id": f"d{n}", "text": STORY[n:] * 20} for n in range(3)]},
}
SETTINGS = {"tasks": list(TASKS), "chunk": 2, "limit": 5, "change": {"gsm8k": {"max_tokens": 6, "samples": 2}}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for task, files in FILES.items():
        (folder / task).mkdir()
        for name, rows in files.items():
            toys.rows_file(folder / task / f"{name}.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def report(checkpoints: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("place") / "run"
    sources = {"policy": str(checkpoints / "policy")} | {EVALUATIONS[t].data_role: str(data / t) for t in TASKS}
    return execute_step(run, sources, settings=SETTINGS)


def test_numbers_follow_from_the_rows_and_say_what_they_are_of(report: Path) -> None:
    manifest = read_manifest(report)
    assert artifact_problems(report, manifest) == []
    numbers = {m.name: m for m in manifest.metrics}
    assert {"mmlu_plain", "gsm8k", "quality", "position_loss_1"} <= numbers.keys()
    told = read_object(report / "report.json")
    absent = told["position"]["absent"]
    assert set(absent) == {"position_exponent", "position_constant"} and not absent.keys() & numbers.keys()
    assert told["questions"] == {
        "mmlu_plain": {"asked": 2, "of": 2},
        "gsm8k": {"asked": 5, "of": 7},
        "quality": {"asked": 4, "of": 4},
        "position": {"asked": 3, "of": 3},
    }
    assert (numbers["gsm8k"].n, numbers["mmlu_plain"].n) == (10, 2)
    identity = read_object(report / "report.json")["identity"]
    assert identity["gsm8k"] | {"data": 0, "template": 0} == {
        "data": 0,
        "template": 0,
        "limit": 5,
        "shots": 0,
        "form": "chat",
        "scored": "samples",
        "draw_seed": 0,
        "version": 7,
        "temperature": 1.0,
        "samples": 2,
        "max_tokens": 6,
    }
    assert identity["mmlu_plain"]["scored"] == "options" and identity["position"]["length"] == 1024
    prompt = (report / "prompts/mmlu_plain.txt").read_text()
    assert prompt.startswith("The following are multiple choice") and prompt.endswith("Answer:\n")
    assert not read_object(report / "report.json")["contamination"]  # a model without a lineage


def test_a_reason_that_does_not_follow_from_the_rows_is_found(report: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(report.parent, run)
    path = run / "asked/report.json"
    told = read_object(path)
    told["position"]["absent"] = {"quality": "nobody asked"}
    path.write_text(json.dumps(told))
    lines = list(report_problems(run / "asked", read_manifest(run / "asked")))
    assert "report.json says that there is no quality; tables.json has it" in lines
    assert any(line.startswith("report.json says of the fit of position: ") for line in lines)


def test_deep_verification_finds_what_was_changed_and_nothing_else(report: Path, tmp_path: Path) -> None:
    for seed in range(3):
        assert regenerate(report, 1, seed) == []
    run = tmp_path / "run"
    shutil.copytree(report.parent, run)
    path = run / "asked/samples/gsm8k.jsonl"
    rows = read_objects(path)
    rows[0]["reply"] += "!"
    del rows[-2:]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    lines = {line for seed in range(12) for line in regenerate(run / "asked", 1, seed)}
    item = rows[0]["item"]
    changed = f"asked: gsm8k: {item} sample 0: its reply is another text when it is asked again"
    assert lines == {changed, "asked: gsm8k: test-00007 is missing from the kept rows"}


def test_several_rows_of_a_question_are_not_missing(checkpoints: Path, data: Path, tmp_path: Path) -> None:
    """Occupations and decisions keep a row for each pair of words, named after both."""
    settings = {"tasks": ["occupations", "decisions"], "chunk": 4, "limit": 6}
    folder = execute_step(tmp_path / "run", {"policy": str(checkpoints / "policy")}, settings=settings)
    assert regenerate(folder, 1, 0) == []
    path = folder / "samples/decisions.jsonl"
    rows = read_objects(path)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows if r["id"] != rows[0]["id"]))
    assert regenerate(folder, 1, 0) == [f"asked: decisions: {rows[0]['id']} is missing from the kept rows"]


def test_scores_of_behaviours_follow_from_the_rows(checkpoints: Path, tmp_path: Path) -> None:
    """Both model-written sets that come with charter, whole."""
    settings = {"tasks": ["written"], "chunk": 64, "limit": 24}
    folder = execute_step(tmp_path / "run", {"policy": str(checkpoints / "policy")}, settings=settings)
    manifest = read_manifest(folder)
    assert artifact_problems(folder, manifest) == [] and regenerate(folder, 1, 0) == []
    values = {m.name: m for m in manifest.metrics}
    assert values["behaviours"].n == values["sycophancy"].n == 24 and values["behaviours_mass"].value > 0
    path = folder / "behaviours.jsonl"
    kept = read_objects(path)
    assert sum(row["n"] for row in kept) == 24
    kept[0]["matching"]["value"] = 0.123
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    assert any("behaviours.jsonl is missing, or isn't" in line for line in artifact_problems(folder, manifest))


def test_values_are_equal_up_to_rounding() -> None:
    assert same({"a": [1.0, None, "x"]}, {"a": [1.0005, None, "x"]})
    assert not same({"a": 1.0}, {"a": 1.01}) and not same("x", "y") and not same([1], [1, 2])
    assert not same(True, 1.0001) and not same(None, 0.0)


def test_what_the_lineage_was_taught_is_found_in_the_questions(checkpoints: Path, data: Path, tmp_path: Path) -> None:
    """A policy that was finetuned on one of the questions."""
    lesson = toys.dialogue("l", f"Answer me this: {SUMS[1]['question']}", "162")
    toys.rows_file(tmp_path / "lessons.jsonl", [lesson])
    steps = [
        {
            "name": "taught",
            "room": "finetune",
            "from": {"policy": str(checkpoints / "policy"), "dialogues": ["./lessons.jsonl"]},
        },
        {
            "name": "asked",
            "room": "evaluate",
            "from": {"policy": "taught", "gsm8k": str(data / "gsm8k")},
            "settings": {"tasks": ["gsm8k"], "change": {"gsm8k": {"max_tokens": 2}}},
        },
    ]
    recipe = Recipe.model_validate({"name": "r", "steps": steps})
    run = tmp_path / "run"
    execute(make_plan(recipe, tmp_path, run, Execution("cpu", "float32")), SilentProgress())
    rows = read_objects(run / "asked/samples/contamination.jsonl")
    hit = [r["item"] for r in rows if r["hit"]]
    assert hit == ["test-00002"] and all(r["where"] == (["./lessons.jsonl"] if r["hit"] else []) for r in rows)
    metrics = {m.name: m.value for m in read_manifest(run / "asked").metrics}
    assert metrics["gsm8k_contaminated"] == pytest.approx(len(hit) / len(rows))
    assert read_object(run / "asked/report.json")["contamination"] == {
        "size": 13,
        "sources": ["./lessons.jsonl"],
        "missing": [],
    }


def test_what_cant_be_looked_through_any_more_is_named_and_stops_nothing(
    checkpoints: Path, data: Path, tmp_path: Path
) -> None:
    """Training rows that somebody edited or removed, and a policy without its parents."""
    lessons = [tmp_path / f"{name}.jsonl" for name in ("kept", "edited", "removed")]
    for path in lessons:
        toys.rows_file(path, [toys.dialogue(path.stem, f"How is {path.stem}?", "Well.")])
    steps = [
        {
            "name": "taught",
            "room": "finetune",
            "from": {"policy": str(checkpoints / "policy"), "dialogues": [f"./{p.name}" for p in lessons]},
        }
    ]
    run = tmp_path / "run"
    recipe = Recipe.model_validate({"name": "r", "steps": steps})
    execute(make_plan(recipe, tmp_path, run, Execution("cpu", "float32")), SilentProgress())
    toys.rows_file(lessons[1], [toys.dialogue("edited", "How is it?", "Better.")])
    lessons[2].unlink()
    policy = Input("policy", "taught", "checkpoint", "policy", run / "taught", "taught", "t")
    out = toys.workspace(tmp_path / "out")
    summary = contamination(policy, {}, out)
    assert summary["sources"] == ["./kept.jsonl"] and summary["missing"] == ["./edited.jsonl", "./removed.jsonl"]

    path = run / "taught/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["parents"] = [{"role": "policy", "step": "gone", "id": "0" * 64, "path": "gone"}]
    path.write_text(json.dumps(manifest))
    lessons[0].unlink()
    nothing = toys.workspace(tmp_path / "nothing")
    assert contamination(policy, {}, nothing) == {
        "size": 13,
        "sources": [],
        "missing": ["what taught was made of", "./kept.jsonl", "./edited.jsonl", "./removed.jsonl"],
    }
    assert not toys.files_of(nothing.path), "no share of questions is given where nothing was looked through"
