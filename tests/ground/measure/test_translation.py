"""Corpus BLEU and chrF of summed counts equal sacreBLEU's; means over languages, intervals and tests stand on them."""

from __future__ import annotations

import random

import numpy as np
import pytest
import sacrebleu

from charter.ground.measure.intervals import difference, interval
from charter.ground.measure.score import Table, ratio, sum_by_cluster, tabulate
from charter.ground.measure.translation import OverGroups, bleu, chrf, chrf_counts, over_languages
from charter.ground.reports.permutation import exchange_p

TEXT = "the a boat house river old new green went came slowly , . over under and then we they"
WORDS = TEXT.split()


def corpus(seed: int, size: int = 40, noise: float = 0.3) -> tuple[list[str], list[str]]:
    """Hypotheses and references that share many words; some are short or empty."""
    rng = random.Random(seed)
    references = [" ".join(rng.choices(WORDS, k=rng.randint(1, 15))) for _ in range(size)]
    hypotheses = [" ".join(rng.choice(WORDS) if rng.random() < noise else w for w in r.split()) for r in references]
    hypotheses = [" ".join(h.split()[: rng.randint(0, 15)]) if rng.random() < 0.3 else h for h in hypotheses]
    return hypotheses, references


def bleu_counts(hypothesis: str, reference: str) -> list[int]:
    score = sacrebleu.BLEU(tokenize="13a").corpus_score([hypothesis], [[reference]])
    return [score.sys_len, score.ref_len, *score.counts, *score.totals]


def summed_counts(count, hypotheses, references):  # type: ignore[no-untyped-def]
    return np.array([count(h, r) for h, r in zip(hypotheses, references, strict=True)], dtype=np.float64).sum(axis=0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("noise", [0.0, 0.4, 1.0])
def test_scores_equal_sacrebleu(seed: int, noise: float) -> None:
    hypotheses, references = corpus(seed, 3 if seed == 0 else 40, noise)
    reference_score = sacrebleu.corpus_bleu(hypotheses, [references], tokenize="13a").score
    assert bleu(summed_counts(bleu_counts, hypotheses, references)) == pytest.approx(reference_score, abs=1e-9)
    reference_score = sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert chrf(summed_counts(chrf_counts, hypotheses, references)) == pytest.approx(reference_score, abs=1e-9)


@pytest.mark.parametrize(
    ("hypothesis", "reference"),
    [
        ("", "a boat went over"),
        ("boat", "a boat went over"),  # no bigram: BLEU is 0
        ("we they came slowly", "a boat went over"),  # nothing matched
        ("a boat came over there", "a boat went over there"),  # no 4-gram matched: smoothed
        ("a x boat y went", "a boat went over the river"),  # three orders without a match
        ("ab", "a"),  # the reference is shorter than most orders
        ("船が行く", "船は行く"),
        ("a boat went over", "a boat went over"),
    ],
)
def test_single_sentences_equal_sacrebleu(hypothesis: str, reference: str) -> None:
    score = bleu(np.array(bleu_counts(hypothesis, reference), dtype=np.float64))
    assert score == pytest.approx(sacrebleu.corpus_bleu([hypothesis], [[reference]]).score, abs=1e-9)
    score = chrf(np.array(chrf_counts(hypothesis, reference), dtype=np.float64))
    assert score == pytest.approx(sacrebleu.corpus_chrf([hypothesis], [[reference]]).score, abs=1e-9)


def rows(seed: int, language: str, noise: float = 0.3) -> list[dict[str, object]]:
    hypotheses, references = corpus(seed, 40, noise)
    pairs = enumerate(zip(hypotheses, references, strict=True))
    return [
        {"id": f"s{n}", "group": language, "bleu": bleu_counts(h, r), "chrf": chrf_counts(h, r)} for n, (h, r) in pairs
    ]


def test_the_mean_over_languages_is_that_of_corpus_scores() -> None:
    both = rows(1, "fra") + rows(2, "deu", 0.6)
    each = [sacrebleu.corpus_bleu(m, [r]).score for m, r in (corpus(1), corpus(2, 40, 0.6))]
    table = over_languages("bleu", bleu)(both)
    assert table.value == pytest.approx(np.mean(each), abs=1e-9)
    assert (table.n, len(table.clusters), table.sums.shape) == (80, 40, (40, 20))
    alone = over_languages("bleu", bleu)(rows(2, "deu", 0.6))
    assert alone.value == pytest.approx(each[1], abs=1e-9)
    between = (each[0] + each[1]) / 2
    assert over_languages("bleu", bleu, above=between)(both).value == 0.5
    assert over_languages("bleu", bleu, above=0.0)(both).value == 1.0
    assert np.isnan(over_languages("bleu", bleu)([]).value)


def test_an_interval_is_that_of_resampled_corpora() -> None:
    """The same resamples, scored one by one by sacreBLEU."""
    hypotheses, references = corpus(3)
    low, high = interval(over_languages("bleu", bleu)(rows(3, "fra")))
    rng = np.random.default_rng(7)
    scores = []
    for _ in range(400):
        sample = rng.integers(0, len(hypotheses), len(hypotheses))
        scores.append(sacrebleu.corpus_bleu([hypotheses[i] for i in sample], [[references[i] for i in sample]]).score)
    assert low is not None and high is not None
    assert low == pytest.approx(np.percentile(scores, 2.5), abs=2) and high == pytest.approx(
        np.percentile(scores, 97.5), abs=2
    )


def test_two_models_are_compared_sentence_by_sentence() -> None:
    worse, better = (over_languages("bleu", bleu)(rows(4, "fra", noise)) for noise in (0.6, 0.1))
    change = difference(worse, better)
    assert change.value == pytest.approx(better.value - worse.value) and change.paired == 40
    assert 0 < change.low < change.value < change.high
    assert exchange_p([(1.0, worse, better)]) < 0.01
    same = difference(worse, worse)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0) and exchange_p([(1.0, worse, worse)]) == 1.0
    other = over_languages("bleu", bleu)(rows(4, "deu"))
    with pytest.raises(ValueError, match="one statistic"):
        difference(worse, other)


def test_exchanging_two_sentences_by_hand() -> None:
    """Two changed clusters have four exchanges, of which two are as large as what was seen."""
    first = sum_by_cluster([("a", [2.0, 4.0], 0), ("b", [1.0, 4.0], 0)], 2, OverGroups(ratio, ("g",)))
    second = sum_by_cluster([("a", [3.0, 4.0], 0), ("b", [2.0, 4.0], 0)], 2, OverGroups(ratio, ("g",)))
    assert exchange_p([(1.0, first, second)]) == 0.5
    plain = [tabulate([("a", 2, 4), ("b", 1, 4)]), tabulate([("a", 3, 4), ("b", 2, 4)])]
    assert exchange_p([(1.0, plain[0], plain[1])]) == 0.5


def test_a_language_that_a_resample_leaves_out_is_left_out_of_its_mean() -> None:
    sums = np.array([[3.0, 4.0, 0.0, 0.0], [1.0, 4.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    values = OverGroups(ratio, ("a", "b"))(sums)
    assert values[:2].tolist() == [0.75, 0.625] and np.isnan(values[2])
    assert OverGroups(ratio, ("a", "b"), above=0.5)(sums)[:2].tolist() == [1.0, 0.5]
    assert Table(("x",), sums[:1], 1, OverGroups(ratio, ("a", "b"))).value == 0.75
