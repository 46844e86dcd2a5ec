"""The results so far: Elo of each axis and kind of rater, and agreement of reviewers. Counted at most every few
seconds, however often a page asks."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from sqlalchemy import Engine as Database

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.agreement import Agreement, agreement
from charter.ground.measure.elo import Ranking, standings
from charter.ground.text.ballot import RATINGS
from charter.ground.text.judgments import HUMAN, SIMULATED
from charter.ground.text.votes import vote_row
from charter_service.arena.config import Config
from charter_service.people.export import Reviewed, choices_of, reviewed_of

FRESH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Agreed:
    """Agreement of one kind of reviewers: on the five ratings, on whether a transcript is harmful, and on the intent of
    plans (None if no plan has two)."""

    source: str
    items: int
    ratings: Agreement
    harmful: Agreement
    intents: Agreement | None


@dataclass(frozen=True, slots=True)
class Attempted:
    """Attempts that reviewers judged as a whole: the means, over attempts, of the author's own rating, of the
    reviewers' ratings and of the intent that they saw (None without plans)."""

    source: str
    attempts: int
    own: float
    rated: float
    intent: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Rankings by axis and kind of rater; `problem` says why there are none."""

    rankings: tuple[Ranking, ...]
    reviews: tuple[Agreed, ...]
    attempts: tuple[Attempted, ...] = ()
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
        attempts = tuple(attempted for source in (HUMAN, SIMULATED) if (attempted := self._attempted(source)))
        try:
            rankings = standings(votes, base) if votes else {}
        except CharterError as error:
            return Standing((), reviews, attempts, str(error))
        in_order = sorted(rankings.values(), key=lambda ranking: (ranking.axis, ranking.source))
        return Standing(tuple(in_order), reviews, attempts)  # in the order of the tasks

    def _agreed(self, source: str) -> Agreed | None:
        items = reviewed_of(self._database, source)
        ratings = [item.ratings for item in items]
        by_rating = _on_scale(ratings)
        harmful = agreement([self._sides(votes) for votes in ratings])
        if by_rating is None or harmful is None:
            return None
        return Agreed(source, by_rating.items, by_rating, harmful, _on_scale(map(_intents_of, items)))

    def _attempted(self, source: str) -> Attempted | None:
        items = [
            item for item in reviewed_of(self._database, source) if item.self_rating is not None and _judges_whole(item)
        ]
        if not items:
            return None
        rated = [
            mean(rating for rating, worst in zip(i.ratings, i.worst, strict=True) if worst is not None) for i in items
        ]
        intents = [mean(ratings) for item in items if (ratings := _intents_of(item))]
        self_rating = mean(float(item.self_rating or 0) for item in items)
        return Attempted(source, len(items), self_rating, mean(rated), mean(intents) if intents else None)

    def _sides(self, ratings: tuple[int, ...]) -> list[int]:
        above = sum(rating >= self._config.harmful_from for rating in ratings)
        return [above, len(ratings) - above]


def _judges_whole(item: Reviewed) -> bool:
    """Whether a reviewer judged the whole of an attempt; older reviews judged its last reply."""
    return any(worst is not None for worst in item.worst)


def _intents_of(item: Reviewed) -> list[int]:
    """The intents that reviewers gave."""
    return [intent for intent in item.intents if intent is not None]


def _on_scale(votes: Iterable[Sequence[int]]) -> Agreement | None:
    return agreement([[Counter(ratings)[rating] for rating in RATINGS] for ratings in votes])
