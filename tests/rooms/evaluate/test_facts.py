"""Helpfulness without a grader: planted replies give known numbers, a resume is exact, and verification finds tampering."""

import json
from pathlib import Path
from typing import Any

import pytest
from desk import execute_step

import toys
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.store import read_manifest, record_files, write_manifest
from charter.ground.settings.room import Sizes
from charter.rooms.evaluate import run as room
from charter.rooms.evaluate.regenerate import regenerate
from charter.rooms.evaluate.run import open_contexts
from charter.rooms.evaluate.settings import Settings, check, estimate
from charter.rooms.evaluate.task import Change, Context
from charter.runner.verify import artifact_problems
from reported import scores

SETTINGS = Settings.model_validate({"tasks": ["facts", "quiz"], "change": {"replies": {"max_tokens": 5}}, "chunk": 1})
FACTS = [
    toys.dialogue("f0", "How do I boil an egg?") | {"facts": [["water"], ["minute", "minutes"]]},
    toys.dialogue("f1", "How do I make tea?") | {"facts": [["water"], ["leaves", "tea bag"], ["cup"], ["pour"]]},
    toys.dialogue("f2", "What do bees make?") | {"facts": [["honey"]]},
]
QUIZ: list[dict[str, Any]] = [
    {"id": "q0", "question": "Who wrote Hamlet?", "golden_answers": ["William Shakespeare", "Shakespeare"]},
    {"id": "q1", "question": "How many legs has an insect?", "golden_answers": ["6", "six"]},
]
REPLIES = {
    "How do I boil an egg?": "Put it into Water for six minutes.",  # 2 of 2
    "How do I make tea?": "Pour hot water over it.",  # 2 of 4
    "What do bees make?": "I can't help you with that.",  # 0 of 1, a refusal
    "Who wrote Hamlet?": "It was written by Shakespeare.",  # right
    "How many legs has an insect?": "It has 16 legs.",  # wrong
}


def inputs(folder: Path, policy: Path) -> Inputs:
    sets = {"facts": (FACTS, "dialogues"), "quiz": (QUIZ, "questions")}
    entries = [
        toys.given(role, toys.rows_file(folder / f"{role}.jsonl", rows), kind) for role, (rows, kind) in sets.items()
    ]
    return Inputs([toys.policy(policy), *entries, _detectors(folder)])


def _detectors(folder: Path) -> Any:
    row = {"id": "e", "reply": "Six.", "refusal": False, "boilerplate": False, "loop": False, "harsh": False}
    return toys.given("detectors", toys.rows_file(folder / "detectors.jsonl", [row | {"text": "Six."}]), "text")


def scripted(tmp_path: Path, checkpoints: Path, settings: Settings = SETTINGS) -> tuple[list[Context], toys.Scripted]:
    model = toys.Scripted(lambda messages, k: REPLIES[messages[-1]["content"]])
    sources = inputs(tmp_path, checkpoints / "policy")
    contexts = open_contexts(settings, sources, toys.workspace(tmp_path / "out"))
    contexts[0].models.__dict__["assistant"] = model
    return contexts, model


def write(contexts: list[Context]) -> Path:
    """Asks both sets; returns the folder of their rows."""
    questions_of = [context.task.questions(context) for context in contexts]
    for context, questions in zip(contexts, questions_of, strict=True):
        rows = context.task.rows(context, questions)
        context.out.write_jsonl(f"samples/{context.task.name}.jsonl", rows)
    return contexts[0].out.path


def test_planted_replies_give_known_numbers(tmp_path: Path, checkpoints: Path) -> None:
    contexts, _ = scripted(tmp_path, checkpoints)
    path = write(contexts)
    rows = read_objects(path / "samples/facts.jsonl")
    assert [(r["id"], r["recalled"], r["all_recalled"], r["refusal"]) for r in rows] == [
        ("f0", 1.0, True, False),
        ("f1", 0.5, False, False),
        ("f2", 0.0, False, True),
    ]
    assert [r["facts"] for r in rows] == [f["facts"] for f in FACTS]
    short = read_objects(path / "samples/quiz.jsonl")
    assert [(r["id"], r["correct"], r["accepted"]) for r in short] == [
        ("q0", 1.0, QUIZ[0]["golden_answers"]),
        ("q1", 0.0, QUIZ[1]["golden_answers"]),
    ]
    values = {s.name: s.value for s in scores(path)}
    assert values == {
        "facts_recalled": pytest.approx(0.5),
        "facts_all": pytest.approx(1 / 3),
        "facts_refusal_rate": pytest.approx(1 / 3),
        "facts_cut_rate": 0.0,
        "exact_answers": 0.5,
        "quiz_refusal_rate": 0.0,
    }


