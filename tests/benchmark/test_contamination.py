"""Contamination: overlap by hand, and a lineage looked through."""

from __future__ import annotations

from charter.ground.text.overlap import LEAST, SIZE, Items, words

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


def test_thirteen_words_in_a_row_hit_and_twelve_do_not() -> None:
    items = Items({"q": LONG})
    assert items.hit_by(
        ["Before that: One, two, three four five six seven eight nine ten eleven twelve THIRTEEN!"]
    ) == {"q"}
    assert (
        items.hit_by(["one two three four five six seven eight nine ten eleven twelve and thirteen"]) == set()
    )
    assert SIZE == 13


def test_a_short_item_is_hit_as_a_whole_and_a_very_short_one_is_not_checked() -> None:
    nine, seven = " ".join(LONG.split()[:9]), " ".join(LONG.split()[:7])
    items = Items({"nine": nine, "seven": seven})
    assert items.unchecked == {"seven"} and LEAST == 8
    assert items.hit_by([f"so {nine} it went"]) == {"nine"}
    assert items.hit_by([" ".join(LONG.split()[1:9])]) == set()


def test_words_have_no_case_and_no_marks() -> None:
    assert words("It's 3.5 km -- né_e?") == ["it", "s", "3", "5", "km", "né", "e"]
