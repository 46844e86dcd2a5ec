"""TriviaQA: what matches, what declines, and that no example is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import desk
import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.judge.declining import declines
from charter.ground.judge.detect import training_digest
from charter.ground.text.answers import normal
from charter.rooms.evaluate.tasks.triviaqa import parse


def quiz(n: int, *accepted: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"q{n}",
        "question": f"Who won race {n}?",
        "golden_answers": list(accepted or (f"Runner {n}",)),
        **more,
    }


def test_three_outcomes(tmp_path: Path) -> None:
    rows = [quiz(n, "The Red Hare", "Hare, Red", split="test") for n in range(5)]
    rows += [quiz(n, split="dev") for n in range(10, 16)]
    replies = iter(
        ["red  hare!\nWho won race 7?", " Hare Red", "a blue hare", "I'm sorry, I don't know that.", "\n \n"]
    )
    model = toys.Scripted(say=lambda prompt, k: next(replies))
    results = desk.run_task(desk.context("triviaqa", tmp_path, model, {"quiz": rows}))
    assert [(r["answer"], r["outcome"]) for r in results] == [
        ("red  hare!", "right"),
        ("Hare Red", "right"),
        ("a blue hare", "wrong"),
        ("I'm sorry, I don't know that.", "declined"),
        ("", "unparsed"),
    ]
    assert [r["correct"] for r in results] == [1, 1, 0, 0, 0]
    assert model.samplings[0].temperature == 0.0
    prompt = model.asked[0]
    assert [m["role"] for m in prompt] == ["user", "assistant"] * 6
    assert prompt[1]["content"].startswith("Answer: Runner 1") and prompt[-2]["content"] == "Question: Who won race 0?"


def test_nothing_is_no_answer(tmp_path: Path) -> None:
    """Normalisation leaves nothing of an alias of articles and marks, or of a reply of marks."""
    rows = [quiz(0, "The The", "Johnson", split="test"), quiz(1, "The The", split="test")]
    model = toys.Scripted(say=lambda prompt, k: "...")
    rows += [quiz(n, split="dev") for n in range(10, 16)]
    results = desk.run_task(desk.context("triviaqa", tmp_path, model, {"quiz": rows}))
    assert [(r["outcome"], r["correct"]) for r in results] == [("wrong", 0.0)] * 2


def test_a_split_without_answers_is_refused(tmp_path: Path) -> None:
    """The hub's test split has this in place of answers."""
    row = {"question": "Who?", "question_id": "q", "answer": {"value": "<unk>", "aliases": []}}
    with pytest.raises(CharterError, match="name the file of the validation split"):
        desk.run_task(desk.context("triviaqa", tmp_path, toys.Scripted(), {"test": [row], "validation": [quiz(1)]}))


def test_examples_of_a_single_split_are_not_scored(tmp_path: Path) -> None:
    rows = [quiz(n) for n in range(12)]
    model = toys.Scripted(say=lambda prompt, k: "Runner 3")
    context = desk.context("triviaqa", tmp_path / "a", model, {"test": rows})
    results = desk.run_task(context)
    examples = {m["content"] for m in model.asked[0][:-2] if m["role"] == "user"}
    scored = {f"Question: {r['question']}" for r in results}
    assert len(examples) == 5 and len(scored) == 7 and not examples & scored
    assert context.facts == {"detectors": training_digest(), "examples": "of the test split, not scored"}
    again = toys.Scripted(say=lambda prompt, k: "no idea")
    desk.run_task(desk.context("triviaqa", tmp_path / "b", again, {"test": rows}, limit=2))
    assert again.asked[0][:-2] == model.asked[0][:-2], "every stage and every limit has the same examples"
    with pytest.raises(CharterError, match=r"has 5 questions"):
        desk.run_task(desk.context("triviaqa", tmp_path / "c", model, {"test": rows[:5]}))


def test_a_scored_split_is_no_development_split(tmp_path: Path) -> None:
    """Public sets often have only a validation split, or train beside it: the task scores it and takes no examples from it."""
    files = {"validation": [quiz(n) for n in range(3)], "train": [quiz(n) for n in range(10, 15)]}
    model = toys.Scripted(say=lambda prompt, k: "Runner 0")
    results = desk.run_task(desk.context("triviaqa", tmp_path, model, files))
    assert {r["item"] for r in results} == {"q0", "q1", "q2"}
    assert {m["content"] for m in model.asked[0][:-2:2]} == {f"Question: Who won race {n}?" for n in range(10, 15)}


def test_a_passage_stands_before_its_question(tmp_path: Path) -> None:
    rows = [quiz(n, context=f"Runner {n} won.") for n in range(6)]
    model = toys.Scripted(say=lambda prompt, k: "x")
    context = desk.context(
        "triviaqa", tmp_path, model, {"test": rows}, change={"triviaqa": {"shots": 1, "form": "text"}}
    )
    desk.run_task(context)
    text = str(model.asked[0])
    assert text.count(" won.\n\nQuestion: Who won race") == 2 and text.endswith("?\nAnswer:")


def test_columns_of_the_published_form() -> None:
    row = {"question_id": "tc_1", "question": " Which? ", "answer": {"value": "One", "aliases": ["1", "One"]}}
    question = parse(row, "x")[0]
    assert (question.id, question.text, question.accepted) == ("tc_1", "Which?", ("One", "1"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Beatles", "beatles"),
        ("An  apple a day!", "apple day"),
        ("J. R. R. Tolkien", "j r r tolkien"),
        ("rock-and-roll", "rock and roll"),
        ("‘Don’t’", "don t"),
        ("snake_case", "snake case"),
        ("Theatre", "theatre"),
    ],
)
def test_what_is_compared(text: str, expected: str) -> None:
    assert normal(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I don't know.", True),
        ("I don’t really know", True),
        ("I am not sure", True),
        ("Sorry, no idea.", True),
        ("Unknown", True),
        ("I cannot answer that", True),
        ("I do not have enough information to say", True),
        ("Paris", False),
        ("The Unknown Soldier", False),
        ("Know-how", False),
        ("Sure Thing", False),
        ("I don\u2019t know.", True),
        ("I'm not sure, but some say that it is round.", True),
        ("Sorry, I can't help with that.", True),
        ("I have no comment.", True),
        ("", True),
        ("It is round.", False),
        ("Nobody knows the way to the moon better than pilots do.", False),
        ("You know that it is round.", False),
    ],
)
def test_what_declines(text: str, expected: bool) -> None:
    assert declines(text) is expected
