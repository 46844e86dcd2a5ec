"""Agreement of raters on categorical items: percent, Fleiss' kappa, Krippendorff's alpha.

With n_ic raters of item i in category c and m_i = sum over c of n_ic >= 2 raters

    P_i   = sum over c of n_ic (n_ic - 1) / (m_i (m_i - 1))         pairs of raters of an item that agree
    kappa = (P - Pe) / (1 - Pe)      P = mean of P_i, Pe = sum over c of (mean over i of n_ic / m_i)^2
    alpha = 1 - (n - 1) sum over i, c != d of n_ic n_id / (m_i - 1) / sum over c != d of n_c n_d

Items may have different numbers of raters: kappa then gives every item the same weight, in P and in Pe (Gwet 2014),
which is Fleiss 1971 if the numbers are equal; alpha (Krippendorff 2011, nominal) weighs every vote the same. Items with
one rater are excluded. Intervals resample items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from charter.ground.measure.intervals import RESAMPLES, wilson
from charter.ground.measure.score import Floats


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval; None if undefined, such as a kappa of votes that are all the same."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of raters on `items` items with `votes` votes."""

    items: int
    votes: int
    percent: Estimate
    kappa: Estimate
    alpha: Estimate


def agreement(patterns: Iterable[Sequence[int]], seed: int = 0) -> Agreement | None:
    """Agreement on items. patterns: the number of raters in each category, per item. None without an item of two
    raters."""
    distinct = Counter(tuple(pattern) for pattern in patterns if sum(pattern) > 1)
    if not distinct:
        return None
    ordered = sorted(distinct)  # items of one pattern are alike, so patterns are drawn by their share
    counts = np.array(ordered, dtype=np.float64)
    many = np.array([distinct[pattern] for pattern in ordered], dtype=np.float64)
    raters, items = counts.sum(axis=1), int(many.sum())
    agreeing = (counts * (counts - 1)).sum(axis=1)
    ones = np.ones(len(ordered))
    by_item = np.column_stack([agreeing / (raters * (raters - 1)), ones, counts / raters[:, None]])
    by_vote = np.column_stack([agreeing / (raters - 1), raters, counts])
    draws = np.random.default_rng(seed).multinomial(items, many / items, size=RESAMPLES).astype(np.float64)
    return Agreement(
        items,
        int(raters @ many),
        _percent(by_item, many, draws),
        _estimate(kappa, by_item, many, draws),
        _estimate(_alpha, by_vote, many, draws),
    )


def kappa(sums: Floats) -> Floats:
    """Kappa from sums [..., 2 + categories]: P_i, items, shares of each category."""
    shares = sums[..., 2:] / sums[..., 1:2]
    chance = (shares**2).sum(axis=-1)
    return _correct_for_chance(sums[..., 0] / sums[..., 1], chance)


def cohen(sums: Floats) -> Floats:
    """Cohen's kappa of two raters (Cohen 1960) from sums [..., 2 + 2 C]: items, items that they agree on, and the items
    of each of C categories by the first rater and by the second; nan if chance agreement is 1."""
    n, half = sums[..., 0], (sums.shape[-1] - 2) // 2
    first, second = sums[..., 2 : 2 + half], sums[..., 2 + half :]
    with np.errstate(divide="ignore", invalid="ignore"):
        return _correct_for_chance(sums[..., 1] / n, (first * second).sum(axis=-1) / n**2)


def _alpha(sums: Floats) -> Floats:
    """Alpha from sums [..., 2 + categories]: agreeing votes, votes, votes of each category."""
    votes, each = sums[..., 1], sums[..., 2:]
    return _correct_for_chance(sums[..., 0] / votes, (each * (each - 1)).sum(axis=-1) / (votes * (votes - 1)))


def _correct_for_chance(observed: Floats, chance: Floats) -> Floats:
    """Agreement beyond chance; nan if chance agreement is 1."""
    observed, chance = np.asarray(observed), np.asarray(chance)
    room = 1 - chance
    return np.asarray(np.divide(observed - chance, room, out=np.full(observed.shape, np.nan), where=room > 1e-12))


def _estimate(statistic: Callable[[Floats], Floats], sums: Floats, many: Floats, draws: Floats) -> Estimate:
    value = float(statistic(many @ sums))
    if np.isnan(value):
        return Estimate(None, None, None)
    values = statistic(draws @ sums)
    values = values[~np.isnan(values)]
    if len(values) < 2 or values.min() == values.max():
        return Estimate(value, None, None)
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def _percent(sums: Floats, many: Floats, draws: Floats) -> Estimate:
    """Share of agreeing pairs; Wilson's interval if all items agree alike, since resamples don't vary."""
    share = _estimate(lambda totals: totals[..., 0] / totals[..., 1], sums, many, draws)
    if share.value is None or share.low is not None:
        return share
    items = float(many.sum())
    return Estimate(share.value, *wilson(share.value * items, items))
