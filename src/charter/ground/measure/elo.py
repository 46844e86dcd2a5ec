"""Elo from votes: each model's rating relative to a base, its interval and ranks, or why it has none.

    P(A beats B) = 1 / (1 + 10^((E_B - E_A) / 400)),  E of the base is 0

fitted jointly to all votes of an axis and a source (Bai 2022a, B.5). Unsure votes are excluded, and so are ties and
votes for both bad, unless they count half a win each. A model has a rating only if chains of wins lead from it to the
base and back (Ford 1957); otherwise a note says what is missing. Its ranks follow from the intervals of all
differences: from 1 + the number of models significantly above it, to the number of models minus those significantly
below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.agreement import Agreement, agreement
from charter.ground.measure.bradley_terry import (
    SCALE,
    Clusters,
    Design,
    Ends,
    Ints,
    bootstrap_ends,
    chances,
    clustered_ends,
    clusters,
    covariance,
    fit,
    normal_ends,
    place,
    resample,
    within,
)
from charter.ground.measure.intervals import FEW
from charter.ground.measure.score import Floats
from charter.ground.measure.votes import BOTH_BAD, FIRST, SECOND, SOURCE, TIE, UNSURE, WINNERS, Tally, Vote, count_votes
from charter.ground.settings.problems import suggest

Ties = Literal["drop", "half"]
Kind = Literal["hessian", "clustered", "bootstrap"]


@dataclass(frozen=True, slots=True)
class Standing:
    """A model's Elo with its 95 % interval and its possible ranks, from `n` votes. Without a rating `note` says why; an
    unbounded end is None."""

    model: str
    elo: float | None
    low: float | None
    high: float | None
    n: int
    rank_low: int | None = None
    rank_high: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Meeting:
    """Wins of a model against another; `predicted` by their Elo, None if either has none."""

    model: str
    against: str
    wins: float
    votes: float
    predicted: float | None

    @property
    def observed(self) -> float:
        return self.wins / self.votes

    @property
    def residual(self) -> float:
        """Deviation from the prediction, in standard deviations of independent votes; 0 without a prediction."""
        p = self.predicted
        return 0.0 if p is None else (self.wins - self.votes * p) / float(np.sqrt(self.votes * p * (1 - p)))


@dataclass(frozen=True, slots=True)
class Ranking:
    """The result of one axis and source: models with a rating first, highest first. `votes`: votes that count; they
    include `tied` and `both_bad` only if ties count half, and never `unsure` and `one_model` (votes on two replies of
    one model). `raters`: raters of the votes that count. `clustered`: the kind of cluster."""

    axis: str
    source: str
    base: str
    ties: Ties
    interval: Kind
    clustered: str
    standings: tuple[Standing, ...]
    meetings: tuple[Meeting, ...]
    votes: int
    tied: int
    both_bad: int
    unsure: int
    one_model: int
    raters: int
    agreement: Agreement | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Method:
    """How ties count and intervals are computed; without a kind they are clustered if there are clusters."""

    ties: Ties = "drop"
    interval: Kind | None = None
    resamples: int = 1000
    seed: int = 0


def standings(
    rows: Sequence[Vote],
    base: str | None = None,
    ties: Ties = "drop",
    interval: Kind | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Ranking]:
    """The ranking of each axis. With several sources each is fitted separately, and keys name all sources but people:
    "helpful", "helpful (simulated)".

    The default base is the first model of the first row; on an axis without it, the first model there. Raises
    CharterError for a row that is no vote and for a base that no vote names.
    """
    tallies, method = count_votes(rows), Method(ties, interval, resamples, seed)
    names = sorted({model for tally in tallies for model in tally.models})
    if base is not None and base not in names:
        raise CharterError(f"no vote names the base {base!r}; {suggest(base, names)}")
    many = len({tally.source for tally in tallies}) > 1
    rankings = {}
    for tally in tallies:
        key = f"{tally.axis} ({tally.source})" if many and tally.source != SOURCE else tally.axis
        first = default_base if (default_base := tallies[0].first_named) in tally.models else tally.first_named
        rankings[key] = rank(tally, base or first, method)
    return rankings


def rank(tally: Tally, base: str, method: Method) -> Ranking:
    """The ranking of one tally relative to a base."""
    votes = _count(tally, method.ties)
    many = [int(tally.count[tally.outcome == outcome].sum()) for outcome in (TIE, BOTH_BAD, UNSURE)]
    ratings: Floats = np.full(len(tally.models), np.nan)
    positions, spread = ratings.copy(), Spread(None, method.interval or "hessian")
    notes = [] if base in tally.models else [f"{base}, the base, has no votes here"]
    if base in tally.models:
        design = _design(tally, base)
        positions = place(design, votes.total)
        inner, pairs = within(design, positions == 0)
        ratings[positions == 0] = fit(inner, votes.total[np.concatenate([pairs, pairs + len(tally.pairs)])][None])[0][0]
        spread = _spread(tally, inner, pairs, ratings[positions == 0], method)
        if inner.models < 2:
            notes = [_lacking(tally, base, votes.total)]
    return Ranking(
        axis=tally.axis,
        source=tally.source,
        base=base,
        ties=method.ties,
        interval=spread.kind,
        clustered=spread.clustered,
        standings=_standings(tally, base, ratings, spread.ends, _reasons(tally, base, votes.total, positions)),
        meetings=_meetings(tally, votes.total, ratings),
        votes=round(float(votes.total.sum())),
        tied=many[0],
        both_bad=many[1],
        unsure=many[2],
        one_model=tally.one_model,
        raters=_raters(tally, method.ties),
        agreement=agreement(tally.patterns),
        notes=(*notes, *spread.notes),
    )


Way = Literal["vote", "rater", "item", "both"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Intervals of all differences, their kind, and notes on them."""

    ends: Ends | None
    kind: Kind
    clustered: str = ""
    notes: tuple[str, ...] = ()


