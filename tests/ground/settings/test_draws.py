"""Draws by a seed equal those of `random.Random` over indices, whatever the rows are."""

import random

from charter.ground.settings.seed import draw_rows, sample_rows

ROWS = [f"row {number}" for number in range(20)]


def test_draws_of_a_seed_are_kept() -> None:
    places = random.Random(7).sample(range(20), 5)
    assert places != sorted(places)
    assert sample_rows(ROWS, 5, 7) == [ROWS[place] for place in places]
    assert draw_rows(ROWS, 5, 7) == [ROWS[place] for place in sorted(places)] != draw_rows(ROWS, 5, 8)
    assert len(set(draw_rows(ROWS, 5, 7))) == 5


def test_all_rows_keep_their_order_if_nothing_limits_them() -> None:
    for limit in (0, 20, 21):
        assert sample_rows(ROWS, limit, 7) == ROWS
        assert draw_rows(ROWS, limit, 7) == ROWS
