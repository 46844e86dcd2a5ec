"""Means over seeds that share their prompts: by hand, at the edges, and how often the interval holds the truth."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from charter.ground.measure.intervals import difference, interval, wilson
from charter.ground.measure.score import Table, leaning, tabulate
from charter.ground.measure.seeds import (
    Part,
    difference_part,
    over_seeds,
    pool,
    prompt_part,
    prompt_part_of_change,
    zero_rate_part,
)

PROMPTS = 40


def table(values: Sequence[float]) -> Table:
    return tabulate((f"p{i}", value, 1.0) for i, value in enumerate(values))


def test_both_parts_make_the_ends_by_hand() -> None:
    """Values 1, 2, 3: sd 1, t(2) = 4.3027, seed part 4.3027 / sqrt(3) = 2.4841; with 1.5 below and 2 above."""
    mean = over_seeds([1.0, 2.0, 3.0], Part(1.5, 2.0))
    assert mean is not None and (mean.value, mean.seeds, mean.prompts) == (2.0, 3, True)
    assert mean.low == pytest.approx(2 - math.hypot(2.48414, 1.5), abs=1e-4)
    assert mean.high == pytest.approx(2 + math.hypot(2.48414, 2.0), abs=1e-4)
    alone = over_seeds([1.0, 2.0, 3.0])
    assert alone is not None and not alone.prompts
    assert alone.high - alone.value == pytest.approx(2.48414, abs=1e-4) == alone.value - alone.low


def test_two_seeds_stay_within_what_can_be_measured_and_one_says_nothing() -> None:
    mean = over_seeds([0.1, 1.0], bounds=(-1.0, 1.0))
    assert mean is not None and (mean.low, mean.high, mean.seeds) == (-1.0, 1.0, 2)
    assert over_seeds([0.1]) is None and over_seeds([]) is None
    many = over_seeds([0.1, 0.3] * 10)
    assert many is not None and 0.1 < many.low < 0.2 < many.high < 0.3, "more seeds than a table of t has"


def test_pooling_adds_by_prompt_whatever_the_order_and_what_is_missing() -> None:
    first = tabulate([("a", 1.0, 2.0), ("b", 0.0, 1.0)])
    second = tabulate([("b", 1.0, 1.0), ("c", 1.0, 1.0), ("a", 0.0, 2.0)])
    table = pool([first, second])
    assert table.clusters == ("a", "b", "c") and table.n == 5
    assert table.sums.tolist() == [[1.0, 4.0], [1.0, 2.0], [1.0, 1.0]]
    with pytest.raises(ValueError, match="need one statistic"):
        pool([first, Table(second.clusters, second.sums, second.n, leaning)])


def test_a_rate_of_none_in_all_seeds_has_the_bound_of_its_prompts() -> None:
    """86 prompts, five replies each, in three seeds: as 86 prompts, for their replies may well agree."""
    nothing = tabulate((f"p{i // 5}", 0.0, 1.0) for i in range(430))
    part = prompt_part([nothing] * 3)
    assert part is not None and part.below == 0 and part.above == pytest.approx(wilson(0, 86)[1])
    mean = over_seeds([0.0] * 3, part, (0.0, 1.0))
    assert mean is not None and mean.low == 0 and 3 / 86 < mean.high < 5 / 86
    change = prompt_part_of_change([nothing] * 3, [nothing] * 3)
    assert change.below == change.above == pytest.approx(part.above)
    assert zero_rate_part(86, change=False) == Part(0.0, wilson(0, 86)[1])
    assert zero_rate_part(86, change=True) == Part(wilson(0, 86)[1], wilson(0, 86)[1])


def test_the_prompt_part_is_that_of_one_seed_where_all_seeds_answer_alike() -> None:
    """Three seeds that answer alike know no more about the prompts than one does."""
    rng = np.random.default_rng(3)
    before, after = (table(rng.normal(0, 1, PROMPTS)) for _ in range(2))
    one, three = prompt_part([before]), prompt_part([before] * 3)
    low, high = interval(before)
    assert one is not None and three is not None and low is not None and high is not None
    assert (one.below, one.above) == pytest.approx((before.value - low, high - before.value))
    assert (three.below, three.above) == pytest.approx((one.below, one.above))
    change, single = prompt_part_of_change([before] * 3, [after] * 3), difference(before, after)
    assert change.above == pytest.approx(single.high - single.value)


def test_the_part_of_a_gap_adds_opposite_ends() -> None:
    assert difference_part(Part(3.0, 5.0), Part(12.0, 4.0)) == Part(5.0, 13.0)


def coverage(seed_sd: float, prompt_se: float, trials: int = 400) -> tuple[float, float]:
    """How often the mean over three seeds holds a true mean of 0, with both parts and with the seeds' alone.

    A seed adds a number of its own to all prompts, a prompt one of its own in all seeds."""
    rng = np.random.default_rng(round(seed_sd * 10))
    both = alone = 0
    for _ in range(trials):
        prompts = rng.normal(0, prompt_se * math.sqrt(PROMPTS), PROMPTS)
        seeds = [table(prompts + rng.normal(0, seed_sd)) for _ in range(3)]
        values = [t.value for t in seeds]
        wide, narrow = over_seeds(values, prompt_part(seeds)), over_seeds(values)
        assert wide is not None and narrow is not None
        both += wide.low <= 0 <= wide.high
        alone += narrow.low <= 0 <= narrow.high
    return both / trials, alone / trials


@pytest.mark.parametrize(("seed_sd", "too_few"), [(0.5, 0.5), (2.0, 0.85), (4.5, 0.95)])
def test_the_interval_holds_the_truth_as_often_as_it_says(seed_sd: float, too_few: float) -> None:
    """Prompts of standard error 3 points. Student's t alone holds it less often, the less the steadier seeds are."""
    both, alone = coverage(seed_sd, 3.0)
    assert 0.92 <= both <= 0.99
    assert alone < too_few
