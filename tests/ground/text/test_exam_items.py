"""Exam items: what a row must hold, and how an answer of each kind is scored."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.text.exam_items import (
    COMPARED,
    all_right,
    answer_of,
    chance_of,
    fraction_of,
    item_row,
    letters_of,
    parse_item,
    read_items,
)

SIX = ["calm", "loud", "quiet", "red", "old", "odd"]


def row(kind: str, **more: Any) -> dict[str, Any]:
    return {"id": "i1", "exam": "GRE-shaped", "kind": kind, "question": "Which?", **more}


def mark(kind: str, key: Any, reply: str, **more: Any) -> bool:
    """Whether a reply to an item is right, from its row to its score."""
    item = parse_item(row(kind, key=key, **more), "n")
    if kind == "numeric":
        return fraction_of(reply) == fraction_of(item.number)
    return all_right(item.key, answer_of(kind, reply, len(item.options)))


BLANKS = [["a1", "a2", "a3"], ["b1", "b2", "b3"]]


@pytest.mark.parametrize(
    ("kind", "key", "reply", "right", "more"),
    [
        ("single", "B", "So it rises. The answer is (B).", True, {"options": SIX[:4]}),
        ("single", "B", "The answer is (C).", False, {"options": SIX[:4]}),
        ("comparison", "D", "The answer is D.", True, {}),
        ("comparison", "D", "The answer is (A).", False, {}),
        # all blanks, or nothing
        ("completion", ["A", "E"], "The answer is (A), (E).", True, {"blanks": BLANKS}),
        ("completion", ["A", "E"], "The answer is (A), (F).", False, {"blanks": BLANKS}),
        ("completion", ["A", "E"], "The answer is (A).", False, {"blanks": BLANKS}),
        # both, and no third
        ("equivalence", "AC", "The answers are A and C.", True, {"options": SIX}),
        ("equivalence", "AC", "The answer is (A), (B).", False, {"options": SIX}),
        ("equivalence", "AC", "The answer is (A), (B), (C).", False, {"options": SIX}),
        # all that apply, and none that doesn't
        ("select_all", ["A", "B", "D"], "The answer is A, B, and D.", True, {"options": SIX[:4]}),
        ("select_all", ["A", "B", "D"], "The answer is (A), (B).", False, {"options": SIX[:4]}),
        ("select_all", ["B"], "The answer is (B).", True, {"options": SIX[:4]}),
        ("select_all", ["B"], "The answer is (B), (C).", False, {"options": SIX[:4]}),
        # a fraction equals its decimal, exactly
        ("numeric", "0.75", "The answer is 3/4.", True, {}),
        ("numeric", "3/4", "The answer is 0.750", True, {}),
        ("numeric", "6/8", "The answer is 3 / 4", True, {}),
        ("numeric", "1.5", "The answer is 1 1/2.", True, {}),
        ("numeric", "1/3", "The answer is \\frac{2}{6}.", True, {}),
        ("numeric", "1/3", "The answer is 0.333.", False, {}),
        ("numeric", "-7", "The answer is −7.", True, {}),
        ("numeric", "1,200", "The answer is 1200 litres.", True, {}),
        ("numeric", "12", "I can't tell.", False, {}),
    ],
)
def test_each_kind_is_scored_as_the_exams_do(
    kind: str, key: Any, reply: str, right: bool, more: dict[str, Any]
) -> None:
    assert mark(kind, key, reply, **more) is right


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("The answer is (B), (E).", (1, 4)),
        ("The answers are: **A**, **C**", (0, 2)),
        ("Answer: A and D", (0, 3)),
        ("answers: CF", (2, 5)),
        ("The answer is (b) and (e).", (1, 4)),
        ("The answer is (A), (B). No, the answer is (C), (D).", (2, 3)),
        ("The answer is (A), since (B) is too strong.", (0,)),
        ("I weighed (A) and (B).\n(C), (F)", (2, 5)),
        ("The answer is A dog and a cat.", None),
        ("The answer is BAD.", None),
        ("It is (A) that fits, I think", None),
        ("", None),
    ],
)
def test_reading_several_letters(text: str, places: tuple[int, ...] | None) -> None:
    assert letters_of(text, 6) == places


def test_numbers_are_exact() -> None:
    assert fraction_of("The answer is 0.1.") == Fraction(1, 10) != Fraction(0.1)
    assert fraction_of("The answer is 2 1/3") == Fraction(7, 3)
    assert fraction_of("none") is None and fraction_of("9" * 400) is None


def test_guessing_is_even_among_the_answers_that_a_kind_allows() -> None:
    assert chance_of("single", 5) == chance_of("comparison", 5) == 1 / 5
    assert chance_of("completion", 9, (3, 3, 3)) == 1 / 27
    assert chance_of("equivalence", 6) == 1 / 15
    assert chance_of("select_all", 3) == 1 / 7, "one of A, B, C, AB, AC, BC, ABC"
    assert chance_of("numeric", 0) == 0


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (row("riddle"), "kind is 'riddle', expected single, completion"),
        (row("single", options=["a", "b"], key="C"), "names no option; its letters are A to B"),
        (row("single", options=["a", "b"], key="AB"), "single needs options and a key of one letter"),
        (row("single", options=["a", "a"], key="A"), "two of its options are equal"),
        (row("equivalence", options=SIX, key="A"), "equivalence needs options and a key of two letters"),
        (row("select_all", options=SIX, key=[]), "select_all needs options and a key of at least one letter"),
        (row("completion", blanks=BLANKS, key="AB"), "one letter of each blank"),
        (row("completion", options=SIX, key="A"), "a completion needs `blanks`"),
        (row("numeric", key="ten"), "'ten' is not a number"),
        (row("numeric", key="4", image="lost"), "image is 'lost', expected none, removed, transcribed"),
        (row("single", options=["a", "b"], key="A", question=" "), "its question is empty"),
        ({"exam": "x", "kind": "essay"}, "the item has no question"),
    ],
)
def test_a_broken_row_is_one_line_with_file_and_line(tmp_path: Path, broken: dict[str, Any], words: str) -> None:
    path = toys.rows_file(tmp_path / "exam.jsonl", [row("numeric", key="1", id="i0"), broken])
    with pytest.raises(CharterError) as raised:
        read_items(path)
    assert f"{path}:2: " in str(raised.value) and words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_ids_differ_and_an_item_reads_back_as_itself(tmp_path: Path) -> None:
    rows = [
        row("completion", id="c", blanks=BLANKS, key=["B", "F"], passage="P.", page=3),
        row("equivalence", id="e", options=SIX, key="CA", thought="Both mean still."),
        row("comparison", id="q", key="C", table="transcribed"),
        row("essay", id="w", essay="Words.", score=4.5),
        row("single", id="x", image="removed", key=None),
    ]
    items = read_items(toys.rows_file(tmp_path / "exam.jsonl", rows))
    assert items[2].options == COMPARED and items[1].key == (0, 2) and items[0].key == (1, 5)
    again = read_items(toys.rows_file(tmp_path / "again.jsonl", [item_row(item) for item in items]))
    assert again == items
    with pytest.raises(CharterError, match="the id 'q' is that of"):
        read_items(toys.rows_file(tmp_path / "twice.jsonl", [rows[2], rows[2]]))
