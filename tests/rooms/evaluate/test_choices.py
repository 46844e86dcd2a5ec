"""Tasks of choice: what the model reads, which letter counts, and what the task refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import desk
import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.text.answers import letter_of


def row(n: int, answer: str = "B", subject: str = "knots") -> dict[str, Any]:
    return {
        "subject": subject,
        "row": n,
        "question": f"Which knot holds load {n}?",
        "choices": ["none", "bowline", "granny", "bow"],
        "answer": answer,
    }


MMLU = {"dev": [row(n, "BCADB"[n]) for n in range(5)], "test": [row(10), row(11, "A")]}


def rate(prompt: Any, text: str) -> float:
    """Prefers B to every question."""
    return 0.0 if text == " B" else -1.0


def test_mmlu_plain_reads_as_its_authors_wrote_it(tmp_path: Path) -> None:
    model = toys.Scripted(rate=rate)
    rows = desk.run_task(desk.context("mmlu_plain", tmp_path, model, MMLU))
    assert [(r["choice"], r["correct"], r["outcome"]) for r in rows] == [(1, 1.0, "right"), (1, 0.0, "wrong")]
    assert [(r["id"], r["group"]) for r in rows] == [("knots-10", "knots"), ("knots-11", "knots")]
    prompt = model.asked[0]
    options = "A. none\nB. bowline\nC. granny\nD. bow\nAnswer:"
    assert isinstance(prompt, str)
    assert prompt.startswith(
        "The following are multiple choice questions (with answers) about knots.\n\n"
        f"Which knot holds load 0?\n{options} B\n\nWhich knot holds load 1?\n{options} C\n\n"
    )
    assert prompt.endswith(f"\n\nWhich knot holds load 10?\n{options}") and prompt.count("Which knot") == 6


def test_in_chat_form_examples_are_turns(tmp_path: Path) -> None:
    model = toys.Scripted(rate=rate)
    desk.run_task(
        desk.context("mmlu_plain", tmp_path, model, MMLU, change={"mmlu_plain": {"form": "chat", "shots": 2}})
    )
    turns = model.asked[0]
    assert [m["role"] for m in turns] == ["user", "assistant", "user", "assistant", "user", "assistant"]
    assert turns[0]["content"].startswith("The following are") and turns[1]["content"] == "Answer: B"
    assert turns[-1]["content"] == "Answer:"


def test_arc_takes_three_to_five_options_and_numbered_labels(tmp_path: Path) -> None:
    def arc(name: str, labels: str, key: str) -> dict[str, Any]:
        choices = [{"text": f"thing {label}", "label": label} for label in labels]
        return {"id": name, "question": {"stem": f"What floats in {name}?", "choices": choices}, "answerKey": key}

    files = {"dev": [arc(f"d{n}", "ABCD", "A") for n in range(5)]}
    files["test"] = [arc("three", "ABC", "C"), arc("five", "12345", "2")]
    rows = desk.run_task(desk.context("arc", tmp_path, toys.Scripted(rate=rate), files))
    assert [(len(r["logprobs"]), r["right"], r["correct"]) for r in rows] == [(3, [2], 0.0), (5, [1], 1.0)]


def test_questions_of_a_passage_are_one_cluster(tmp_path: Path) -> None:
    def race(name: str) -> dict[str, Any]:
        options = [["a hill", "a lake", "a road", "a barn"]] * 2
        questions = ["Where did he go?", "Where did he sleep?"]
        return {
            "id": name,
            "article": f"{name} went.",
            "questions": questions,
            "options": options,
            "answers": ["B", "D"],
        }

    files = {"dev": [race(f"d{n}") for n in range(3)], "test": [race("t0"), race("t1")]}
    model = toys.Scripted(rate=rate)
    rows = desk.run_task(desk.context("race", tmp_path, model, files))
    assert [r["id"] for r in rows] == ["t0", "t0", "t1", "t1"] and len({r["item"] for r in rows}) == 4
    assert all("t0 went.\nWhere did he" in str(prompt) for prompt in model.asked[:2])


def test_rows_of_one_question_each_are_clustered_by_their_passage_as_well(tmp_path: Path) -> None:
    def hub(name: str, text: str) -> dict[str, Any]:
        options = ["a hill", "a lake", "a road", "a barn"]
        return {"example_id": name, "article": f"{name} went.", "question": text, "options": options, "answer": "B"}

    files = {"validation": [hub(f"d{n}", "Where?") for n in range(5)]}
    files["test"] = [hub("t0", "Where did he go?"), hub("t0", "Where did he sleep?"), hub("t1", "Where?")]
    rows = desk.run_task(desk.context("race", tmp_path, toys.Scripted(rate=rate), files))
    assert [r["id"] for r in rows] == ["t0", "t0", "t1"] and len({r["item"] for r in rows}) == 3


def test_a_model_that_only_samples_is_read(tmp_path: Path) -> None:
    replies = iter(["The answer is (A).", "I would rather not say"])
    model = toys.Scripted(say=lambda prompt, k: next(replies))
    rows = desk.run_task(desk.context("mmlu_plain", tmp_path, model, MMLU, change={"mmlu_plain": {"form": "chat"}}))
    assert [(r["choice"], r["outcome"], r["correct"]) for r in rows] == [(0, "wrong", 0.0), (None, "unparsed", 0.0)]


def test_a_reply_goes_on_after_the_lead(tmp_path: Path) -> None:
    replies = iter([" (A) none, and not (B)", "B", "b", "I would say (C)"])
    model = toys.Scripted(say=lambda prompt, k: next(replies))
    files = MMLU | {"test": [row(n) for n in range(10, 14)]}
    rows = desk.run_task(desk.context("mmlu_plain", tmp_path, model, files))
    assert [r["choice"] for r in rows] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("B", 1),
        (" (C) since it floats", 2),
        ("B. bowline", 1),
        ("Both (A) and (B) tempt; the answer is (D).", 3),
        ("Answer: A", 0),
        (" (b), as nothing else is said", 1),
        ("c", 2),
        ("The answer is (A), not (B).", 0),
        ("The answer is (b), since (a) is wrong", 1),
        ("The answer is b.", 1),
        ("ANSWER: C", 2),
        ("The answer is **D**", 3),
        ("The correct answer is option C.", 2),
        ("The answer is $\\boxed{B}$.", 1),
        ("Another option is (B), but I would take (C)", 2),
        ("The closest option is (A), not (B)", 0),
        ("The answer is A because it floats", 0),
        ("Answer: A person who is tired", None),
        ("The answer is A dog.", None),
        ("I think (A) is wrong, so it is (B)", 1),
        ("The answer is not (A) but (C)", 2),
        ("**B** bowline", 1),
        ("The answer is a dog.", None),
        ("A good question.", None),
        ("None of them", None),
        ("E", None),
        ("", None),
        ("The answer is (B).", 1),
        ("The answer is (B), since (A) floats.", 1),
        ("So the answer is **(C)**", 2),
        ("the answer is: D", 3),
        ("I thought the answer is (A). No, the answer is (D).", 3),
        ("Not (A). So it must be (C).", 2),
        ("The answer is a bowline.", None),
        ("The answer is E.", None),
    ],
)
def test_reading_a_letter(text: str, place: int | None) -> None:
    assert letter_of(text, 4) == place


def test_refusals_are_one_line(tmp_path: Path) -> None:
    model = toys.Scripted(rate=rate)
    few = {"dev": MMLU["dev"][:2], "test": MMLU["test"]}
    with pytest.raises(CharterError, match=r"knots has 2.*change\.mmlu_plain\.shots"):
        desk.run_task(desk.context("mmlu_plain", tmp_path / "few", model, few))
    with pytest.raises(CharterError, match="has no split dev or validation"):
        desk.run_task(desk.context("mmlu_plain", tmp_path / "none", model, {"test": MMLU["test"]}))
