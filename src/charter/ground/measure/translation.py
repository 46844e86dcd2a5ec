"""Translation scores: corpus BLEU and chrF from summed counts, and their means over languages.

BLEU (Papineni 2002; as sacreBLEU, Post 2018, with exponential smoothing) and chrF2 (Popović 2015) are not means over
sentences. Both are functions of counts summed over sentences, so a resample of sentences has a score, too.

    BLEU = 100 exp( min(0, 1 - reference / hypothesis) + 1/4 sum_n log p_n ),  p_n = matched_n / hypothesis_n,
           and 1 / (2^k hypothesis_n) for the k-th order without a match
    chrF = 100 (1 + 4) P R / (4 P + R),  P and R the means over orders of matched_n over the hypothesis's and over the
           reference's
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from charter.ground.measure.counts import Row
from charter.ground.measure.languages import resources
from charter.ground.measure.score import Floats, Statistic, Table, ratio, sum_by_cluster, tabulate

BLEU_ORDER, CHRF_ORDER, BETA = 4, 6, 2.0
BUCKETS = ("high", "middle", "low")  # of languages, by their public text
UNDERSTANDABLE, GOOD = 30.0, 50.0  # the card's rule of thumb for BLEU, section 4.1


def bleu(sums: Floats) -> Floats:
    """Corpus BLEU, 0 to 100, from sums [..., 10]: words of the hypotheses, words of the references, then for orders 1
    to 4 the matched n-grams and the hypotheses' n-grams. nan without a reference."""
    words, reference_words = sums[..., 0], sums[..., 1]
    matched, hypothesis_grams = sums[..., 2 : 2 + BLEU_ORDER], sums[..., 2 + BLEU_ORDER :]
    missed = np.cumsum(matched == 0, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(matched > 0, matched, 0.5**missed) / hypothesis_grams
        score = 100 * np.exp(np.minimum(0.0, 1 - reference_words / words) + np.log(precision).mean(axis=-1))
    score = np.where((matched > 0).any(axis=-1) & (hypothesis_grams > 0).all(axis=-1), score, 0.0)
    return np.where(reference_words > 0, score, np.nan)


def chrf(sums: Floats) -> Floats:
    """Corpus chrF2, 0 to 100, from sums [..., 18]: for orders 1 to 6 the character n-grams of the hypotheses, of the
    references, and the matched ones. nan without a reference."""
    hypothesis, reference, matched = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
    counted = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(1, counted.sum(axis=-1))
    precision = (
        np.divide(matched, hypothesis, out=np.zeros_like(matched), where=counted).sum(axis=-1) / orders
    )
    recall = np.divide(matched, reference, out=np.zeros_like(matched), where=counted).sum(axis=-1) / orders
    both = BETA**2 * precision + recall
    score = 100 * (1 + BETA**2) * np.divide(precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return np.where(reference[..., 0] > 0, score, np.nan)


def chrf_counts(hypothesis: str, reference: str) -> list[int]:
    """The counts that one sentence adds to `chrf`, without blanks. If the reference is too short for an order, the
    hypothesis counts 0 there."""
    counts: list[int] = []
    texts = ["".join(text.split()) for text in (hypothesis, reference)]
    for n in range(1, CHRF_ORDER + 1):
        hypothesis_grams, reference_grams = (
            Counter(t[i : i + n] for i in range(len(t) - n + 1)) for t in texts
        )
        counts += [
            hypothesis_grams.total() if reference_grams else 0,
            reference_grams.total(),
            (hypothesis_grams & reference_grams).total(),
        ]
    return counts


@dataclass(frozen=True, slots=True)
class OverGroups:
    """The mean of a statistic over groups, whose columns follow each other; with `above`, the share of groups in which
    it exceeds that. Groups without a value are excluded."""

    of: Statistic
    groups: tuple[str, ...]
    above: float | None = None

    def __call__(self, sums: Floats) -> Floats:
        each = self.of(sums.reshape(*sums.shape[:-1], len(self.groups), -1))
        defined = ~np.isnan(each)
        points = each if self.above is None else (each > self.above).astype(np.float64)
        return ratio(np.stack([np.where(defined, points, 0.0).sum(axis=-1), defined.sum(axis=-1)], axis=-1))


def over_languages(
    key: str, of: Statistic, above: float | None = None, bucket: str = ""
) -> Callable[[Sequence[Row]], Table]:
    """The mean over languages (`group`) of a corpus score, or the share of languages with more than `above`; with
    `bucket`, over the languages with so much public text. A row's counts are under `key`; a sentence is one cluster
    over all languages."""

    def table(rows: Sequence[Row]) -> Table:
        rows = [r for r in rows if resources(str(r["group"])) == bucket] if bucket else rows
        if not rows:
            return tabulate(())
        groups, width = tuple(sorted({str(r["group"]) for r in rows})), len(rows[0][key])
        at = {name: place * width for place, name in enumerate(groups)}
        columns = ((str(r["id"]), r[key], at[str(r["group"])]) for r in rows)
        return sum_by_cluster(columns, width * len(groups), OverGroups(of, groups, above))

    return table
