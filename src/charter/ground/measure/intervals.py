"""Intervals: Wilson for yes/no answers that are independent or nearly unanimous, else clustered bootstrap; paired for
two versions.

Sources: Wilson 1927; Kish 1965 (design effect); Zou and Donner 2008 (difference of two); Cameron, Gelbach and Miller
2008 (bootstrap by cluster). All intervals are 95 %, two-sided. If their computation changes,
`metric.VERSION` goes up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

from charter.ground.measure.score import Floats, Table, leaning, ratio

RESAMPLES = 4000
BLOCK = 250  # resamples held as floats at a time: 160,000 clusters then take 0.3 GB, and 1.3 as counts
# With fewer clusters than this that have any yes, or any no, resampling undercovers: 84 % for 32 prompts of five
# samples at a rate of 5 % (simulated in tests/ground/measure).
FEW = 10
Z = 1.959963984540054


def wilson(hits: float, n: float) -> tuple[float, float]:
    """Interval of a proportion from `hits` of `n` independent trials; (0, 1) without trials."""
    if n == 0:
        return 0.0, 1.0
    p = hits / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return (0.0 if hits <= 0 else max(0.0, middle - half)), (1.0 if hits >= n else min(1.0, middle + half))


@lru_cache(maxsize=8)
def _draws(clusters: int, seed: int) -> NDArray[np.uint16]:
    """How often each cluster is drawn in each resample, [RESAMPLES, clusters]."""
    rng = np.random.default_rng(seed)
    draw_counts = np.empty((RESAMPLES, clusters), dtype=np.uint16)
    for at in range(0, RESAMPLES, BLOCK):
        block = draw_counts[at : at + BLOCK]
        block[:] = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=len(block))
    return draw_counts


def _resample_jointly(seed: int, *tables: Table) -> list[Floats]:
    """The values of several tables over the same clusters in every resample: [RESAMPLES] each."""
    draws, columns = _draws(len(tables[0].clusters), seed), np.concatenate([t.sums for t in tables], 1)
    blocks = [draws[at : at + BLOCK].astype(np.float64) @ columns for at in range(0, RESAMPLES, BLOCK)]
    cuts = np.cumsum([t.sums.shape[1] for t in tables])[:-1]
    parts = np.split(np.concatenate(blocks), cuts, axis=1)
    return [t.statistic(part) for t, part in zip(tables, parts, strict=True)]


def resample(table: Table, seed: int = 0) -> Floats:
    """The values of a table's statistic in every resample [RESAMPLES, ...]; `interval` uses them."""
    return _resample_jointly(seed, table)[0]


def ends(values: Floats) -> tuple[float, float]:
    """The middle 95 % of resampled values."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def interval(table: Table, seed: int = 0) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of a table's value. Yes/no answers: Wilson if each cluster is one answer, or if fewer than FEW
    clusters have a yes or have a no. Otherwise: clustered bootstrap. None for fewer than 2 clusters, or if a statistic
    other than a ratio is the same in all resamples. A leaning has its share's interval.

    With fewer than FEW clusters the interval of a mean that is no share, such as a loss, is at least that of Student's
    t, bounded only by 0."""
    count = len(table.clusters)
    if count < 2 or np.isnan(table.value):
        return None, None
    if table.statistic is leaning:
        low, high = interval(replace(table, statistic=ratio), seed)
        return (None, None) if low is None or high is None else (2 * low - 1, 2 * high - 1)
    if _yes_no(table):
        single = bool((table.den == 1).all() and np.isin(table.num, (0.0, 1.0)).all())
        if single or min((table.num > 0).sum(), (table.num < table.den).sum()) < FEW:
            n = float(count) if single else effective_n(table)
            return wilson(table.value * n, n)
    draws = _resample_jointly(seed, table)[0]
    low, high = ends(draws)
    if low == high and table.statistic is not ratio:
        return None, None
    if count < FEW and table.statistic is ratio and not _share(table):
        # the variance of resampled sums is too small by (count - 1) / count
        half = _students_half(draws, count - 1) * math.sqrt(count / (count - 1))
        least = 0.0 if (table.sums >= 0).all() else -math.inf
        low, high = max(least, min(low, table.value - half)), max(high, table.value + half)
    return low, high


def _students_half(draws: Floats, freedom: int) -> float:
    """Half-width of Student's t interval, with the standard error from resamples."""
    return float(stdtrit(freedom, 0.975) * np.nanstd(draws))


def _share(table: Table) -> bool:
    """Whether a ratio lies between 0 and 1 in every cluster."""
    return bool(((table.num >= 0) & (table.num <= table.den)).all())


def _yes_no(table: Table) -> bool:
    """Whether the sums are counts of yes among answers; a tie counts as half a yes."""
    return table.statistic is ratio and _share(table) and bool((table.num * 2 % 1 == 0).all())


def effective_n(table: Table) -> float:
    """Effective number of independent answers in a yes/no table: answers / design effect.

    The design effect (Kish 1965) is the variance of the ratio between clusters over that of independent answers, at
    least 1. It includes one extra cluster of mean size in which all give the rarer answer: a few hits can't show
    whether samples of a prompt agree, and without the extra cluster they seem not to. If nobody gives the rarer answer,
    clusters of equal size then count once each.
    """
    num, den = table.num[table.den > 0], table.den[table.den > 0]
    answers, size = float(den.sum()), float(den.mean())
    rare = np.append(num if table.value <= 0.5 else den - num, size)
    den = np.append(den, size)
    share = rare.sum() / den.sum()
    spread = float(((rare - share * den) ** 2).sum()) / float(den.sum() * share * (1 - share))
    return answers / max(1.0, spread)


