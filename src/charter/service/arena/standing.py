"""The results so far: Elo of each axis and kind of rater, and agreement of reviewers. Counted at most every few
seconds, however often a page asks."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Engine as Database

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.agreement import Agreement, agreement
from charter.ground.measure.elo import Ranking, standings
from charter.ground.text.ballot import RATINGS
from charter.ground.text.judgments import HUMAN, SIMULATED
from charter.ground.text.votes import vote_row
from charter.service.arena.config import Config
from charter.service.people.export import choices_of, reviewed_of

FRESH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Agreed:
    """Agreement of one kind of reviewers: on the five ratings, and on whether a transcript is harmful."""

    source: str
    items: int
    ratings: Agreement
    harmful: Agreement


@dataclass(frozen=True, slots=True)
class Standing:
    """Rankings by axis and kind of rater; `problem` says why there are none."""

    rankings: tuple[Ranking, ...]
    reviews: tuple[Agreed, ...]
    problem: str = ""


class Standings:
    """The newest standing, kept for a few seconds."""

    def __init__(self, config: Config, database: Database) -> None:
        self._config, self._database = config, database
        self._kept: tuple[float, Standing] | None = None
        self._lock = threading.Lock()

    def now(self) -> Standing:
        """The standing, at most a few seconds old."""
        with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] > FRESH_SECONDS:
                self._kept = (time.monotonic(), self._count())
            return self._kept[1]

    def _count(self) -> Standing:
        votes = [vote_row(choice) for choice in choices_of(self._database)]
        named = {vote["model_a"] for vote in votes} | {vote["model_b"] for vote in votes}
        base = self._config.zero if self._config.zero in named else None
        reviews = tuple(agreed for source in (HUMAN, SIMULATED) if (agreed := self._agreed(source)))
        try:
            rankings = standings(votes, base) if votes else {}
        except CharterError as error:
            return Standing((), reviews, str(error))
        in_order = sorted(rankings.values(), key=lambda ranking: (ranking.axis, ranking.source))
        return Standing(tuple(in_order), reviews)  # in the order of the tasks

    def _agreed(self, source: str) -> Agreed | None:
        ratings = [item.ratings for item in reviewed_of(self._database, source)]
        by_rating = agreement([[Counter(votes)[rating] for rating in RATINGS] for votes in ratings])
        harmful = agreement([self._sides(votes) for votes in ratings])
        if by_rating is None or harmful is None:
            return None
        return Agreed(source, by_rating.items, by_rating, harmful)

    def _sides(self, ratings: tuple[int, ...]) -> list[int]:
        above = sum(rating >= self._config.harmful_from for rating in ratings)
        return [above, len(ratings) - above]
