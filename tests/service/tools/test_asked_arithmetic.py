"""The one expression of a question: right by wording, nothing where it would have to guess, bounded by any input."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter_service.tools.arithmetic import calculate
from charter_service.tools.asked_arithmetic import LONGEST, expression_in

SUMS = {
    "How much is 17.5 times 23?": "17.5 * 23",
    "What is 12 plus 30?": "12 + 30",
    "what's 7-3?": "7 - 3",
    "What is 2+2?": "2 + 2",
    "What's (3 + 4) * 2?": "(3 + 4) * 2",
    "Compute 3 x 4": "3 * 4",
    "6 × 7 =": "6 * 7",
    "What is 15 percent of 240?": "15 / 100 * 240",
    "What is 15% of 1,240.50?": "15 / 100 * 1240.50",
    "What is the square root of 1764?": "sqrt(1764)",
    "√16 + 2": "sqrt(16) + 2",
    "What is 12 squared?": "12 ^ 2",
    "What is the square of 12?": "12 ^ 2",
    "2 to the power of 10": "2 ^ 10",
    "Divide 144 by 12.": "144 / 12",
    "What is 100 over 8?": "100 / 8",
    "Subtract 3.5 from 10": "10 - 3.5",
    "What is the sum of 3 and 4?": "3 + 4",
    "The difference between 9 and 4, please": "9 - 4",
    "Can you multiply 67 by 41 for me?": "67 * 41",
    "What is 45 added to 55?": "45 + 55",
    "seven times eight": "7 * 8",
    "twenty-five times four": "25 * 4",
    "I pay 4 * 12.99 for the tickets. What does it come to?": "4 * 12.99",
    "What is 1,234,567 multiplied by 2?": "1234567 * 2",
    "What do 3 tickets cost: $5 times 3?": "5 * 3",
    "What is -5 + 3?": "-5 + 3",
    "10 minus -3": "10 - -3",
    "1/2 + 1/4": "1 / 2 + 1 / 4",
    "(What is 0.1 + 0.2?)": "0.1 + 0.2",
    "2 + 2, I mean 2 + 2": "2 + 2",
}
NONE = [
    "", "Hello", "How do I boil an egg in 10 minutes?", "3", "-3", "What is the capital of France?",
    "Is a 9-5 job good?", "Call me at 555-1234", "What is 2026-12-02?", "I was born on 12/05/1990. How old am I?",
    "Is the shop open 24/7 ?!, I wonder", "The ratio 3:4 plus 5", "Version 1.5.2 + 3", "5kg times 3",
    "three times two hundred", "3 million times 2", "3 + 4 and 5 * 6", "What is 1,50 times 3?", "What is 1e5 + 3?",
    "What is 007 + 1?", "1 000 + 5", "9^9^9^9", "What is 5 divided by 0?", "What is 50% off 30?", "square root of -4",
    "¹² + 3", "٣ + ٤", "__import__('os') + 1 x",
]  # fmt: skip


@pytest.mark.parametrize(("question", "expression"), SUMS.items())
def test_the_expression_of_a_question(question: str, expression: str) -> None:
    assert expression_in(question) == expression
    assert calculate(expression)


@pytest.mark.parametrize("question", NONE)
def test_it_does_not_guess(question: str) -> None:
    assert expression_in(question) == ""


def test_of_a_long_message_it_reads_the_last_sentences() -> None:
    story = "The shop is open. " * 100
    assert expression_in(f"{story}What is 3 + 4?") == "3 + 4"
    for cut in range(390, 410):
        assert expression_in(("12345 + 1 " + "so " * 200)[:cut]) in ("", "12345 + 1")
        assert expression_in("What is 7 * 12345 + 1 " + "x" * (cut - 10)) == ""


@pytest.mark.parametrize(
    "piece",
    [
        "(",
        "1+",
        "1,",
        "9",
        "twenty-",
        "- ",
        "sqrt ",
        "9^",
        "square root of ",
        "add 1 to ",
        "((1+1",
        "1.1",
        "\0",
        "İ",
        "% of ",
    ],
)
def test_of_hostile_text_it_reads_a_bounded_part(piece: str) -> None:
    text = piece * 300_000
    assert expression_in(text) == expression_in(text[-LONGEST:])
    assert len(expression_in(text)) < 10 * LONGEST


@settings(max_examples=300)
@given(st.text(max_size=60) | st.text("0123456789+-*/^%(). x,", max_size=60))
def test_what_it_gives_can_be_computed(question: str) -> None:
    if expression := expression_in(question):
        assert calculate(expression)
