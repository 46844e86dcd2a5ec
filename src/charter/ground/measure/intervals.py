"""Intervals: Wilson for independent yes/no answers, clustered bootstrap for everything else, paired for
versions.

Sources: Wilson 1927; Newcombe 1998 (difference of two); Cameron, Gelbach and Miller 2008 (bootstrap by
cluster). All intervals are 95 %, two-sided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from charter.ground.measure.score import Floats, Table

RESAMPLES = 4000
Z = 1.959963984540054


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Interval of a proportion from `hits` of `n` independent trials; (0, 1) where there is no trial."""
    if n == 0:
        return 0.0, 1.0
    p = hits / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


@lru_cache(maxsize=8)
def _weights(clusters: int, seed: int) -> Floats:
    """How often each cluster is drawn in each resample, [RESAMPLES, clusters]."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES).astype(np.float64)


def _ends(values: Floats) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def interval(table: Table, seed: int = 0) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of a table's ratio: Wilson where each cluster is one yes/no answer or where all answers
    agree (a bootstrap of identical answers has no width), clustered bootstrap otherwise; none for under 2
    clusters."""
    count = len(table.clusters)
    if count < 2:
        return None, None
    rate = table.den > 0
    if not rate.any():
        return None, None
    shares = table.num[rate] / table.den[rate]
    binary = bool(np.isin(shares, (0.0, 1.0)).all())
    if binary and (bool((table.den == 1).all()) or bool((shares == shares[0]).all())):
        return wilson(float(shares.sum()), int(rate.sum()))
    weights = _weights(count, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _ends((weights @ table.num) / (weights @ table.den))


@dataclass(frozen=True, slots=True)
class Difference:
    """second - first, with its 95 % interval; `paired` clusters were shared by both sides."""

    value: float
    low: float
    high: float
    paired: int

    @property
    def significant(self) -> bool:
        return self.low > 0 or self.high < 0


def difference(first: Table, second: Table, seed: int = 0) -> Difference:
    """second - first: paired by cluster where both share their clusters, as two independent tables otherwise.

    Where each side's answers all agree, or one has a single cluster, resampling shows no spread: the
    interval is then made of both Wilson intervals (Newcombe 1998), and is infinite for one cluster of
    anything but shares. Raises ValueError where either side has no clusters.
    """
    if not first.clusters or not second.clusters:
        raise ValueError("a difference needs at least one cluster on both sides")
    shared = set(first.clusters) & set(second.clusters)
    if shared:
        first, second = (_only(t, sorted(shared)) for t in (first, second))
    value = second.value - first.value
    if (_unanimous(first) and _unanimous(second)) or min(len(first.clusters), len(second.clusters)) < 2:
        low, high = _newcombe(first, second)
        return Difference(value, low, high, len(shared))
    if shared:
        weights_a = weights_b = _weights(len(shared), seed)
    else:
        weights_a = _weights(len(first.clusters), seed)
        weights_b = _weights(len(second.clusters), seed + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (weights_b @ second.num) / (weights_b @ second.den)
        draws = draws - (weights_a @ first.num) / (weights_a @ first.den)
    low, high = _ends(draws)
    return Difference(value, low, high, len(shared))


def _unanimous(table: Table) -> bool:
    """Whether every cluster's share is 0, or every one's is 1."""
    return bool((table.num == 0).all()) or bool((table.num == table.den).all())


def _newcombe(first: Table, second: Table) -> tuple[float, float]:
    if not all(bool(((t.num >= 0) & (t.num <= t.den)).all()) for t in (first, second)):
        return -math.inf, math.inf
    a, b = first.value, second.value
    (low_a, high_a), (low_b, high_b) = (
        wilson(t.value * len(t.clusters), len(t.clusters)) for t in (first, second)
    )
    return b - a - math.hypot(b - low_b, high_a - a), b - a + math.hypot(high_b - b, a - low_a)


def _only(table: Table, clusters: list[str]) -> Table:
    place = {name: i for i, name in enumerate(table.clusters)}
    rows = [place[name] for name in clusters]
    return Table(tuple(clusters), table.num[rows], table.den[rows], table.n)
