"""Facts on the card: a table a stage with paired changes, and a refusal where the questions differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import card_world
import pytest
from card_world import SETTINGS, edit, marks, remeasure, write_rows

from charter.ground.reports.compare import compare
from charter.rooms.card.facts import list_unmeasured
from charter.rooms.evaluate.tasks.facts import mark_facts
from charter.rooms.evaluate.tasks.quiz import mark_alias
from charter.runner.verify import verify

FULL, HALF, REFUSED = "Water and salt.", "Water alone.", "I can't help you with that."


def _rows(file: str, replies: list[str]) -> list[dict[str, Any]]:
    wanted: dict[str, Any] = {"facts": [["water"], ["salt"]]} if file == "facts" else {"accepted": ["salt"]}
    mark = mark_facts if file == "facts" else mark_alias
    rows = [
        {"id": f"{file}{n}", "sample": 0, "prompt": "?", "reply": reply, "tokens": 4, "stop": "end"} | wanted
        for n, reply in enumerate(replies)
    ]
    return [row | marks(row["reply"]) | mark(row) for row in rows]


def with_facts(run: Path, step: str, replies: list[str]) -> None:
    """Rows of both sets beside a report."""
    for file in ("facts", "quiz"):
        write_rows(run / step / f"samples/{file}.jsonl", _rows(file, replies))
    remeasure(run, step)


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A run whose first stage knows all, and whose last refuses a quarter and halves a quarter."""
    run = card_world.make_run(tmp_path / "run", tasks=("facts", "quiz"))
    with_facts(run, "eval_0", [FULL] * 40)
    with_facts(run, "eval_3", [FULL] * 20 + [HALF] * 10 + [REFUSED] * 10)
    return run


def test_changes_are_paired_by_question(told: Path) -> None:
    rows = {str(row["metric"]): row for row in compare([told / "eval_0", told / "eval_3"])["metrics"]}
    assert rows["facts_recalled"]["difference"] == pytest.approx(-0.375)
    assert rows["facts_recalled"]["paired"] == 40 and rows["facts_recalled"]["verdict"] == "worse"
    assert rows["exact_answers"]["difference"] == pytest.approx(-0.5)
    assert rows["facts_refusal_rate"]["difference"] == pytest.approx(0.25)


def test_the_card_has_a_table_and_verifies(told: Path) -> None:
    card_world.make_card(told, SETTINGS)
    page, words = (told / "card/card.html").read_text(), (told / "card/card.md").read_text()
    for text in (page, words):
        assert "Helpfulness without a grader" in text and "Short questions right" in text
    assert not [line for line in verify(told, deep=False) if line.startswith(("card", "eval"))]


def test_other_questions_are_not_compared(told: Path) -> None:
    def other(text: str) -> str:
        report = json.loads(text)
        report["identity"]["facts"] = {"data": {"ref": "mine", "id": "1"}}
        return json.dumps(report)

    edit(told, "eval_3", "report.json", other)
    rows = {str(row["metric"]): row for row in compare([told / "eval_0", told / "eval_3"])["metrics"]}
    assert "facts.data differs" in str(rows["facts_recalled"]["verdict"])
    assert rows["exact_answers"]["difference"] == pytest.approx(-0.5), "the other set is untouched"
    assert rows["harm_rate"]["verdict"] == "better"


def test_a_list_of_what_is_unmeasured_is_empty_if_all_is_measured() -> None:
    assert list_unmeasured((("coding", ("humaneval",)),), {"humaneval"}) == ""
    assert list_unmeasured((("coding", ("humaneval",)), ("search", ())), {"other"}) == "coding and search"
