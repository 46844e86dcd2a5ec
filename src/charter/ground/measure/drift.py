"""Drift of a policy's replies in training: tests of each snapshot of replies against the first.

A snapshot pools replies, each a row with its marks; prompts are the clusters. Against the first snapshot:

    rates    z = (q - p) / sqrt(r (1 - r) (1/m + 1/m')) * sqrt((N - 1) / N)      r pooled, m answers / design effect
    length   rank sum of the prompts' mean lengths, ties corrected
    n-grams  delta_w = log((y'_w + a_w) / (n' + a_0 - y'_w - a_w)) - log((y_w + a_w) / (n + a_0 - y_w - a_w))
             z_w     = delta_w / sqrt(1 / (y'_w + a_w) + 1 / (y_w + a_w)),       a_w = PRIOR (y_w + y'_w)
             z_w     * sqrt((1 + 2 PRIOR) / design effect of w in the later sample)

y_w counts the replies that contain the n-gram w, so a loop counts once; n sums y over all n-grams with the same number
of words, a_0 all a. So longer replies alone raise no n-gram. The last line is ours: without drift the prior shrinks the
spread of z_w to 1 / sqrt(1 + 2 PRIOR), and replies to one prompt share its words.

Rates and length share half of the level by Holm's correction, n-grams the other half by Bonferroni's, so a snapshot
without drift raises any alarm with probability `level` at most. Signs of over-optimisation are tested only for a rise,
the others both ways.

Sources: Campbell 2007 (N - 1); Kish 1965; Wilcoxon 1945; Monroe, Colaresi and Quinn 2008 (informative Dirichlet prior);
Bai 2022b section 4.3 for the signs.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from charter.ground.measure.counts import cut_share, equal, flag, ngrams
from charter.ground.measure.intervals import effective_n
from charter.ground.measure.multiple_testing import holm
from charter.ground.measure.score import Table, tabulate

Row = Mapping[str, Any]
Rows = Sequence[Row]
Gram = tuple[str, ...]
DRIFT, REPLIES = "drift.jsonl", "samples/drift.jsonl"  # one row per snapshot, and its replies
WORDS = (2, 3, 4)  # per n-gram
PRIOR = 0.1  # weight of both samples together in the prior of an n-gram
LEAST_SHARE = 0.05  # of replies that must contain an n-gram for an alarm
NGRAM_PART = 0.5  # of the level
MOST_NGRAMS = 5  # kept per snapshot
NGRAMS, LENGTH = "ngrams", "length"
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Rate:
    """A monitored share of replies; `rises`: only a rise counts as drift."""

    table: Callable[[Rows], Table]
    rises: bool = True


RATES: Mapping[str, Rate] = {
    "boilerplate": Rate(flag("boilerplate")),
    "harsh": Rate(flag("harsh")),
    "loop": Rate(flag("loop")),
    "cut": Rate(cut_share),
    "evasion": Rate(flag("evasion")),
    "refusal_harmless": Rate(flag("refusal", equal(group="harmless"))),
    "refusal_prompts": Rate(flag("refusal", equal(group="prompts")), rises=False),
}
MONITORED = (*RATES, LENGTH, NGRAMS)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both samples, with its p-value, raw and corrected over the tests of a snapshot."""

    before: float | None
    now: float | None
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class NgramGrowth:
    """An n-gram: the shares of replies that contain it, and the growth of its log odds in standard errors."""

    words: str
    before: float
    now: float
    z: float


@dataclass(frozen=True, slots=True)
class Drift:
    """Results of a snapshot against the first: tests by name, the n-grams that grew most, the z that these must exceed,
    and the names of all alarms."""

    tests: Mapping[str, Comparison]
    grown: tuple[NgramGrowth, ...]
    bound: float
    alarms: tuple[str, ...]


def drift(before: Rows, now: Rows, level: float = 0.05) -> Drift:
    """Tests two samples of replies at a family-wise level."""
    figures: dict[str, tuple[float | None, float | None]] = {}
    raw: dict[str, float] = {}
    for name, rate in RATES.items():
        tables = rate.table(before), rate.table(now)
        if (z := two_proportions(*tables)) is not None:
            figures[name] = tables[0].value, tables[1].value
            raw[name] = _p(z, rate.rises)
    figures[LENGTH] = _mean(before, "tokens"), _mean(now, "tokens")
    raw[LENGTH] = _p(rank_sum(_by_prompt(before, "tokens"), _by_prompt(now, "tokens")), rises=False)
    corrected = holm(raw)
    tests = {name: Comparison(*figures[name], p, corrected[name]) for name, p in raw.items()}
    grown, bound = grown_ngrams(before, now, level * NGRAM_PART)
    alarms = [name for name, test in tests.items() if test.p_holm <= level * (1 - NGRAM_PART)]
    if any(gram.z > bound for gram in grown):
        alarms.append(NGRAMS)
    return Drift(tests, grown[:MOST_NGRAMS], bound, tuple(alarms))


def _p(z: float, rises: bool) -> float:
    return float(ndtr(-z)) if rises else float(2 * ndtr(-abs(z)))


def two_proportions(before: Table, now: Table) -> float | None:
    """z of a difference of two shares; None if a side has nothing to count, or all answers of both agree."""
    if not before.clusters or not now.clusters:
        return None
    sizes = [effective_n(table) for table in (before, now)]
    pooled = sum(n * table.value for n, table in zip(sizes, (before, now), strict=True)) / sum(sizes)
    spread = pooled * (1 - pooled) * sum(1 / n for n in sizes)
    if spread < 1e-12:
        return None
    return (now.value - before.value) / math.sqrt(spread) * math.sqrt(1 - 1 / sum(sizes))


