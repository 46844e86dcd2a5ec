"""Metrics of preference models whose weights were averaged: each member's accuracy, and their spread.

Rows of an average have `member_gaps`: for each member the score of the chosen reply minus that of the rejected one.
Members' scores have no common zero, so only gaps are compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from charter.ground.measure.counts import Row, real_pair
from charter.ground.measure.metric import Metric
from charter.ground.measure.score import Table, rank_accuracy, tabulate

PAIRS = "heldout_pairs.jsonl"
MEMBERS = 8  # the most that the preference room trains


def spread(rows: Sequence[Row]) -> Table:
    """Mean over pairs of the standard deviation of the members' gaps, in the unit of scores (log-odds)."""
    return tabulate(
        (str(r["id"]), statistics.stdev(r["member_gaps"]), 1.0)
        for r in rows
        if real_pair(r) and len(r.get("member_gaps", ())) > 1
    )


def accuracy(member: int) -> Callable[[Sequence[Row]], Table]:
    """Share of pairs that one member (numbered from 1) ranks as labelled; a tie counts half."""
    return lambda rows: tabulate(
        (str(r["id"]), rank_accuracy(r["p_chosen"], r["member_gaps"][member - 1], 0.0), 1.0)
        for r in rows
        if real_pair(r) and len(r.get("member_gaps", ())) >= member
    )


OF_MEMBERS: tuple[Metric, ...] = (
    Metric(
        "member_spread",
        PAIRS,
        spread,
        "neither",
        "spread of score gaps over the members averaged",
        "score",
        label="Spread over members",
    ),
    *(
        Metric(
            f"member_accuracy_{n}",
            PAIRS,
            accuracy(n),
            "higher",
            f"held-out pairs ranked as labelled, member {n}",
            label=f"Pairs, member {n}",
        )
        for n in range(1, MEMBERS + 1)
    ),
)
