"""Order, median, ties, repeats, and the KL bound of a choice among samples, by hand."""

import math
import random

import pytest
from pydantic import ValidationError

from charter.ground.judge.sampling_strategy import (
    SamplingStrategy,
    best_first,
    display_name,
    nearest_median,
    order_statistic_kl,
    repeats_last,
)


def test_best_first_sorts_by_score_and_keeps_the_order_of_ties() -> None:
    assert best_first([0.1, 0.9, 0.5]) == [1, 2, 0]
    assert best_first([0.1, 0.9, 0.5], 2) == [1, 2]
    assert best_first([0.5, 0.9, 0.9, 0.5], 3) == [1, 2, 0]
    assert best_first([]) == []


def test_the_median_of_an_odd_number_is_the_middle_one() -> None:
    assert nearest_median([3.0, 1.0, 2.0], 1) == [2]
    # ranked: 5 (4.0), 1 (3.0), 3 (2.5), 4 (2.0), 2 (1.0), 0 (0.0) with place 6 (9.0) on top: the middle is place 3
    scores = [0.0, 3.0, 1.0, 2.5, 2.0, 4.0, 9.0]
    assert nearest_median(scores, 1) == [3]
    assert nearest_median(scores, 3) == [3, 4, 1], "of two equally near the lower score comes first"
    assert nearest_median(scores) == [3, 4, 1, 2, 5, 0, 6]


def test_the_median_of_an_even_number_is_the_lower_of_the_middle_two() -> None:
    assert nearest_median([1.0, 2.0, 3.0, 4.0], 2) == [1, 2]
    assert nearest_median([5.0, 7.0], 1) == [0]


def test_the_order_decides_ties_about_the_median() -> None:
    assert nearest_median([1.0, 1.0, 1.0], 1) == [1]
    assert nearest_median([1.0, 1.0, 1.0, 1.0], 2) == [2, 1], "the later of equal scores counts as the lower"


def test_a_text_that_came_before_goes_to_the_end() -> None:
    texts = ["no", "yes", "no", "perhaps"]
    assert repeats_last([2, 0, 1, 3], texts) == [2, 1, 3, 0]
    assert repeats_last([0, 1], ["a", "a"]) == [0, 1]


def test_the_kl_of_an_order_statistic_by_formula_and_by_simulation() -> None:
    for k in (1, 2, 16, 64):
        assert order_statistic_kl(k) == pytest.approx(math.log(k) - (k - 1) / k, abs=1e-12)
    # best of 2: density 2u on [0, 1]; integral of 2u ln 2u is ln 2 - 1/2. Middle of 3: 6u(1-u), which integrates to
    # ln 6 - 5/3
    assert order_statistic_kl(2) == pytest.approx(math.log(2) - 0.5)
    assert order_statistic_kl(3, 2) == pytest.approx(math.log(6) - 5 / 3)
    assert order_statistic_kl(17, 9) == pytest.approx(0.7487, abs=1e-4)
    assert order_statistic_kl(17, 17) == pytest.approx(order_statistic_kl(17, 1)), "worst and best are as far"
    draw = random.Random(3)
    tops = [max(draw.random() for _ in range(16)) for _ in range(20000)]
    mean = sum(math.log(16 * u**15) for u in tops) / len(tops)
    assert mean == pytest.approx(order_statistic_kl(16), abs=0.03)


def test_names_say_the_mode_and_what_is_not_usual() -> None:
    assert display_name("start", SamplingStrategy()) == "start"
    assert display_name("start", SamplingStrategy(mode="rejection")) == "start (rejection)"
    assert display_name("rl", SamplingStrategy(mode="median", samples=5)) == "rl (median, 5 samples)"
    assert display_name("rl", SamplingStrategy(mode="rejection", sampled="prompted")) == "rl (rejection of prompted)"
    assert display_name("rl", SamplingStrategy(mode="prompted", examples=3)) == "rl (prompted, 3 examples)"
    assert (
        SamplingStrategy(mode="rejection").count,
        SamplingStrategy(mode="median").count,
        SamplingStrategy().count,
    ) == (16, 17, 1)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"samples": 4}, "samples"),
        ({"mode": "plain", "grader": "x"}, "grader"),
        ({"mode": "prompted", "sampled": "plain"}, "sampled"),
        ({"mode": "rejection", "examples": 3}, "examples"),
        ({"mode": "plain", "form": "turns"}, "form"),
        ({"mode": "best"}, "mode"),
        ({"mode": "prompted", "examples": 15}, "examples"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        SamplingStrategy.model_validate(settings)