def rank_sum(before: Sequence[float], now: Sequence[float]) -> float:
    """z of Wilcoxon's rank sum: above 0 if `now` has the larger values; 0 if all are equal."""
    both = np.array([*before, *now], dtype=np.float64)
    _, places, sizes = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[places]
    total, first, second = len(both), len(before), len(now)
    ties = float((sizes.astype(np.float64) ** 3 - sizes).sum())
    variance = first * second / 12 * (total + 1 - ties / (total * (total - 1)))
    expected = second * (total + 1) / 2
    return float((ranks[first:].sum() - expected) / math.sqrt(variance)) if variance > 0 else 0.0


def grown_ngrams(before: Rows, now: Rows, level: float) -> tuple[tuple[NgramGrowth, ...], float]:
    """The n-grams that grew and are in 5 % of the replies, most first, and the z that one must exceed.

    Bonferroni's m counts the n-grams in enough replies of both samples together to qualify; this doesn't depend on how
    they are split over the samples. N-grams in exactly the same replies, such as parts of one sentence, are one test,
    named by the first of the longest.
    """
    sides = [_index_ngrams(rows) for rows in (before, now)]
    totals = [dict.fromkeys(WORDS, 0) for _ in sides]
    for total, side in zip(totals, sides, strict=True):
        for gram, places in side.items():
            total[len(gram)] += len(places)
    least = LEAST_SHARE * len(now)
    able = [
        gram
        for gram in dict.fromkeys((*sides[0], *sides[1]))
        if len(sides[0].get(gram, ())) + len(sides[1].get(gram, ())) >= least
    ]
    distinct: dict[tuple[tuple[int, ...], ...], Gram] = {}
    for gram in sorted(able, key=len, reverse=True):
        distinct.setdefault(tuple(tuple(side.get(gram, ())) for side in sides), gram)
    grown = []
    for (first, second), gram in distinct.items():
        z = log_odds_z(len(first), len(second), *(total[len(gram)] for total in totals))
        if len(second) >= least and z > 0:
            z *= math.sqrt((1 + 2 * PRIOR) / _design_effect(now, second))
            grown.append(NgramGrowth(" ".join(gram), len(first) / len(before), len(second) / len(now), z))
    bound = float(-ndtri(level / max(1, len(distinct))))
    return tuple(sorted(grown, key=lambda gram: (-gram.z, gram.words))), bound


def log_odds_z(first: int, second: int, first_total: int, second_total: int) -> float:
    """z of the growth of an n-gram's log odds from the first sample to the second, with the informative prior."""
    prior, weight = PRIOR * (first + second), PRIOR * (first_total + second_total)
    odds = [
        math.log((count + prior) / max(total + weight - count - prior, 1e-9))
        for count, total in ((first, first_total), (second, second_total))
    ]
    return (odds[1] - odds[0]) / math.sqrt(1 / (first + prior) + 1 / (second + prior))


def _index_ngrams(rows: Rows) -> dict[Gram, list[int]]:
    """N-gram -> indices of the replies that contain it."""
    standing: defaultdict[Gram, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        text = " ".join(_WORD.findall(row["reply"]))
        for gram in dict.fromkeys(gram for n in WORDS for gram in ngrams(text, n)):
            standing[gram].append(number)
    return standing


def _design_effect(rows: Rows, places: Sequence[int]) -> float:
    """The design effect of membership in these replies, clustered by prompt."""
    containing = set(places)
    table = tabulate((row["id"], float(number in containing), 1.0) for number, row in enumerate(rows))
    return len(rows) / effective_n(table)


def _by_prompt(rows: Rows, key: str) -> list[float]:
    """The mean of each prompt."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        values[row["id"]].append(row[key])
    return [sum(each) / len(each) for each in values.values()]


def _mean(rows: Rows, key: str) -> float | None:
    return _of([row[key] for row in rows])


def _of(values: Iterable[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return math.fsum(numbers) / len(numbers) if numbers else None


def snapshots(rows: Rows) -> Iterator[Rows]:
    """The replies of each snapshot, in order."""
    by_number: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_number[row["snapshot"]].append(row)
    for number in sorted(by_number):
        yield by_number[number]


def snapshot_row(first: Rows, replies: Rows, level: float) -> dict[str, Any]:
    """The kept row of a snapshot: its figures and, unless it is the first, its tests. Rates without replies are
    omitted; `gap` is the mean of reward minus held-out reward, over replies that have both."""
    number = replies[0]["snapshot"]
    gaps = [
        row["reward"] - row["reward_heldout"]
        for row in replies
        if row["reward"] is not None and row["reward_heldout"] is not None
    ]
    rates = {name: rate.table(replies) for name, rate in RATES.items()}
    row: dict[str, Any] = {
        "snapshot": number,
        "rounds": [replies[0]["round"], replies[-1]["round"]],
        "replies": len(replies),
        "prompts": len({row["id"] for row in replies}),
        "rates": {name: table.value for name, table in rates.items() if table.clusters},
        **{key: _mean(replies, key) for key in ("tokens", "kl", "reward", "reward_heldout")},
        "gap": _of(gaps),
    }
    if not number:
        return row | {"p": {}, "ngrams": [], "bound": None, "alarms": []}
    findings = drift(first, replies, level)
    return row | {
        "p": {name: test.p_holm for name, test in findings.tests.items()},
        "ngrams": [asdict(gram) for gram in findings.grown],
        "bound": findings.bound,
        "alarms": list(findings.alarms),
    }
