"""Exam papers as text and rows: what is found, and that every item has an outcome."""

from __future__ import annotations

from typing import Any

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.text.exam_papers import LEFT_OUT, guess_kind, import_exam, read_paper

PAPER = """[page 1]
Practice paper, for its owner alone
Section 1: Words
1. The speech was ____, and people left the hall long before it had come to its end in the evening.
(A) short (B) tedious (C) loud
(D) gay (E) merry
2. The plan looked (i) ____, yet it (ii) ____ at once.
Blank (i)
A. sound
B. foolish
C. long
Blank (ii)
D. failed
E. began
F. won
Questions 3 to 4 are about this passage.
A river that ran past the town was moved in a year that no record names, and it
was moved again later.
3. What is not recorded?
A. The year
B. The town
C. The river that ran past
the town
[page 2]
4. Which are stated? Choose all that apply.
A. The river was moved
B. The town burnt
C. It was moved twice
Section 2: Numbers
1. Quantity A: 3
Quantity B: 4
2. What is a half of 1.5?
3. The line in the figure above has which slope?
A. 1
B. 2
4. Costs of a trip, in dollars:
Day\tFood\tBed
1\t20\t40
2\t30\t45
How much was spent on food?
5. A question whose key was lost?
A. yes
B. no
Answer key
Section 1: Words
1. B 2. A, D 3. A
4. A, C
Section 2: Numbers
1. B
2. 3/4
3. B 4. 50
"""


def imported(text: str = PAPER, **described: str) -> Any:
    rows = [(f"paper: question {n}", row) for n, row in enumerate(read_paper(text), 1)]
    return import_exam(rows, "Own paper", described)


def test_a_paper_is_read_by_its_numbers_letters_and_key() -> None:
    one, two, three, four, comparison, half, slope, costs, *rest = read_paper(PAPER)
    assert one["question"].startswith("The speech was ____") and one["question"].endswith("evening.")
    assert one["options"] == ["short", "tedious", "loud", "gay", "merry"] and one["key"] == "B"
    assert two["blanks"] == [["sound", "foolish", "long"], ["failed", "began", "won"]]
    assert three["options"][2] == "The river that ran past the town", "an option may run on"
    assert three["passage"] == four["passage"] and "record names, and it was moved again" in three["passage"]
    assert one["passage"] == comparison["passage"] == ""
    assert (three["page"], four["page"]) == (1, 2)
    assert comparison["question"] == "Quantity A: 3\nQuantity B: 4" and comparison["key"] == "B"
    assert (comparison["number"], comparison["section"]) == (1, "Section 2: Numbers")
    assert half["key"] == "3/4" and slope["key"] == "B" and len(rest) == 1
    assert costs["table"] and "| Day | Food | Bed |\n|---|---|---|\n| 1 | 20 | 40 |" in costs["question"]
    assert costs["question"].endswith("How much was spent on food?")


def test_every_item_has_one_outcome() -> None:
    result = imported()
    outcomes = {o.id.rpartition("-")[0][-7:] + o.id[-2:]: (o.what, o.why) for o in result.outcomes}
    assert [what for what, _ in outcomes.values()] == [
        "kept",
        "kept",
        "kept",
        "kept",
        "kept",
        "kept",
        "image removed",
        "table transcribed",
        "left out",
    ]
    assert list(outcomes.values())[6][1] == "in the figure" and list(outcomes.values())[8][1] == "no key"
    assert [item.kind for item in result.items] == [
        "single",
        "completion",
        "single",
        "select_all",
        "comparison",
        "numeric",
        "single",
        "numeric",
    ]
    assert result.items[6].image == "removed" and result.items[7].table == "transcribed"
    assert result.summary == "6 kept, 1 table transcribed, 1 image removed, 1 left out"
    report = result.report()
    assert report.count("\n| Own-paper") == 9 and "| 2 | image removed | in the figure |" in report
    assert not result.items[0].stand_in


def test_a_person_describes_a_picture() -> None:
    name = imported().items[6].id
    result = imported(**{name: "A line through (0, 0) and (1, 2)."})
    item = result.items[6]
    assert item.image == "transcribed" and item.question.endswith("through (0, 0) and (1, 2).]")
    assert [o.what for o in result.outcomes][6] == "image transcribed by a person"
    with pytest.raises(CharterError, match="the description of 'nobody' belongs to no item"):
        imported(nobody="A cat.")


def test_rows_of_other_forms() -> None:
    rows: list[dict[str, Any]] = [
        {"number": 1, "question": "Which?", "A": "one", "B": "two", "C": "", "answer": "B"},
        {"number": 2, "stem": "Which?", "options": {"A": "x", "B": "y"}, "answer": "y"},
        {"number": 3, "question": "How many?", "key": "4", "table": [["a", "b"], [1, 2]]},
        {"number": 4, "question": "What is it?", "options": ["x", "y"], "key": 1, "image": "p3.png"},
        {"number": 5, "question": "Write an essay.", "kind": "essay"},
    ]
    result = import_exam([(f"f:{n}", row) for n, row in enumerate(rows, 1)], "Mine")
    assert [i.kind for i in result.items] == ["single", "single", "numeric", "single", "essay"]
    assert [i.key for i in result.items[:2]] == [(1,), (1,)] and result.items[0].options == ("one", "two")
    assert "| a | b |\n|---|---|\n| 1 | 2 |" in result.items[2].question
    assert [o.what for o in result.outcomes] == ["kept", "kept", "table transcribed", "image removed", "kept"]


def test_kinds_are_guessed_by_options_and_key() -> None:
    made = {"blanks": None, "options": list("abcdef"), "question": "It was ____.", "key": "AB"}
    assert guess_kind(made) == "equivalence" and guess_kind(made | {"question": "Which?"}) == "select_all"
    assert guess_kind(made | {"key": "A"}) == "single"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"number": 1, "question": "Which?", "options": ["a", "b"], "key": "D"}, "f:1: item M-1: the key 'D' names no"),
        ({"number": 1, "question": "How many?", "key": "B"}, "f:1: item M-1: the key 'B' names no option"),
    ],
)
def test_a_broken_row_names_its_place(row: dict[str, Any], words: str) -> None:
    with pytest.raises(CharterError) as raised:
        import_exam([("f:1", row)], "M")
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_a_paper_without_questions_or_keys_is_refused() -> None:
    with pytest.raises(CharterError, match="no question with a key was found"):
        import_exam([("f:1", row) for row in read_paper("Some prose.\n1. A question?\nA. x\nB. y\n")], "M")
    assert LEFT_OUT == "left out"


def test_ids_must_differ() -> None:
    row = {"id": "a", "question": "Which?", "options": ["a", "b"], "key": "A"}
    with pytest.raises(CharterError, match="f:2: the id 'a' is that of f:1"):
        import_exam([("f:1", row), ("f:2", row)], "M")
