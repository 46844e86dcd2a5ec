"""GSM8k: which number an answer gives, and that the gold answers give themselves."""

from __future__ import annotations

from pathlib import Path

import desk
import pytest

import toys
from charter.ground.settings.places import data_folder
from charter.ground.settings.sources import shipped
from charter.ground.text.answers import NUMBER, number, read_number
from charter.rooms.evaluate.reading import TEST, read_split
from charter.rooms.evaluate.task import Query
from charter.rooms.evaluate.tasks.gsm8k import grade, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The answer is 1,234.50", 1234.5),
        ("The answer is 12,345,678.", 12345678),
        ("It is $18", 18),
        ("18.", 18),
        ("The answer is -5.", -5),
        ("The answer is −7", -7),
        ("They owe -$5", -5),
        ("They owe $-5", -5),
        ("It is 3/4", 0.75),
        ("The answer is 2 1/2 cups", 2.5),
        ("It costs .5 dollars", 0.5),
        ("20%", 20),
        ("The answer is 18kg", 18),
        ("So 7 + 11 = 18\n#### 18", 18),
        ("10-3=7", 7),
        ("She takes 12-4", 4),  # a minus that takes away
        ("The answer is 5 + 3 = 8.", 8),
        ("The answer is 12/4 = 3", 3),
        ("The answer is 3 apples.\nAnd 7 pears remain.", 3),
        ("The answer is 18 (16 - 3 = 13 were eaten, then 5 came).", 18),
        ("The answer is 12. Check: 5 + 6 = 11.", 12),
        ("The answer is (3 dozen + 4) = 40.", 40),
        ("The answer is 2 x (3 + 4) = 14.", 14),
        ("The answer is approx. 5 metres", 5),
        ("The answer is 9. No: the answer is 4.", 4),
        ("The answer is:\n\n**42**", 42),
        ("The answer is not 7, I first thought", 7),
        ("The answer is given above: 6 boxes, so 36", 6),
        ("The answer is clear", None),
        ("No number here", None),
        ("", None),
        ("1,2,3", 3),
        ("7 / 0 = 0", 0),
        ("9" * 400, None),  # a loop, not a number
    ],
)
def test_reading_a_number(text: str, value: float | None) -> None:
    assert read_number(text) == value


def test_only_numbers_are_numbers() -> None:
    assert number("-$1,000.25") == -1000.25 and number("-1 1/4") == -1.25
    for text in ("", "ten", "1/0", "5 apples", "--5", "1,00"):
        with pytest.raises(ValueError, match="is not a number"):
            number(text)


def test_outcomes_and_what_the_model_reads(tmp_path: Path) -> None:
    rows = [{"question": f"What is {n} + 1?", "answer": f"It is {n + 1}.\n#### {n + 1}"} for n in range(3)]
    replies = iter(["One more. The answer is 1.", "The answer is 7.", "I can't say"])
    model = toys.Scripted(say=lambda prompt, k: next(replies))
    results = desk.run_task(desk.context("gsm8k", tmp_path, model, {"test": rows}))
    assert [(r["answer"], r["outcome"], r["correct"]) for r in results] == [
        (1.0, "right", 1.0),
        (7.0, "wrong", 0.0),
        (None, "unparsed", 0.0),
    ]
    assert model.samplings[0].temperature == 1.0
    assert [[m["role"] for m in dialogue] for dialogue in model.asked] == [["user"]] * 3
    assert "What is 0 + 1?" in model.asked[0][0]["content"] and "step by step" in model.asked[0][0]["content"]


@pytest.mark.parametrize("source", ["shipped", "public"])
def test_gold_answers_are_right_in_every_form(source: str) -> None:
    place = shipped("gsm8k.heldout") if source == "shipped" else data_folder() / "gsm8k"
    if not place.exists():
        pytest.skip("no data sets: set CHARTER_DATA to the folder that holds gsm8k")
    questions = read_split(place, TEST, lambda row, name: [(parse(row, name)[0], str(row["answer"]))])
    assert len(questions) >= 30
    for question, text in questions:
        gold = question.accepted[0]
        assert NUMBER.fullmatch(gold)
        for reply in (text, text.replace("####", "The answer is"), f"The answer is ${gold}."):
            assert grade(Query(question, ""), reply)["correct"] == 1.0, reply
        assert grade(Query(question, ""), f"The answer is {number(gold) + 1}.")["outcome"] == "wrong"
