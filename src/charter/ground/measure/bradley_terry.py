"""Bradley-Terry by joint maximum likelihood, with the uncertainty of every difference.

    P(i beats j) = 1 / (1 + exp(r_j - r_i)),  r = (ln 10 / 400) E,  one model's r is 0

Sources: Bradley and Terry 1952 (the model); Ford 1957 (existence of the maximum); Sun and Tran-Dinh 2019 (length of
Newton's steps); Liang and Zeger 1986 (clustered covariance). Wins are summed by pair first, so the cost of a fit
depends on the number of pairs, not of votes, and a batch of resamples is one computation. Nothing is regularised: if
the maximum is infinite, so is the result.

M models, P pairs, B resamples, C kinds of clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import breadth_first_order
from scipy.special import expit, stdtrit

from charter.ground.measure.intervals import FEW, Z
from charter.ground.measure.score import Floats

Ints = NDArray[np.int64]

SCALE = 400 / math.log(10)  # Elo points a nat
STEPS = 60
NEAR = 1e-7  # a step this short, in nats, leaves an error of about its square
BLOCK = 250  # resamples computed at a time


@dataclass(frozen=True, slots=True)
class Design:
    """The compared pairs [P], as indices of models below `models`; and the base, whose rating is 0."""

    models: int
    first: Ints
    second: Ints
    base: int

    @property
    def incidence(self) -> Any:
        """[P, M]: 1 for the first of each pair, -1 for the second."""
        pairs = np.arange(len(self.first))
        ones = np.ones(len(pairs))
        places = (np.concatenate([pairs, pairs]), np.concatenate([self.first, self.second]))
        return csr_matrix((np.concatenate([ones, -ones]), places), shape=(len(pairs), self.models))


@dataclass(frozen=True, slots=True)
class Clusters:
    """Clusters of dependent votes: wins [C, 2P] of each kind of cluster (of the first of each pair, then of the
    second), and the number of clusters of that kind. A single vote is a cluster, too."""

    wins: Any
    many: Floats

    @property
    def count(self) -> int:
        return round(float(self.many.sum()))

    @property
    def total(self) -> Floats:
        """All wins [2P]."""
        return np.asarray(self.wins.T @ self.many, dtype=np.float64)


def clusters(kinds: Ints, places: Ints, wins: Floats, many: Floats, pairs: int) -> Clusters:
    """Sums wins by kind of cluster and place: a pair's index for its first model, that plus P for its second."""
    wins_by_kind = coo_matrix((wins, (kinds, places)), shape=(len(many), 2 * pairs))
    return Clusters(wins_by_kind.tocsr(), many)


@dataclass(frozen=True, slots=True)
class Ends:
    """95 % intervals of all differences, rating of row minus rating of column [M, M], in nats; may be infinite."""

    low: Floats
    high: Floats


def place(design: Design, wins: Floats) -> Floats:
    """Classifies models [M] by wins [2P]: 0 for a finite rating relative to the base; inf if chains of wins lead only
    from the model to the base, -inf if they lead only from the base, nan if there is none either way.
    """
    one, two = np.split(wins > 0, 2)
    sources = np.concatenate([design.first[one], design.second[two]])
    targets = np.concatenate([design.second[one], design.first[two]])
    graph = csr_matrix((np.ones(len(sources)), (sources, targets)), shape=(design.models, design.models))
    below, above = (_find_reachable(graph, design.base), _find_reachable(graph.T.tocsr(), design.base))
    return np.select([below & above, above, below], [0.0, np.inf, -np.inf], np.nan)


def _find_reachable(graph: Any, start: int) -> NDArray[np.bool_]:
    reachable = np.zeros(graph.shape[0], dtype=bool)
    reachable[breadth_first_order(graph, start, return_predecessors=False)] = True
    return reachable


def within(design: Design, mask: NDArray[np.bool_]) -> tuple[Design, Ints]:
    """The design restricted to some models, and the indices of the remaining pairs."""
    number = np.cumsum(mask) - 1
    pairs = np.flatnonzero(mask[design.first] & mask[design.second])
    first, second = number[design.first[pairs]], number[design.second[pairs]]
    return Design(int(mask.sum()), first, second, int(number[design.base])), pairs


