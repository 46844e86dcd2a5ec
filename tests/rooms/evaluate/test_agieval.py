"""AGIEval's exams: what the model reads, which letter counts, and the published sets read whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import desk
import pytest

import toys
from charter.ground.settings.places import data_folder
from charter.rooms.evaluate.catalogue import SUITES, TASKS
from charter.rooms.evaluate.reading import TEST, read_split
from charter.rooms.evaluate.settings import ROOM, Settings
from charter.rooms.evaluate.tasks.agieval import SETS, parse
from charter.rooms.evaluate.verify import METRICS


def exam(question: str, label: str, passage: str | None = None) -> dict[str, Any]:
    options = ["(A)a knot", "(B) a bow", "(C)a bend", "(D)(E)nd of it"]
    return {"passage": passage, "question": question, "options": options, "label": label, "answer": None}


FILES = {"lsat": [exam("Which?", "B", "A sailor ties."), exam("Where?", "A", "A sailor ties."), exam("Why?", "D")]}


def rate(prompt: Any, text: str) -> float:
    """Prefers B to every question."""
    return 0.0 if text == " B" else -1.0


def test_questions_are_put_without_examples_and_share_their_passage(tmp_path: Path) -> None:
    model = toys.Scripted(rate=rate)
    rows = desk.run_task(desk.context("agieval_lsat_ar", tmp_path, model, FILES))
    assert model.asked[0] == "A sailor ties.\nWhich?\nA. a knot\nB. a bow\nC. a bend\nD. (E)nd of it\nAnswer:"
    assert [(r["choice"], r["outcome"]) for r in rows] == [(1, "right"), (1, "wrong"), (1, "wrong")]
    assert rows[0]["id"] == rows[1]["id"] != rows[2]["id"] == "lsat-00003"
    assert len({r["item"] for r in rows}) == 3


def test_each_set_is_a_task_of_the_suite_and_reports_its_own_number() -> None:
    assert len(SUITES["agieval"]) == len(SETS) == 7
    names = {metric.name for metric in METRICS}
    for name in SUITES["agieval"]:
        assert {name, f"{name}_unanswered", f"{name}_contaminated"} <= names
        assert TASKS[name].group == "Exams" and TASKS[name].chance in (0.2, 0.25)


def test_a_step_needs_the_data_of_its_tasks_alone() -> None:
    uses = ROOM.uses
    assert uses is not None
    exams = uses(Settings(tasks=("agieval_sat_en",)))
    assert {"policy", "agieval_sat_en"} <= exams and not exams & {"red_team", "bbq", "fitness", "detectors"}
    roles = uses(Settings())
    assert {"red_team", "hhh", "fitness", "detectors", "transcripts"} <= roles and "arc" not in roles
    assert {"violating", "replies", "fitness"} <= uses(Settings(tasks=("acceptable_use",)))


@pytest.mark.skipif(not (data_folder() / "agieval").is_dir(), reason="needs CHARTER_DATA with agieval")
@pytest.mark.parametrize("name", SETS)
def test_a_published_set_is_read_whole(name: str) -> None:
    questions = read_split(data_folder() / f"agieval/{name}.jsonl.gz", TEST, parse)
    sizes = {"lsat-ar": 230, "lsat-lr": 510, "lsat-rc": 269, "sat-math": 220, "sat-en": 206, "aqua-rat": 254}
    assert len(questions) == sizes.get(name, 651) and {len(q.options) for q in questions} == {SETS[name][1]}
    assert all(option and not option.startswith("(A)") for q in questions for option in q.options)
