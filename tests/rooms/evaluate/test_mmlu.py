"""MMLU with reasoning: which examples it shows, what the model reads, and which letter counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import desk
import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.sources import shipped
from charter.ground.text.answers import letter_of
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.evaluate.tasks import mmlu


def row(n: int, answer: str = "B", subject: str = "knots", **more: Any) -> dict[str, Any]:
    return {
        "subject": subject,
        "row": n,
        "question": f"Which knot holds load {n}?",
        "choices": ["none", "bowline", "granny", "bow"],
        "answer": answer,
        **more,
    }


PLAIN = {
    "dev": [row(n, "BCADB"[n]) for n in range(5)],
    "test": [row(10), row(11, "A", "tides"), row(12), row(13)],
}


def replies(*texts: str) -> toys.Scripted:
    answers = iter(texts)
    return toys.Scripted(say=lambda prompt, k: next(answers))


def test_answers_are_sampled_and_their_letter_counts(tmp_path: Path) -> None:
    model = replies(
        "Bowlines hold. The answer is (B).", "The answer is (C).", "The answer is (A).", "Hard to say."
    )
    context = desk.context("mmlu", tmp_path, model, PLAIN)
    rows = desk.run_task(context)
    assert [(r["choice"], r["outcome"], r["correct"]) for r in rows] == [
        (1, "right", 1.0),
        (2, "wrong", 0.0),
        (0, "wrong", 0.0),
        (None, "unparsed", 0.0),
    ]
    assert [r["group"] for r in rows] == ["knots", "tides", "knots", "knots"]
    assert model.samplings[0].temperature == 1.0 and model.samplings[0].stops == ()


def test_the_examples_are_ours_where_the_data_show_no_reasoning(tmp_path: Path) -> None:
    model = replies(*["The answer is (B)."] * 4)
    context = desk.context("mmlu", tmp_path, model, PLAIN)
    desk.run_task(context)
    ours = read_jsonl(shipped("mmlu_thoughts.train"))
    prompt = model.asked[0]
    assert [m["role"] for m in prompt] == ["user", "assistant"] * 6
    for n, example in enumerate(ours):
        assert example["question"] in prompt[2 * n]["content"]
        assert (
            prompt[2 * n + 1]["content"]
            == f"{mmlu.LEAD} {example['thought']} The answer is ({example['answer']})."
        )
    assert prompt[0]["content"].startswith(mmlu.HEADER)
    assert prompt[10]["content"] == "Which knot holds load 10?\n(A) none\n(B) bowline\n(C) granny\n(D) bow"
    assert prompt[11]["content"] == mmlu.LEAD
    assert all(dialogue[:10] == prompt[:10] for dialogue in model.asked), (
        "the beginning is the same for all subjects"
    )


def test_examples_of_the_data_that_show_reasoning_are_taken(tmp_path: Path) -> None:
    files = {"dev": [row(n, "B", thought=f"Load {n} is light.") for n in range(6)], "test": PLAIN["test"]}
    model = replies(*["The answer is (B)."] * 4)
    context = desk.context("mmlu", tmp_path / "own", model, files, change={"mmlu": {"form": "text"}})
    desk.run_task(context)
    knots, tides = model.asked[:2]
    assert isinstance(knots, str) and isinstance(tides, str)
    assert f"{mmlu.LEAD} Load 4 is light. The answer is (B).\n\n" in knots and "Load 5" not in knots
    assert knots.endswith(f"(D) bow\n{mmlu.LEAD}") and knots.count(mmlu.LEAD) == 6
    assert "is light" not in tides, "a subject without reasoning has our examples"
    assert model.samplings[0].stops == ("\n\n",)
    plain = desk.context("mmlu", tmp_path / "plain", toys.Scripted(), PLAIN)
    mmlu.questions(plain)
    assert plain.facts["examples"] != context.facts["examples"], (
        "the examples are part of the score's identity"
    )


def test_a_set_without_examples_of_its_own_will_do(tmp_path: Path) -> None:
    context = desk.context(
        "mmlu", tmp_path / "few", replies("(B)"), {"test": [row(1)]}, change={"mmlu": {"shots": 2}}
    )
    assert desk.run_task(context)[0]["correct"] == 1.0
    context = desk.context(
        "mmlu", tmp_path / "many", replies(), {"test": [row(1)]}, change={"mmlu": {"shots": 6}}
    )
    with pytest.raises(CharterError, match=r"6 worked examples and mmlu_thoughts\.train.* has 5"):
        desk.run_task(context)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("The answer is (B).", 1),
        ("The answer is (B), since (A) floats.", 1),
        ("So the answer is **(C)**", 2),
        ("the answer is: D", 3),
        ("I thought the answer is (A). No, the answer is (D).", 3),
        ("Not (A). So it must be (C).", 2),
        ("The answer is a bowline.", None),
        ("The answer is E.", None),
        ("", None),
    ],
)
def test_reading_the_letter(text: str, place: int | None) -> None:
    assert letter_of(text, 4) == place
