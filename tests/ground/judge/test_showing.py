"""Which replies are shown: order, middle, ties, repeats, and how far the choice is from the policy. Worked by hand."""

import math
import random

import pytest
from pydantic import ValidationError

from charter.ground.judge.showing import (
    Showing,
    least_harmful,
    median_of,
    nats_from_policy,
    repeats_last,
    shown_name,
)


def test_the_least_harmful_are_the_highest_scores_and_of_equal_ones_the_earlier() -> None:
    assert least_harmful([0.1, 0.9, 0.5]) == [1, 2, 0]
    assert least_harmful([0.1, 0.9, 0.5], 2) == [1, 2]
    assert least_harmful([0.5, 0.9, 0.9, 0.5], 3) == [1, 2, 0]
    assert least_harmful([]) == []


def test_the_median_of_an_odd_number_is_the_middle_one() -> None:
    assert median_of([3.0, 1.0, 2.0], 1) == [2]
    # ranked: 5 (4.0), 1 (3.0), 3 (2.5), 4 (2.0), 2 (1.0), 0 (0.0) with place 6 (9.0) on top: the middle is place 3
    scores = [0.0, 3.0, 1.0, 2.5, 2.0, 4.0, 9.0]
    assert median_of(scores, 1) == [3]
    assert median_of(scores, 3) == [3, 4, 1], "of two equally near the lower score comes first"
    assert median_of(scores) == [3, 4, 1, 2, 5, 0, 6]


def test_the_median_of_an_even_number_is_the_lower_of_the_middle_two() -> None:
    assert median_of([1.0, 2.0, 3.0, 4.0], 2) == [1, 2]
    assert median_of([5.0, 7.0], 1) == [0]


def test_ties_about_the_median_are_told_apart_by_their_order() -> None:
    assert median_of([1.0, 1.0, 1.0], 1) == [1]
    assert median_of([1.0, 1.0, 1.0, 1.0], 2) == [2, 1], "the later of equal scores counts as the lower"


def test_a_text_that_came_before_goes_to_the_end() -> None:
    texts = ["no", "yes", "no", "perhaps"]
    assert repeats_last([2, 0, 1, 3], texts) == [2, 1, 3, 0]
    assert repeats_last([0, 1], ["a", "a"]) == [0, 1]


def test_the_distance_from_the_policy_is_the_formula_and_what_numbers_give() -> None:
    for k in (1, 2, 16, 64):
        assert nats_from_policy(k) == pytest.approx(math.log(k) - (k - 1) / k, abs=1e-12)
    # best of 2: density 2u on [0, 1]; integral of 2u ln 2u is ln 2 - 1/2. Middle of 3: 6u(1-u), which integrates to
    # ln 6 - 5/3
    assert nats_from_policy(2) == pytest.approx(math.log(2) - 0.5)
    assert nats_from_policy(3, 2) == pytest.approx(math.log(6) - 5 / 3)
    assert nats_from_policy(17, 9) == pytest.approx(0.7487, abs=1e-4)
    assert nats_from_policy(17, 17) == pytest.approx(nats_from_policy(17, 1)), "worst and best are as far"
    draw = random.Random(3)
    tops = [max(draw.random() for _ in range(16)) for _ in range(20000)]
    mean = sum(math.log(16 * u**15) for u in tops) / len(tops)
    assert mean == pytest.approx(nats_from_policy(16), abs=0.03)


def test_names_say_the_mode_and_what_is_not_usual() -> None:
    assert shown_name("start", Showing()) == "start"
    assert shown_name("start", Showing(mode="rejection")) == "start (rejection)"
    assert shown_name("rl", Showing(mode="median", samples=5)) == "rl (median, 5 samples)"
    assert shown_name("rl", Showing(mode="rejection", sampled="prompted")) == "rl (rejection of prompted)"
    assert shown_name("rl", Showing(mode="prompted", examples=3)) == "rl (prompted, 3 examples)"
    assert (Showing(mode="rejection").count, Showing(mode="median").count, Showing().count) == (16, 17, 1)


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
        Showing.model_validate(settings)