def _spread(tally: Tally, design: Design, pairs: Ints, ratings: Floats, method: Method) -> Spread:
    """The requested intervals. Default: clustered if a rater or an item has several votes, else those of independent
    votes."""
    ways: list[Way] = []
    if method.interval != "hessian":
        ways = _ways(tally)
    groups = [_count(tally, method.ties, pairs, way) for way in ways]
    if method.interval is None and any(votes.count < 2 for votes in groups):
        ways, groups = [], []
    kind: Kind = method.interval or ("clustered" if ways else "hessian")
    by = " and ".join(way for way in ways if way != "both")
    groups = groups or [_count(tally, method.ties, pairs)]
    few = min(votes.count for votes in groups[:2])
    if design.models < 2:
        return Spread(None, kind)
    if kind == "hessian":
        return Spread(normal_ends(ratings, covariance(design, groups[0].total, ratings)), kind)
    if few < 2:
        return Spread(None, kind, by, (f"no intervals: all votes that count are of one {by}",))
    notes = [f"{few} {by.split()[0]}s are few"] if ways and few < FEW else []
    if kind == "clustered":
        ends = clustered_ends(design, groups, ratings)
        return Spread(ends, kind, by, tuple(f"{note}: intervals are wide for that" for note in notes))
    notes = [f"{note}: resampled intervals are too narrow for that" for note in notes]
    draws = resample(design, groups[0], ratings, method.resamples, method.seed)
    if one_sided := int((~np.isfinite(draws)).any(axis=1).sum()):
        notes.append(f"in {one_sided} of {len(draws)} resamples a model won or lost all, or was not drawn")
    return Spread(bootstrap_ends(draws), kind, ways[0] if ways else "", tuple(notes))


def _ways(tally: Tally) -> list[Way]:
    """The ways in which votes are clustered."""
    raters: list[Way] = ["rater"] if len(tally.raters) > 1 else []
    items: list[Way] = ["item"] if tally.shared_items else []
    both: list[Way] = ["both"] if raters and items else []
    return raters + items + both


def _count(tally: Tally, ties: Ties, pairs: Ints | None = None, by: Way = "vote") -> Clusters:
    """The votes that count, on some pairs or all, clustered by vote, by rater, by item, or by both."""
    number = np.full(len(tally.pairs), -1)
    pairs = np.arange(len(number)) if pairs is None else pairs
    number[pairs] = np.arange(len(pairs))
    counts = (number[tally.pair] >= 0) & _counts(tally, ties)
    pair, outcome, count = number[tally.pair][counts], tally.outcome[counts], tally.count[counts]
    rater, item = tally.rater[counts], tally.item[counts]
    group = {
        "vote": np.full(len(pair), -1),
        "rater": rater,
        "item": item,
        "both": np.where((rater < 0) | (item < 0), -1, rater * tally.items + item),
    }[by]
    alone = int(group.max(initial=-1)) + 1  # codes from here on are single votes
    code = np.where(group >= 0, group, alone + len(WINNERS) * pair + outcome)
    names, kind = np.unique(code, return_inverse=True)
    many = np.bincount(kind, weights=count, minlength=len(names)).astype(np.float64)
    share = np.where(group >= 0, count, count / many[kind])
    many[names < alone] = 1.0
    first, second = (share * np.where(outcome >= TIE, 0.5, outcome == side) for side in (FIRST, SECOND))
    places, kinds = np.concatenate([pair, pair + len(pairs)]), np.concatenate([kind, kind])
    return clusters(kinds, places, np.concatenate([first, second]), many, len(pairs))


def _counts(tally: Tally, ties: Ties) -> NDArray[np.bool_]:
    """Which cells of a tally count."""
    tie = (tally.outcome == TIE) | (tally.outcome == BOTH_BAD)
    return np.asarray((tally.outcome <= SECOND) | (tie & (ties == "half")))