def fit(design: Design, wins: Floats, start: Floats | None = None) -> tuple[Floats, NDArray[np.bool_]]:
    """Ratings [B, M] in nats of wins [B, 2P], and a mask of those at a finite, unique maximum; other ratings are
    meaningless.

    Newton's method. A step whose largest difference is d is scaled by ln(1 + d) / d: the likelihood never falls, and
    the method converges from any start. The wins decide whether there is a maximum, not the step length: near 37 nats a
    probability rounds to 1, and steps are as short as at a maximum.
    """
    ratings = np.tile(np.zeros(design.models) if start is None else start, (len(wins), 1))
    connected = _strongly_connected(design, wins)
    todo = np.flatnonzero(connected)
    if design.models < 2 or not len(todo):
        return ratings, connected
    won, lost = np.split(wins, 2, axis=1)
    votes, incidence = won + lost, design.incidence.T
    free = np.delete(np.arange(design.models), design.base)
    for _ in range(STEPS):
        p = chances(design, ratings[todo])
        slope = np.asarray((incidence @ (won[todo] - votes[todo] * p).T).T)
        curve = information(design, votes[todo] * p * (1 - p))
        curve += 1e-13 * curve.max(axis=(1, 2), initial=1e-300)[:, None, None] * np.eye(len(free))
        step = np.zeros_like(slope)
        step[:, free] = np.linalg.solve(curve, slope[:, free, None])[..., 0]
        length = np.maximum(step.max(axis=1) - step.min(axis=1), 1e-300)
        ratings[todo] += step * (np.log1p(length) / length)[:, None]
        todo = todo[length > NEAR]
        if not len(todo):
            break
    connected[todo] = False
    return ratings, connected


def _strongly_connected(design: Design, wins: Floats) -> NDArray[np.bool_]:
    """Whether chains of wins lead from each model to every other, by row [B] of wins [B, 2P]. Then there is one
    maximum, and it is finite (Ford 1957)."""
    one, two = np.split(wins > 0, 2, axis=1)
    beat = np.zeros((len(wins), design.models, design.models), dtype=np.float32)
    beat[:, design.first, design.second], beat[:, design.second, design.first] = one, two
    connected = np.ones(len(wins), dtype=bool)
    for graph in (beat, beat.transpose(0, 2, 1)):  # to the base, then from it
        reached = np.zeros((len(wins), design.models, 1), dtype=np.float32)
        reached[:, design.base] = 1
        for _ in range(1, design.models):
            further = np.maximum(reached, graph @ reached > 0)
            if np.array_equal(further, reached):
                break
            reached = further
        connected &= reached.all(axis=(1, 2))
    return connected


def chances(design: Design, ratings: Floats) -> Floats:
    """Probability [..., P] that the first of each pair wins, from ratings [..., M]."""
    return np.asarray(expit(ratings[..., design.first] - ratings[..., design.second]))


def information(design: Design, weights: Floats) -> Floats:
    """Minus the second derivative of the log-likelihood by all ratings but the base's, [B, M-1, M-1]. weights [B, P]:
    votes x p x (1 - p)."""
    matrix = np.zeros((len(weights), design.models, design.models))
    matrix[:, design.first, design.second] = matrix[:, design.second, design.first] = -weights
    diagonal = np.arange(design.models)
    matrix[:, diagonal, diagonal] = -matrix.sum(axis=2)
    free = np.delete(diagonal, design.base)
    return matrix[:, free[:, None], free]


def covariance(design: Design, wins: Floats, ratings: Floats) -> Floats:
    """Covariance of ratings [M] at the maximum for wins [2P] and independent votes: the inverse information [M, M], 0
    for the base."""
    p = chances(design, ratings)
    votes = wins[: len(p)] + wins[len(p) :]
    inverse = np.linalg.inv(information(design, (votes * p * (1 - p))[None])[0])
    return np.insert(np.insert(inverse, design.base, 0.0, axis=0), design.base, 0.0, axis=1)


