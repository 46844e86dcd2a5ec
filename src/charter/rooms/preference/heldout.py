"""What is kept of the held-out pairs: one row each, from which every figure of the room is computed again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.judge import rankings as ranked
from charter.ground.judge.fitness import Scorer
from charter.ground.judge.rankings import Ranking


def heldout_rows(
    score: Scorer, rankings: Sequence[Ranking], gaps: Sequence[Sequence[float]] = ()
) -> list[dict[str, Any]]:
    """One kept row a held-out pair; `gaps`: of each member of an average its `score_gaps`."""
    rows = ranked.heldout_rows(rankings, score([(ranking.messages, ranking.texts) for ranking in rankings]))
    for row, own in zip(rows, zip(*gaps, strict=True), strict=bool(gaps)):
        row["member_gaps"] = list(own)
    return rows


def score_gaps(score: Scorer, rankings: Sequence[Ranking]) -> list[float]:
    """Score of the chosen reply less that of the rejected one, of each row of `heldout_rows`."""
    return [row["chosen_score"] - row["rejected_score"] for row in heldout_rows(score, rankings)]
