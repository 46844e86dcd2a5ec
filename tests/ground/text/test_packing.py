"""Microbatches and steps: everything once, within the budget, the same each time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.text.packing import batches, steps

lengths = st.lists(st.integers(1, 50), max_size=40)


@given(lengths, st.integers(1, 100), st.integers(0, 9))
def test_batches_hold_everything_once_within_the_budget(sizes: list[int], budget: int, seed: int) -> None:
    found = batches(sizes, budget, seed)
    assert sorted(i for group in found for i in group) == list(range(len(sizes)))
    assert all(len(g) == 1 or sum(sizes[i] for i in g) <= budget for g in found)
    assert found == batches(sizes, budget, seed)


@given(lengths, st.integers(1, 8), st.integers(1, 100), st.integers(1, 100))
def test_a_step_does_not_depend_on_the_budget(sizes: list[int], documents: int, one: int, other: int) -> None:
    first, second = (
        [
            sorted(i for group in step for i in group)
            for step in steps(sizes, documents, budget, seed=3, epoch=1)
        ]
        for budget in (one, other)
    )
    assert first == second
    assert [len(step) for step in first[:-1]] == [documents] * (len(first) - 1)
    assert sorted(i for step in first for i in step) == list(range(len(sizes)))


def test_epochs_and_seeds_differ() -> None:
    orders = {str(batches([1] * 20, 1, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(CharterError, match="token budget is 0"):
        batches([1], 0)
    with pytest.raises(CharterError, match="step has 0 documents"):
        steps([1], 0, 10)