def sandwich(design: Design, votes: Clusters, ratings: Floats) -> Floats:
    """The same if only clusters are independent: inverse information x sum of outer products of the clusters' scores x
    inverse information, times G / (G - 1) for G clusters."""
    p = chances(design, ratings)
    pairs, incidence = len(p), design.incidence
    won, lost = votes.wins[:, :pairs].multiply(1 - p), votes.wins[:, pairs:].multiply(p)
    scores = ((won - lost) @ incidence).toarray()
    middle = scores.T @ (scores * votes.many[:, None])
    bread = covariance(design, votes.total, ratings)
    return np.asarray(bread @ middle @ bread * votes.count / (votes.count - 1))


def normal_ends(ratings: Floats, spread: Floats) -> Ends:
    """Intervals of all differences from a covariance [M, M]."""
    return _around(ratings, Z * np.sqrt(_variances(spread)))


def clustered_ends(design: Design, ways: Sequence[Clusters], ratings: Floats) -> Ends:
    """Student's t on the sandwich covariance; degrees of freedom: clusters - 1.

    Votes may be clustered in two ways, such as by rater and by item; the third of `ways` is then their intersection.
    The squared half-widths of the first two are added and that of the third is subtracted; the result is never below
    either of the first two. (For variances: Cameron, Gelbach and Miller 2011; a separate t for each is ours.) With
    fewer than FEW clusters, whose scores can cancel by chance, no half-width is below that of independent votes.
    """
    squares = []
    for votes in ways:
        square = float(stdtrit(votes.count - 1, 0.975)) ** 2 * _variances(sandwich(design, votes, ratings))
        if votes.count < FEW:
            square = np.maximum(square, Z * Z * _variances(covariance(design, votes.total, ratings)))
        squares.append(square)
    widest = squares[0]
    if len(ways) > 1:
        widest = np.maximum(np.maximum(squares[0], squares[1]), squares[0] + squares[1] - squares[2])
    return _around(ratings, np.sqrt(widest))


def _around(ratings: Floats, half: Floats) -> Ends:
    gap = ratings[:, None] - ratings
    return Ends(gap - half, gap + half)


def _variances(spread: Floats) -> Floats:
    """Variances of all differences, from a covariance [M, M]."""
    variances = np.diag(spread)
    return np.maximum(0.0, variances[:, None] + variances - 2 * spread)


def resample(design: Design, votes: Clusters, ratings: Floats, resamples: int, seed: int) -> Floats:
    """Ratings [B, M] of resampled clusters, started at the maximum for all; inf, -inf and nan as in `place`."""
    rng = np.random.default_rng(seed)
    share = votes.many / votes.many.sum()
    blocks = []
    for at in range(0, resamples, BLOCK):
        draws = rng.multinomial(votes.count, share, size=min(BLOCK, resamples - at)).astype(np.float64)
        wins = np.asarray((votes.wins.T @ draws.T).T)
        block, converged = fit(design, wins, ratings)
        for row in np.flatnonzero(~converged):
            block[row] = _rate_one_sided(design, wins[row])
        blocks.append(block)
    return np.concatenate(blocks)


def _rate_one_sided(design: Design, wins: Floats) -> Floats:
    """Ratings [M] of a resample in which some models only won, only lost, or were not sampled."""
    ratings = place(design, wins)
    finite = ratings == 0
    inner, pairs = within(design, finite)
    both = np.concatenate([pairs, pairs + len(design.first)])
    ratings[finite] = fit(inner, wins[None, both])[0][0]
    return ratings


def bootstrap_ends(draws: Floats) -> Ends:
    """Percentiles of all differences of resampled ratings [B, M]; an undefined difference widens both ends."""
    count, models = draws.shape
    least = math.floor(0.025 * (count - 1))
    low = np.zeros((models, models))
    for row in range(models):
        with np.errstate(invalid="ignore"):
            gaps = draws[:, row, None] - draws
        gaps[:, row] = 0.0
        low[row] = np.partition(np.where(np.isnan(gaps), -np.inf, gaps), least, axis=0)[least]
    return Ends(low, -low.T)
