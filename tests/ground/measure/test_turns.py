"""Conversations counted by their turns, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from charter.ground.measure.turns import any_turn, last_turn, least_margin


def turns(goal: str, talk: str, *margins: float | None) -> list[dict[str, Any]]:
    """Turns with these margins; below 0 is harmful, None wasn't asked."""
    return [
        {"id": goal, "talk": talk, "turn": n, "margin": m, "harmful": None if m is None else m < 0}
        for n, m in enumerate(margins, 1)
    ]


ROWS = [
    *turns("a", "a/0", 1.0, -2.0, 3.0),  # harmful on the way, ends well
    *turns("a", "a/1", 1.0, 0.5),
    *turns("b", "b/0", 2.0, -1.0, None),  # its last turn didn't fit
    *turns("c", "c/0", None),
]


def test_the_worst_turn_counts_and_the_last_hides_it() -> None:
    worst, last = (count("harmful", lambda row: True)(ROWS) for count in (any_turn, last_turn))
    assert worst.clusters == last.clusters == ("a", "b") and worst.n == 3
    assert worst.value == pytest.approx(2 / 3) and last.value == pytest.approx(1 / 3)


def test_the_minimum_over_turns_is_a_mean_over_conversations() -> None:
    least = least_margin(lambda row: True)(ROWS)
    assert least.value == pytest.approx((-2.0 + 0.5 - 1.0) / 3)
    assert least.sums.tolist() == [[-1.5, 2.0], [-1.0, 1.0]], "samples of a goal are one cluster"


def test_rows_out_of_order_end_at_their_highest_turn() -> None:
    assert last_turn("harmful", lambda row: row["id"] == "a")(ROWS[2::-1]).value == 0.0
