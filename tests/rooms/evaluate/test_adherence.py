"""Adherence to a constitution: areas of a file and of a text, ratings by hand, the fixed reply beside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from desk import context

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.constitution import shipped_constitution
from charter.ground.judge.fitness import FIXED_REPLY
from charter.ground.measure.reporting import record
from charter.ground.settings.sources import shipped
from charter.rooms.evaluate.catalogue import METRICS, TASKS
from charter.rooms.evaluate.settings import Settings, check
from charter.rooms.evaluate.tasks.adherence import Rollout, areas_of_principles, areas_of_text, mark, questions

OUTSIDE = Path(os.environ.get("CHARTER_DATA", "nowhere")) / "constitution/claude_constitution_2026-01.md.gz"
TEXT = f"""# Whole

[Being kind](#being-kind)

## Being kind

{"Be kind to all. " * 20}

### Short

Too short.

## Being honest

{"Tell the truth. " * 30}
"""


def test_areas_are_principles_or_sections_with_text_of_their_own(tmp_path: Path) -> None:
    ours = areas_of_principles(shipped("constitution"))
    assert [a.key for a in ours] == [p.key for p in shipped_constitution().comparisons] and len(ours) == 24
    path = tmp_path / "text.md"
    path.write_text(TEXT)
    areas = areas_of_text(path)
    assert [a.key for a in areas] == ["Whole > Being kind", "Whole > Being honest"]
    assert areas[0].text.startswith("Whole > Being kind\n\nBe kind") and "Too short" not in areas[0].text
    path.write_text("Only text.")
    with pytest.raises(CharterError, match="no section of 60 words"):
        areas_of_text(path)


def test_areas_of_one_name_are_told_apart(tmp_path: Path) -> None:
    desk: Any = context("adherence_text", tmp_path, toys.Scripted(), {}, rollouts=1)
    kind = f"## Being kind\n\n{'Ask first. ' * 40}\n"
    desk.source.mkdir(exist_ok=True)
    path = desk.source / "text.md"
    path.write_text(TEXT + kind)
    asked = questions(desk, lambda source: areas_of_text(path))
    assert [one.id.removeprefix("Whole > ") for one in asked] == ["Being kind/1", "Being honest/1", "Being kind [2]/1"]
    assert "Be kind" in asked[0].area.text and "Ask first" in asked[2].area.text


def judge_says(messages: Any, _: int) -> str:
    """Writes messages, but none for the second conversation on honesty; rates kind replies +2, fixed ones -1, and one
    with words."""
    text = messages[-1]["content"]
    if "Write one message" in text:
        honest = "Tell the truth" in text
        return "" if honest and "number 2" in text else f'"About {"truth" if honest else "kindness"}?"'
    if FIXED_REPLY in text:
        return "-1"
    return "+2" if "About kindness" in text else "I can't say."


def run(folder: Path, task: str, **roles: Any) -> tuple[list[dict[str, Any]], dict[str, float], Any]:
    desk: Any = context(task, folder, toys.Scripted(lambda messages, k: "Gladly."), {}, rollouts=2)
    (desk.source / "text.md").write_text(TEXT)
    desk.models.judge, desk.models.start = toys.Scripted(judge_says), None
    desk.inputs._entries += tuple(toys.given(role, path) for role, path in roles.items())
    kept = TASKS[task].rows(desk, _questions(desk))
    desk.out.write_jsonl(f"samples/{task}.jsonl", kept)
    record(desk.out, METRICS)
    return kept, {m.name: m.value for m in desk.out.metrics}, desk


def _questions(desk: Any) -> Any:
    return [Rollout(area, n) for area in areas_of_text(desk.source / "text.md") for n in (1, 2)]


def test_ratings_by_hand(tmp_path: Path) -> None:
    kept, values, desk = run(tmp_path, "adherence_text")
    assert [(r["item"].rpartition("> ")[2], r["prompt"], r["score"], r["fixed"]) for r in kept] == [
        ("Being kind/1", "About kindness?", 2, -1),
        ("Being kind/2", "About kindness?", 2, -1),
        ("Being honest/1", "About truth?", None, -1),
        ("Being honest/2", "", None, None),
    ]
    assert all(mark(row).items() <= row.items() for row in kept)
    assert values == pytest.approx(
        {
            "adherence_text": 2.0,
            "adherence_text_fixed": -1.0,
            "adherence_text_rated": 2.0,
            "adherence_text_over_fixed": 3.0,
            "adherence_text_violating": 0.0,
            "adherence_text_unread": 0.5,
        }
    )
    assert desk.summary["areas"] == {"Whole > Being kind": {"mean": 2.0, "n": 2}}
    assert desk.facts["scenarios"] == "written by the judge"


def test_given_scenarios_are_drawn_by_seed_and_no_message_is_written(tmp_path: Path) -> None:
    path = toys.rows_file(tmp_path / "s.jsonl", [toys.dialogue(f"s{n}", f"About kindness {n}?") for n in range(9)])
    kept, _, desk = run(tmp_path / "desk", "adherence_text", scenarios=path)
    assert len({row["prompt"] for row in kept}) > 1 and all("About kindness" in row["prompt"] for row in kept)
    assert not any("Write one message" in asked[-1]["content"] for asked in desk.models.judge.asked)


def test_it_needs_a_judge() -> None:
    assert "role judge is missing" in check(Settings(tasks=("adherence",)), {"policy", "constitution"})
    assert not check(Settings(tasks=("adherence",)), {"policy", "constitution", "judge"})


@pytest.mark.skipif(not OUTSIDE.is_file(), reason="CHARTER_DATA has no constitution")
def test_the_text_of_january_2026_has_its_areas() -> None:
    areas = areas_of_text(OUTSIDE)
    assert 25 <= len(areas) <= 40 and len({a.key for a in areas}) == len(areas)
    assert any(a.key.endswith("Hard constraints") for a in areas)
    assert any(a.key.endswith("Being honest") for a in areas)