def posterior(table: Table, seed: int) -> Floats:
    """Draws [RESAMPLES] of a yes/no rate from Jeffreys' posterior Beta(k + 1/2, n - k + 1/2) of k yes among n answers,
    n the effective number. Its mean is the log-linear rate. It varies even if all answers agree; resamples don't."""
    n = effective_n(replace(table, statistic=ratio))
    yes, answers = table.sums.sum(axis=0)
    k = n * yes / answers
    return np.random.default_rng(seed).beta(k + 0.5, n - k + 0.5, size=RESAMPLES)


@dataclass(frozen=True, slots=True)
class Difference:
    """second - first, with its 95 % interval; both sides share `paired` clusters."""

    value: float
    low: float
    high: float
    paired: int


def difference(first: Table, second: Table, seed: int = 0) -> Difference:
    """second - first: paired by cluster if both share clusters, else as two independent tables.

    Resamples vary too little if few clusters changed. With no changed cluster the interval of yes/no answers is as wide
    as the share that may have changed unseen (Wilson). With fewer than FEW it is at least that of Student's t over
    them, or, for yes/no answers, that of independent tables if that is narrower. If each side's answers all agree, or
    only one cluster is shared, it is that of independent tables. Raises ValueError if a side has no clusters, or the
    statistics differ.
    """
    if first.statistic != second.statistic:
        raise ValueError("a difference needs two tables of one statistic")
    if first.statistic is leaning:
        share = difference(replace(first, statistic=ratio), replace(second, statistic=ratio), seed)
        return Difference(2 * share.value, 2 * share.low, 2 * share.high, share.paired)
    shared = set(first.clusters) & set(second.clusters)
    if not shared:
        return independent(first, second, seed)
    first, second = (only(t, sorted(shared)) for t in (first, second))
    yes_no = _yes_no(first) and _yes_no(second)
    changed = int((first.sums != second.sums).any(axis=1).sum())
    if not changed:
        half = wilson(0, len(shared))[1] if yes_no else 0.0
        return Difference(0.0, -half, half, len(shared))
    if (_unanimous(first) and _unanimous(second)) or len(shared) < 2:
        separate = independent(first, second, seed)
        return Difference(separate.value, separate.low, separate.high, len(shared))
    draws_a, draws_b = _resample_jointly(seed, first, second)
    draws = draws_b - draws_a
    value, (low, high) = second.value - first.value, ends(draws)
    if changed < FEW:
        half = _students_half(draws, max(1, changed - 1))
        low, high = min(low, value - half), max(high, value + half)
        if yes_no and (separate := independent(first, second, seed)).high - separate.low < high - low:
            low, high = separate.low, separate.high
    if yes_no:
        low, high = max(-1.0, low), min(1.0, high)
    return Difference(value, low, high, len(shared))


def independent(first: Table, second: Table, seed: int = 0) -> Difference:
    """second - first of two independent sets of clusters, even if names coincide. Combines the intervals of both sides
    (Zou and Donner 2008; Newcombe 1998 for shares). The interval is infinite if a side has one cluster of anything but
    shares. Raises ValueError if a side has no clusters.
    """
    if not first.clusters or not second.clusters:
        raise ValueError("a difference needs at least one cluster on both sides")
    a, b = first.value, second.value
    (low_a, high_a), (low_b, high_b) = (_sure_interval(t, seed) for t in (first, second))
    return Difference(b - a, b - a - math.hypot(b - low_b, high_a - a), b - a + math.hypot(high_b - b, a - low_a), 0)


def _sure_interval(table: Table, seed: int) -> tuple[float, float]:
    """The interval of a table; for one cluster the widest possible."""
    low, high = interval(table, seed)
    if low is not None and high is not None:
        return low, high
    return wilson(table.value, 1) if _yes_no(table) else (-math.inf, math.inf)


def _unanimous(table: Table) -> bool:
    """Whether all clusters' shares are 0, or all are 1."""
    return table.statistic is ratio and bool((table.num == 0).all() or (table.num == table.den).all())


def only(table: Table, clusters: list[str]) -> Table:
    """The table restricted to these clusters, in this order."""
    place = {name: i for i, name in enumerate(table.clusters)}
    rows = [place[name] for name in clusters]
    return Table(tuple(clusters), table.sums[rows], table.n, table.statistic)


def exact(hits: int, n: int) -> tuple[float, float]:
    """Two-sided interval of a proportion from few independent trials (Clopper and Pearson 1934); (0, 1) without."""
    low = float(betaincinv(hits, n - hits + 1, 0.025)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 0.975)) if hits < n else 1.0
    return low, high


def most_behind_none(n: int) -> float:
    """The greatest rate that n independent trials without a hit allow, one-sided at 95 %: 1 - 0.05^(1/n)."""
    return float(1 - 0.05 ** (1 / n)) if n else 1.0
