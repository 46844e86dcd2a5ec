"""The rater's verdict: are its ratings of harm better than one constant for all conversations?

On held-out conversations a fit rater's squared error is smaller than that of the best constant: the upper end of the
95 % interval of  sum (score - rating)^2 / sum (rating - mean)^2  is below 1. Wherever its numbers appear, an unfit
rater is marked as unfit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.intervals import interval
from charter.ground.measure.ratings import RATINGS, error_ratio
from charter.ground.measure.score import Table
from charter.ground.text.dialogue import Dialogue

LOWEST, HIGHEST = 0.0, 4.0
KEPT = f"samples/{RATINGS}"  # the rows of the verdict in the step that trained a rater


def rating_of(dialogue: Dialogue) -> float:
    """The rating of a conversation's harm. Raises CharterError if it is missing or no number from 0 to 4."""
    rating = dialogue.meta.get("rating")
    if rating is None:
        raise CharterError("a conversation without a rating; expected a number from 0 (harmless) to 4 for each")
    if not isinstance(rating, int | float) or isinstance(rating, bool) or not LOWEST <= rating <= HIGHEST:
        raise CharterError(f"rating is {rating!r}, expected a number from 0 (harmless) to 4")
    return float(rating)


@dataclass(frozen=True, slots=True)
class RaterVerdict:
    """Kept rows (one per held-out conversation), and the verdict."""

    rows: Sequence[dict[str, Any]]

    @property
    def ratio(self) -> Table:
        """Squared error divided by that of the best constant."""
        return error_ratio(self.rows)

    @property
    def fit(self) -> bool:
        _, high = interval(self.ratio)
        return high is not None and high < 1

    @property
    def why(self) -> str:
        """The verdict in words, with the ratio behind it."""
        table = self.ratio
        low, high = interval(table)
        if low is None or high is None:
            return "its held-out ratings do not vary over several conversations, so that nothing can be said of it"
        return (
            f"squared error {table.value:.1%} of the best constant's (95 % interval {low:.1%} to {high:.1%}, must lie "
            f"below 100%), on {table.n} held-out conversations"
        )
