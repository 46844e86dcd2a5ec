"""People's verdicts on statements: filled copies of review.jsonl, their agreement, and what they take out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.measure.counts import Row
from charter.ground.measure.metric import Metric
from charter.ground.measure.reviews import by_case, fleiss_kappa, pair_agreement
from charter.ground.measure.score import Table, tabulate
from charter.ground.text.columns import raw_rows
from charter.rooms.behaviours.definition import SIDES

REVIEWS = "statement_reviews.jsonl"
VERDICTS = (*SIDES, "unclear")


def read_reviews(sources: Sequence[Input], written: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each verdict of each source, one reviewer a source unless rows name one; open ones are skipped.

    Raises CharterError for a verdict on a statement that this step didn't write.
    """
    sides = {str(row["id"]): row for row in written}
    rows: list[dict[str, Any]] = []
    for source in sources:
        for place, row in raw_rows(source.folder):
            verdict, statement = row.get("verdict"), sides.get(str(row.get("id")))
            if verdict is None:
                continue
            if verdict not in VERDICTS:
                raise CharterError(f"{place}: verdict is {verdict!r}, expected {', '.join(VERDICTS)} or null")
            if statement is None or statement["statement"] != row.get("statement"):
                raise CharterError(
                    f"{place}: this step wrote no such statement; review its own review.jsonl, with equal settings"
                )
            rows.append(
                {
                    "id": statement["id"],
                    "case": statement["id"],
                    "side": statement["side"],
                    "vote": VERDICTS.index(verdict),
                    "reviewer": str(row.get("reviewer") or source.name),
                }
            )
    return rows


def rejected(reviews: Sequence[Row]) -> set[str]:
    """The statements that not more than half of their reviewers put on their side."""
    return {case for case, case_reviews in by_case(reviews).items() if not _confirms(case_reviews)}


def _confirms(reviews: Sequence[Row]) -> bool:
    confirmed = sum(bool(VERDICTS[row["vote"]] == row["side"]) for row in reviews)
    return 2 * confirmed > len(reviews)


def _confirmed_share(reviews: Sequence[Row]) -> Table:
    return tabulate((case, float(_confirms(case_reviews)), 1.0) for case, case_reviews in by_case(reviews).items())


METRICS: tuple[Metric, ...] = (
    Metric(
        "reviewed_right",
        REVIEWS,
        _confirmed_share,
        "higher",
        "reviewed statements that most people put on the side they were written for",
        about="data",
        label="Statements, right by people",
    ),
    Metric(
        "reviewers_kappa",
        REVIEWS,
        fleiss_kappa("vote", len(VERDICTS)),
        "neither",
        "Fleiss' kappa of the people, over positive, negative and unclear",
        "kappa",
        about="data",
        label="Statements, people's kappa",
    ),
    Metric(
        "reviewers_agreement",
        REVIEWS,
        pair_agreement("vote", len(VERDICTS)),
        "neither",
        "pairs of people who put a statement on the same side",
        about="data",
        label="Statements, people with people",
    ),
)
