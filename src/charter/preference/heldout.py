"""What is kept of the held-out pairs: one row each, from which every figure of the room is computed again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.judge.fitness import Scorer
from charter.ground.measure.score import ranked_right
from charter.ground.text.dialogue import cluster_of
from charter.preference.pairs import Ranking


def heldout_rows(
    score: Scorer, rankings: Sequence[Ranking], gaps: Sequence[Sequence[float]] = ()
) -> list[dict[str, Any]]:
    """One kept row a held-out pair; its id is the cluster, which pairs of one first user turn share. `gaps`: of each
    member of an average its `score_gaps`."""
    found = score([(ranking.messages, ranking.texts) for ranking in rankings])
    rows = []
    for ranking, given in zip(rankings, found, strict=True):
        for pair in ranking.pairs:
            chosen, rejected = given[pair.chosen], given[pair.rejected]
            lengths = [len(ranking.item.replies[at]) for at in (pair.chosen, pair.rejected)]
            rows.append(
                {
                    "id": cluster_of(pair.comparison),
                    "pair": pair.comparison.id,
                    "axis": pair.comparison.axis,
                    "source": pair.comparison.source,
                    "chosen_score": chosen,
                    "rejected_score": rejected,
                    "p_chosen": pair.comparison.p_chosen,
                    "correct": ranked_right(pair.comparison.p_chosen, chosen, rejected),
                    "chosen_tokens": lengths[0],
                    "rejected_tokens": lengths[1],
                }
            )
    for row, own in zip(rows, zip(*gaps, strict=True), strict=bool(gaps)):
        row["member_gaps"] = list(own)
    return rows


def score_gaps(score: Scorer, rankings: Sequence[Ranking]) -> list[float]:
    """Score of the chosen reply less that of the rejected one, of each row of `heldout_rows`."""
    return [row["chosen_score"] - row["rejected_score"] for row in heldout_rows(score, rankings)]
