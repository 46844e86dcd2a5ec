"""Generated quantitative items: every key is derived a second time, from the item's words, by enumeration."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
from quantity_solver import LETTERS, solve

from charter.ground.settings.sources import shipped
from charter.ground.text.exam_items import Item, item_row, read_items
from charter.rooms.evaluate.quantities import DIFFICULTIES, KINDS, TEMPLATES, generate, spell


def key_of(item: Item) -> object:
    return Fraction(item.number) if item.kind == "numeric" else "".join(LETTERS[n] for n in item.key)


@pytest.mark.slow
def test_a_solver_of_its_own_derives_each_of_10000_keys() -> None:
    items = generate(17, 10_000)
    wrong = [(item.question, item.options, key_of(item), solve(item)) for item in items if solve(item) != key_of(item)]
    assert wrong == []
    cells = Counter((item.section, item.kind) for item in items)
    assert len(cells) == len(TEMPLATES) * len(DIFFICULTIES) * len(KINDS) == 48
    assert min(cells.values()) >= 10_000 // 48


def test_the_solver_would_see_a_wrong_key() -> None:
    for item in generate(3, 48):
        wrong = replace(item, number="0.123") if item.kind == "numeric" else replace(item, key=((item.key[0] + 1) % 4,))
        assert solve(wrong) != key_of(wrong)


def test_no_letter_is_right_far_more_often() -> None:
    items = generate(5, 4800)
    for kind, few, many in (("comparison", 0.15, 0.35), ("single", 0.1, 0.3)):
        keys = Counter(item.key[0] for item in items if item.kind == kind)
        assert all(few < keys[n] / sum(keys.values()) < many for n in range(4)), (kind, keys)
    assert len({len(item.key) for item in items if item.kind == "select_all"}) == 5


def test_items_follow_from_their_seed() -> None:
    assert generate(1, 60) == generate(1, 60) != generate(2, 60)
    assert generate(1, 100)[:60] == generate(1, 60)
    many = generate(1, 2400)
    assert len({item.id for item in many}) == 2400
    assert len({(i.question, i.options, i.key) for i in many}) > 2200


def test_numbers_are_written_exactly() -> None:
    for value in (Fraction(1, 3), Fraction(-7, 4), Fraction(5), Fraction(1, 10), Fraction(-1, 8), Fraction(-5, 100)):
        assert Fraction(spell(value)) == value
    assert [spell(Fraction(*pair)) for pair in ((3, 4), (1, 8), (-5, 2), (6, 1))] == ["0.75", "1/8", "-2.5", "6"]


def test_the_shipped_items_are_those_of_the_seed() -> None:
    shown = read_items(shipped("gre_quant.heldout"))
    asked = [item for item in shown if not item.thought]
    assert [item_row(item) for item in asked] == [item_row(item) for item in generate(0, 96)]
    for item in shown:
        if item.thought and item.source == "generated":
            assert solve(item) == key_of(item)