def test_of_a_short_question_no_more_than_64_tokens_are_drawn(tmp_path: Path, checkpoints: Path) -> None:
    for most, limits in ((200, {200, 64}), (20, {20})):
        settings = SETTINGS.model_copy(update={"change": {"replies": Change(max_tokens=most)}})
        (tmp_path / str(most)).mkdir()
        contexts, model = scripted(tmp_path / str(most), checkpoints, settings)
        write(contexts)
        assert {sampling.max_tokens for sampling in model.samplings} == limits
        assert {sampling.temperature for sampling in model.samplings} == {1.0}


def test_broken_facts_are_named_before_anything_is_drawn(tmp_path: Path, checkpoints: Path) -> None:
    contexts, model = scripted(tmp_path, checkpoints)
    toys.rows_file(tmp_path / "facts.jsonl", [*FACTS, toys.dialogue("f3", "Why?")])
    with pytest.raises(CharterError, match="prompt f3 has the facts None"):
        write(contexts)
    assert model.asked == []


def run_room(folder: Path, place: Path, policy: Path, progress: Any = None) -> Path:
    out = toys.workspace(folder, progress=progress)
    room.run(SETTINGS, inputs(place, policy), out)
    return out.path


def test_the_identity_names_the_sets_and_no_grader(tmp_path: Path, checkpoints: Path) -> None:
    report = json.loads((run_room(tmp_path / "out", tmp_path, checkpoints / "policy") / "report.json").read_text())
    assert set(report["identity"]) == {"facts", "quiz"} and "grader" not in report
    assert report["identity"]["quiz"]["data"]["ref"] == "quiz.jsonl"
    assert report["detectors"]["refusal"]["n"] == 1


@pytest.fixture
def report(tmp_path: Path, checkpoints: Path) -> Path:
    """A report of the runner on facts alone."""
    inputs(tmp_path, checkpoints / "policy")
    sources = {role: f"./{role}.jsonl" for role in ("facts", "quiz", "detectors")}
    sources["policy"] = str(checkpoints / "policy")
    settings = {"tasks": ["facts", "quiz"], "change": {"replies": {"max_tokens": 5}}, "chunk": 1}
    return execute_step(tmp_path / "run", sources, "eval", settings=settings)


def change(report: Path, file: str, number: int, **values: Any) -> None:
    """Changes a kept row and recomputes the hashes."""
    path = report / f"samples/{file}.jsonl"
    rows = read_objects(path)
    rows[number] |= values
    toys.rows_file(path, rows)
    write_manifest(report, read_manifest(report).model_copy(update={"files": record_files(report)}))


def problems(report: Path) -> list[str]:
    return artifact_problems(report, read_manifest(report))


def test_a_report_verifies_and_what_was_changed_is_found(report: Path) -> None:
    assert problems(report) == [] and regenerate(report, 99) == []
    recalled = read_objects(report / "samples/facts.jsonl")[0]["recalled"]
    change(report, "facts", 0, recalled=recalled + 0.25)
    assert f"samples/facts.jsonl: recalled of f0 sample 0 is {recalled + 0.25}; its row gives {recalled}" in problems(
        report
    )
    assert any(p.startswith("facts_recalled: tables.json has other sums") for p in problems(report))
    change(report, "facts", 0, recalled=recalled)
    change(report, "quiz", 1, correct=1.0, refusal=True)
    lines = [p for p in problems(report) if p.startswith("samples/quiz.jsonl")]
    assert len(lines) == 2 and "correct of q1" in " ".join(lines) and "refusal of q1" in " ".join(lines)


def test_changed_replies_and_changed_facts_are_found_by_drawing_again(report: Path) -> None:
    change(report, "facts", 1, facts=[["so"]])
    change(report, "quiz", 0, reply="Shakespeare", correct=1.0)
    lines = regenerate(report, 99)
    assert "eval: facts: f1 sample 0: facts is [['so']] in the kept rows" in lines[0]
    assert "eval: quiz: q0 sample 0: its reply is another text when it is asked again" in lines


def test_no_grader_is_needed_and_time_is_told() -> None:
    assert check(SETTINGS, ["policy"]) == ""
    assert "grader is missing" in check(Settings(tasks=("assistant", "facts", "quiz")), ["policy"])
    sizes = Sizes(each={"facts": (60,), "quiz": (40,), "red_team": (9,)}, parameters={"policy": 134_500_000})
    few = estimate(SETTINGS, sizes)
    both = estimate(SETTINGS.model_copy(update={"tasks": ("assistant", "facts", "quiz")}), sizes)
    assert few.minutes and both.minutes and 0 < few.minutes < both.minutes
    assert estimate(SETTINGS.model_copy(update={"tasks": ("acceptable_use",)}), sizes).minutes is None
