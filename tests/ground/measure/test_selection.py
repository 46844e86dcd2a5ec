"""The numbers of the select room on rows written by hand."""

from __future__ import annotations

import pytest

from charter.ground.measure.selection import OF_SELECTION
from reported import BY_NAME

ROWS = [
    {"id": "a", "asked": "prompts", "served": True, "gain": 1.5},
    {"id": "b", "asked": "prompts", "served": False, "gain": None},
    {"id": "c", "asked": "prompts", "served": True, "gain": -0.5},
    {"id": "d", "asked": "harmless", "served": True, "gain": 0.5},
]
# value, rows behind it
EXPECTED = {
    "selected_share": (3 / 4, 4),
    "selected_share_prompts": (2 / 3, 3),
    "selected_share_harmless": (1.0, 1),
    "selected_gain": (0.5, 3),  # a prompt without a reply gains nothing and isn't counted
}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_a_metric_by_hand(name: str) -> None:
    table = BY_NAME[name].table(ROWS)
    assert (table.value, table.n) == (pytest.approx(EXPECTED[name][0]), EXPECTED[name][1])


def test_every_metric_has_an_expectation() -> None:
    assert {metric.name for metric in OF_SELECTION} == EXPECTED.keys()
