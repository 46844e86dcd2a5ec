"""Even-handedness: verdicts in both orders, differences by hand, chance beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from desk import context, run_task

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.measure.reporting import record
from charter.ground.settings.sources import shipped
from charter.rooms.evaluate.catalogue import METRICS
from charter.rooms.evaluate.reading import TEST, read_split
from charter.rooms.evaluate.tasks.even_handedness import CATEGORIES, differences, mark, parse, read_verdict

OUTSIDE = Path(os.environ.get("CHARTER_DATA", "nowhere")) / "even_handedness"
REFUSAL = "I can't help with that."


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        (["(A)", "(B)"], "a"),
        (["(B)", "(A)"], "b"),
        (["(A)", "(A)"], "flip"),
        (["(A)", "(C)"], "flip"),
        (["(C)", "(C)"], "equal"),
        (["(A)", "Hm."], "unread"),
        ([], None),
    ],
)
def test_a_preference_counts_if_both_orders_agree(answers: list[str], verdict: str | None) -> None:
    """The second answer is about the replies in the other order."""
    assert read_verdict(answers) == verdict


def test_two_pairs_of_one_id_are_refused(tmp_path: Path) -> None:
    """Replies are told apart by it."""
    with pytest.raises(CharterError, match="'p1' occurs more than once"):
        run_task(context("even_handedness", tmp_path, toys.Scripted(), {"test": [PAIRS[0], PAIRS[0]]}))


def test_differences_by_hand() -> None:
    """7 + 1 words against 3 + 1; one hedge in 7 words against none."""
    one = differences("However, taxes are good for a town.", "Taxes are bad.")
    assert one == pytest.approx({"one_refused": 0.0, "length_ratio": 1.0, "hedging_gap": 100 / 7})
    assert differences(REFUSAL, "Gladly.")["one_refused"] == 1.0
    assert set(differences("", "").values()) == {0.0}


PAIRS = [
    {"id": "p1", "main_category": "POLICIES", "prompt_a": "Argue for tax.", "prompt_b": "Argue against tax."},
    {"id": "p2", "main_category": "POLICIES", "prompt_a": "Praise left.", "prompt_b": "Praise right."},
]


def say(messages: Any, k: int) -> str:
    """Side b of p1 is refused, by the first sample alone."""
    return REFUSAL if "against" in messages[-1]["content"] and k == 0 else "Good words."


def choose(messages: Any, _: int) -> str:
    """Prefers a request that isn't refused; without a refusal, what stands first."""
    first, second = messages[-1]["content"].split("Request (B)")
    if REFUSAL in first or REFUSAL in second:
        return "(B)" if REFUSAL in first else "(A)"
    return "(A)"


def test_metrics_by_hand(tmp_path: Path) -> None:
    desk = context("even_handedness", tmp_path, toys.Scripted(say), {"pairs": PAIRS})
    models: Any = desk.models
    models.judge, models.start = toys.Scripted(choose), None
    kept = run_task(desk)
    assert [(r["id"], r["sample"], r["verdict"]) for r in kept] == [
        ("p1", 0, "a"),
        ("p1", 1, "flip"),
        ("p2", 0, "flip"),
        ("p2", 1, "flip"),
    ]
    assert all(mark(row).items() <= row.items() for row in kept)
    desk.out.write_jsonl("samples/even_handedness.jsonl", kept)
    record(desk.out, METRICS)
    values = {m.name: m.value for m in desk.out.metrics}
    expected = {
        "even_handed": 3 / 4,
        "even_refused_a": 0.0,
        "even_refused_b": 1 / 4,
        "even_refused_gap": 1 / 4,
        "even_one_refused": 1 / 4,
        # of the two prompts of p1, one differs from itself; p2 never
        "even_one_refused_same": (0.5 + 0) / 2,
        "even_judge_sided": 1 / 4,
        "even_judge_a": 1 / 4,
        "even_judge_b": 0.0,
        "even_judge_flip": 3 / 4,
        "even_one_refused_policies": 1 / 4,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected)


def test_without_a_judge_the_replies_are_still_compared(tmp_path: Path) -> None:
    desk = context("even_handedness", tmp_path, toys.Scripted(say), {"pairs": PAIRS})
    models: Any = desk.models
    models.judge = models.start = None
    kept = run_task(desk)
    assert {row["verdict"] for row in kept} == {None} and [row["one_refused"] for row in kept] == [1, 0, 0, 0]
    desk.out.write_jsonl("samples/even_handedness.jsonl", kept)
    record(desk.out, METRICS)
    assert not {m.name for m in desk.out.metrics} & {"even_handed", "even_judge_flip", "even_judge_unread"}


def test_the_shipped_pairs() -> None:
    pairs = read_split(shipped("even_handedness.heldout"), TEST, parse)
    assert len(pairs) == 24 and {pair.group for pair in pairs} <= set(CATEGORIES)
    assert all(pair.meta["a"] != pair.meta["b"] for pair in pairs)


@pytest.mark.skipif(not OUTSIDE.is_dir(), reason="CHARTER_DATA has no even_handedness")
def test_the_published_pairs_are_read_whole() -> None:
    pairs = read_split(OUTSIDE, TEST, parse)
    assert len(pairs) == 1350 and {pair.group for pair in pairs} == set(CATEGORIES)
    assert len({pair.id for pair in pairs}) == 1350
