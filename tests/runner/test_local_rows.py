"""Every row on this disk is read before anything starts, and remembered by its file's digest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from charter import building
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.ground.settings.sources import shipped
from charter.ground.text import jsonl
from charter.ground.text.heldout import SHIPPED
from charter.ground.text.jsonl import read_jsonl
from charter.library.recipes import checked_plan
from charter.runner import local_rows
from charter.runner.plan import Plan
from toys import comparison, dialogue, rows_file

RECIPE = """
name: rows
steps:
  - {name: sl, room: finetune, from: {policy: "random:tiny", dialogues: [./lessons.jsonl]}}
  - {name: revisions, room: critique, from: {start: sl, prompts: [./prompts.jsonl]}, settings: {rounds: 0}}
  - {name: pm, room: preference, from: {policy: sl, comparisons: [./pairs.jsonl]}}
"""

PlanHere = Callable[[], Plan]


@pytest.fixture(autouse=True)
def real_rooms(rooms: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undoes this folder's fake rooms."""
    package = "charter.rooms"
    monkeypatch.setattr(
        building, "ROOMS", {name: f"{package}.{name}" for name in ("finetune", "critique", "preference")}
    )


@pytest.fixture
def plan_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanHere:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARTER_CACHE", str(tmp_path / "cache"))
    Path("recipe.yaml").write_text(RECIPE)
    rows_file(Path("lessons.jsonl"), [dialogue("a", "hi", "hello")])
    rows_file(Path("prompts.jsonl"), [dialogue("b", "how?")])
    rows_file(Path("pairs.jsonl"), [comparison("c", "why?", "so", "no")])

    def plan() -> Plan:
        recipe = load_recipe(Path("recipe.yaml"), ())
        return checked_plan(recipe, Path(), Path("run"), Execution())

    return plan


def test_good_rows_are_read_once(plan_here: PlanHere, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan_here().notes == ()
    read: list[str] = []
    blocks = jsonl._blocks
    monkeypatch.setattr(jsonl, "_blocks", lambda path: (read.append(path.name), blocks(path))[1])
    assert plan_here().notes == () and read == [], "the second plan reads no rows"
    rows_file(Path("prompts.jsonl"), [dialogue("b", "how?"), dialogue("d", "where?")])
    assert plan_here().notes == () and read == ["prompts.jsonl"], "a changed file is read again"


BAD = [
    ("lessons.jsonl", "{not json\n", "step sl: role dialogues: lessons.jsonl:1: not JSON"),
    ("lessons.jsonl", "", "step sl: role dialogues: lessons.jsonl"),
    (
        "lessons.jsonl",
        json.dumps(dialogue("a", "hi", "hello")) + "\n" + json.dumps(dialogue("b", " ", "x")) + "\n",
        "step sl: role dialogues: lessons.jsonl:2: message 1, the user's, is empty",
    ),
    ("lessons.jsonl", json.dumps(dialogue("a", "hi")) + "\n", "lessons.jsonl:1: the dialogue has no assistant's turn"),
    (
        "prompts.jsonl",
        json.dumps({"id": "s", "messages": [{"role": "system", "content": "x"}]}) + "\n",
        "step revisions: role prompts: prompts.jsonl:1: there is only a system message",
    ),
    ("pairs.jsonl", json.dumps({"id": "c", "prompt": "x", "chosen": "y", "rejcted": "z"}) + "\n", "step pm: role comparisons: pairs.jsonl:1: "),
]  # fmt: skip


@pytest.mark.parametrize(("file", "text", "part"), BAD)
def test_a_broken_row_is_named_with_step_role_file_and_line(
    plan_here: PlanHere, file: str, text: str, part: str
) -> None:
    Path(file).write_text(text)
    with pytest.raises(CharterError) as refusal:
        plan_here()
    assert part in str(refusal.value) and "sources can't be read" not in str(refusal.value)


def test_all_broken_sources_are_named_at_once_each_by_its_first_line(plan_here: PlanHere) -> None:
    Path("lessons.jsonl").write_text("{\n{\n")
    Path("pairs.jsonl").write_text("[1]\n")
    with pytest.raises(CharterError) as refusal:
        plan_here()
    words = str(refusal.value)
    assert words.startswith("2 sources can't be read: step sl: role dialogues: lessons.jsonl:1: ")
    assert "; step pm: role comparisons: pairs.jsonl" in words and "lessons.jsonl:2" not in words


def test_a_file_of_two_roles_is_read_as_each_of_them(plan_here: PlanHere) -> None:
    Path("recipe.yaml").write_text(RECIPE.replace("./lessons.jsonl", "./prompts.jsonl"))
    with pytest.raises(CharterError, match=r"^step sl: role dialogues: prompts.jsonl:1: .* no assistant's turn"):
        plan_here()


def test_answers_below_prompts_are_dropped_with_a_note_and_so_are_unread_rows(
    plan_here: PlanHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_file(Path("prompts.jsonl"), [dialogue("b", "how?", "so"), dialogue("d", "where?")])
    for _ in range(2):  # read, then remembered
        (note,) = plan_here().notes
        assert note.startswith("step revisions: role prompts: 1 of 2 rows of prompts.jsonl end with the assistant")
    monkeypatch.setattr(local_rows, "LARGEST", 80)
    assert [note for note in plan_here().notes if "were not read" in note and "pairs.jsonl" in note]


def test_a_cache_that_cannot_be_written_changes_nothing(plan_here: PlanHere, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("cache").write_text("a file")
    assert plan_here().notes == ()


def test_a_missing_file_names_step_role_and_the_nearest_file(plan_here: PlanHere) -> None:
    Path("recipe.yaml").write_text(RECIPE.replace("./prompts.jsonl", "./promts.jsonl"))
    with pytest.raises(CharterError) as refusal:
        plan_here()
    words = str(refusal.value)
    assert words.startswith("step revisions: role prompts: there is no file or folder promts.jsonl")
    assert "did you mean prompts.jsonl?" in words


@pytest.mark.parametrize("file", ["lessons", "prompts", "pairs"])
def test_nothing_is_learnt_from_a_held_out_request(plan_here: PlanHere, file: str) -> None:
    """A shipped request in the rows of any room that teaches, in small or capital letters; a set's own columns too."""
    request = read_jsonl(shipped(SHIPPED))[3]["messages"][0]["content"].upper()
    bad = {
        "lessons": [dialogue("a", "hi", "hello"), dialogue("x", request, "No.")],
        "prompts": [dialogue("b", "how?"), dialogue("x", "new", origin="jailbreak", family="persona")],
        "pairs": [comparison("c", "why?", "so", "no"), comparison("x", request, "No.", "Yes.")],
    }
    rows_file(Path(f"{file}.jsonl"), bad[file])
    for _ in range(2):  # read, then remembered
        with pytest.raises(CharterError, match=rf"{file}.jsonl: the row 'x' is a held-out request"):
            plan_here()