def _raters(tally: Tally, ties: Ties) -> int:
    """Number of raters of votes that count."""
    return len(np.unique(tally.rater[(tally.rater >= 0) & _counts(tally, ties)]))


def _standings(
    tally: Tally, base: str, ratings: Floats, ends: Ends | None, absent: Sequence[tuple[int, str]]
) -> tuple[Standing, ...]:
    """One per model, highest first, those without a rating last and by name. absent: each model's votes, and why it has
    no rating."""
    rows = []
    rated = np.flatnonzero(~np.isnan(ratings)).tolist()
    for number, (model, (n, note)) in enumerate(zip(tally.models, absent, strict=True)):
        if note:
            rows.append(Standing(model, None, None, None, n, note=note))
            continue
        low = high = 0.0 if model == base else None
        first = last = None
        if ends is not None:
            at, zero = rated.index(number), rated.index(tally.models.index(base))
            low, high = _finite(ends.low[at, zero]), _finite(ends.high[at, zero])
            first = 1 + int((ends.low[:, at] > 0).sum())
            last = len(rated) - int((ends.high[:, at] < 0).sum())
        rows.append(Standing(model, float(ratings[number] * SCALE), low, high, n, first, last))
    return tuple(sorted(rows, key=lambda s: (s.elo is None, -(s.elo or 0.0), s.model)))


def _lacking(tally: Tally, base: str, wins: Floats) -> str:
    """What a tally lacks to rate a model against its base."""
    needed = "a number needs at least one win the other way"
    first, second = np.split(wins, 2)
    as_first, as_second = (tally.pairs == tally.models.index(base)).T
    won, lost = first[as_first].sum() + second[as_second].sum(), second[as_first].sum() + first[as_second].sum()
    if not won and not lost:
        return f"no vote on {base}, the base, counts"
    if not won or not lost:
        return f"{base} has {'won' if won else 'lost'} every vote so far: {needed}"
    return f"no chain of wins leads from {base} to another model and back: {needed}"


def _finite(nats: float) -> float | None:
    return float(nats * SCALE) + 0.0 if np.isfinite(nats) else None  # 0.0 makes -0.0 a plain 0


def _design(tally: Tally, base: str) -> Design:
    return Design(len(tally.models), tally.pairs[:, 0], tally.pairs[:, 1], tally.models.index(base))


def _reasons(tally: Tally, base: str, wins: Floats, positions: Floats) -> list[tuple[int, str]]:
    """Each model's number of votes, and why it has no rating; "" if it has one."""
    firsts, seconds = tally.pairs.T
    first, second = np.split(wins, 2)
    won = np.bincount(np.concatenate([firsts, seconds]), wins, len(tally.models))
    votes = won + np.bincount(np.concatenate([seconds, firsts]), wins, len(tally.models))
    joined = np.zeros(len(votes), dtype=bool)
    if base in tally.models:
        joined = place(_design(tally, base), np.tile(first + second, 2)) == 0
    words = [
        "" if at == 0 else _reason(base, w, n, near, at)
        for w, n, near, at in zip(won, votes, joined, positions, strict=True)
    ]
    return [(round(float(n)), word) for n, word in zip(votes, words, strict=True)]


def _reason(base: str, won: float, votes: float, joined: bool, position: float) -> str:
    """Why a model with these wins and votes has no rating."""
    all_of = f"all its {votes:g} votes" if votes > 1 else "its one vote"
    if votes == 0:
        return "all its votes are ties, unsure or both bad, and do not count"
    if not joined:
        return f"never compared, directly or through others, with {base}"
    if won == votes:
        return f"won {all_of} against the rest: no upper bound"
    if won == 0:
        return f"lost {all_of} against the rest: no lower bound"
    if np.isnan(position):
        return f"no chain of wins leads from it to {base}, nor one back"
    if position > 0:
        return f"chains of wins lead from it to {base} and none back: no upper bound"
    return f"chains of wins lead from {base} to it and none back: no lower bound"


def _meetings(tally: Tally, wins: Floats, ratings: Floats) -> tuple[Meeting, ...]:
    """Both directions of each pair with votes that count."""
    meetings = []
    design = Design(len(tally.models), tally.pairs[:, 0], tally.pairs[:, 1], 0)
    for (one, two), won, lost, p in zip(
        tally.pairs.tolist(), *np.split(wins, 2), chances(design, ratings), strict=True
    ):
        if won + lost == 0:
            continue
        rated = not np.isnan(p)
        for a, b, points, expected in ((one, two, won, p), (two, one, lost, 1 - p)):
            predicted = float(expected) if rated else None
            meetings.append(Meeting(tally.models[a], tally.models[b], float(points), float(won + lost), predicted))
    return tuple(meetings)
