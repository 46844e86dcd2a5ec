"""Packing: every document once, in order, whole, within the budget."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.text.packing import microbatches


@given(st.lists(st.integers(1, 300)), st.integers(1, 500))
def test_every_document_once_in_order_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = microbatches(lengths, budget)
    assert [i for group in groups for i in group] == list(range(len(lengths)))
    assert all(len(group) == 1 or sum(lengths[i] for i in group) <= budget for group in groups)
    for first, second in itertools.pairwise(groups):
        assert sum(lengths[i] for i in first) + lengths[second[0]] > budget, "a group was closed too early"


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(CharterError, match="token budget"):
        microbatches([3], 0)
