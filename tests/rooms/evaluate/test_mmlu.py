"""MMLU with reasoning: which examples it shows, what the model reads, and which letter counts."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import desk
import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.places import data_folder
from charter.ground.settings.sources import shipped
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.evaluate.catalogue import TASKS
from charter.rooms.evaluate.tasks import mmlu
from charter.rooms.evaluate.tasks.mmlu import add_thoughts, read_thoughts, thoughts_file


def row(n: int, answer: str = "B", subject: str = "knots", **more: Any) -> dict[str, Any]:
    return {
        "subject": subject,
        "row": n,
        "question": f"Which knot holds load {n}?",
        "choices": ["none", "bowline", "granny", "bow"],
        "answer": answer,
        **more,
    }


PLAIN = {"dev": [row(n, "BCADB"[n]) for n in range(5)], "test": [row(10), row(11, "A", "tides"), row(12), row(13)]}


def replies(*texts: str) -> toys.Scripted:
    answers = iter(texts)
    return toys.Scripted(say=lambda prompt, k: next(answers))


def test_answers_are_sampled_and_their_letter_counts(tmp_path: Path) -> None:
    model = replies("Bowlines hold. The answer is (B).", "The answer is (C).", "The answer is (A).", "Hard to say.")
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
        assert prompt[2 * n + 1]["content"] == f"{mmlu.LEAD} {example['thought']} The answer is ({example['answer']})."
    assert prompt[0]["content"].startswith(mmlu.HEADER)
    assert prompt[10]["content"] == "Which knot holds load 10?\n(A) none\n(B) bowline\n(C) granny\n(D) bow"
    assert prompt[11]["content"] == mmlu.LEAD
    assert all(dialogue[:10] == prompt[:10] for dialogue in model.asked), "the beginning is the same for all subjects"


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
    assert plain.facts["examples"] != context.facts["examples"], "the examples are part of the score's identity"


def thought(question: str, answer: str, words: str, subject: str = "knots", row: int = 0) -> dict[str, Any]:
    digest = hashlib.sha256(question.encode()).hexdigest()[:12]
    return {"subject": subject, "row": row, "digest": digest, "thought": words, "answer": answer}


def written(path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> None:
    """Puts thoughts in place of the shipped ones."""
    toys.rows_file(path, rows)
    monkeypatch.setattr(mmlu, "thoughts_file", lambda: path)


def test_written_thoughts_join_the_rows_that_they_were_written_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By subject and question: another place in the file doesn't matter, another question or subject does."""
    thoughts = [
        thought(PLAIN["dev"][n]["question"], PLAIN["dev"][n]["answer"], f"Rope {n} slips.", row=9 - n) for n in range(5)
    ]
    thoughts += [thought("Which knot holds load 2?", "A", "Of the sea.", subject="tides")]
    written(tmp_path / "thoughts.jsonl", monkeypatch, thoughts)
    dev = [PLAIN["dev"][0] | {"question": " Which knot holds load 0?\n"}, *PLAIN["dev"][1:]]
    dev += [row(n, "B", "tides") for n in range(5)]
    model = replies(*["The answer is (B)."] * 4)
    context = desk.context("mmlu", tmp_path / "joined", model, {"dev": dev, "test": PLAIN["test"]})
    context.out.note = (notes := list[str]()).append  # type: ignore[method-assign]
    with pytest.raises(CharterError, match=r"thoughts\.jsonl:6: .*tides-2 is B"):
        desk.run_task(context)
    written(tmp_path / "thoughts.jsonl", monkeypatch, thoughts[:5])
    desk.run_task(context)
    knots, tides = model.asked[:2]
    for n in range(5):
        assert knots[2 * n]["content"].endswith("(A) none\n(B) bowline\n(C) granny\n(D) bow")
        assert f"holds load {n}?" in knots[2 * n]["content"]
        ending = f"Rope {n} slips. The answer is ({'BCADB'[n]})."
        assert knots[2 * n + 1]["content"] == f"{mmlu.LEAD} {ending}"
    assert "Rope" not in str(tides)
    assert context.summary["examples"] == {"own": 1, "shared": 1, "subjects": ["tides"]}
    assert notes == ["mmlu: 1 of 2 subjects share the general examples, since their own rows show no reasoning: tides"]


def test_reasoning_in_the_data_is_kept_and_a_subject_with_four_thoughts_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thoughts = [thought(r["question"], r["answer"], "Ours.") for r in PLAIN["dev"][:4]]
    written(tmp_path / "thoughts.jsonl.gz", monkeypatch, thoughts)
    four = desk.context("mmlu", tmp_path / "four", replies(*["(B)"] * 4), PLAIN)
    mmlu.questions(four)
    assert four.summary["examples"]["subjects"] == ["knots", "tides"]
    dev = [PLAIN["dev"][0] | {"thought": "Yours."}, *PLAIN["dev"][1:]]
    model = replies(*["(B)"] * 4)
    desk.run_task(
        desk.context(
            "mmlu", tmp_path / "own", model, {"dev": dev, "test": PLAIN["test"]}, change={"mmlu": {"shots": 2}}
        )
    )
    assert "Yours." in model.asked[0][1]["content"] and "Ours." in model.asked[0][3]["content"]


def test_two_questions_with_the_same_words_have_each_their_own_thought(tmp_path: Path) -> None:
    """By their rows; without rows in their order."""
    said = [thought("Which holds?", "B", "First.", row=3), thought("Which holds?", "C", "Second.", row=4)]
    toys.rows_file(tmp_path / "thoughts.jsonl", said)
    thoughts = read_thoughts(tmp_path / "thoughts.jsonl")
    rows = [row(4, "C", question="Which holds?"), row(3, "B", question="Which holds?")]
    joined = add_thoughts([mmlu.parse(one, "dev")[0] for one in rows], thoughts)
    assert [q.meta["thought"] for q in joined] == ["Second.", "First."]
    unnumbered = [{key: one[key] for key in one if key != "row"} for one in reversed(rows)]
    joined = add_thoughts([mmlu.parse(one, "dev")[0] for one in unnumbered], thoughts)
    assert [q.meta["thought"] for q in joined] == ["First.", "Second."]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"thought": " "}, "has no thought"),
        ({"digest": None}, "has no digest"),
        ({"answer": "none"}, "has the answer 'none'"),
    ],
)
def test_a_broken_thought_names_its_line(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    good = thought("Which knot holds load 0?", "B", "It holds.")
    toys.rows_file(tmp_path / "thoughts.jsonl", [good, good | change])
    with pytest.raises(CharterError, match=rf"thoughts\.jsonl:2: a thought {why}"):
        read_thoughts(tmp_path / "thoughts.jsonl")


def test_the_shipped_thoughts_fit_the_public_rows() -> None:
    path, folder = thoughts_file(), data_folder() / "mmlu"
    if path is None or not folder.is_dir():
        pytest.skip("needs the shipped thoughts, and CHARTER_DATA with mmlu")
    pool = mmlu.read_split(folder, mmlu.DEV, mmlu.parse)
    joined = add_thoughts(pool, read_thoughts(path))
    assert len(pool) == 285 and all(q.meta["thought"] for q in joined)


def test_each_subject_has_its_score() -> None:
    marks = [("anatomy", 1.0), ("anatomy", 0.0), ("virology", 1.0)]
    rows = [{"id": str(n), "group": group, "correct": mark} for n, (group, mark) in enumerate(marks)]
    for task in ("mmlu", "mmlu_plain"):
        metrics = {metric.name: metric for metric in TASKS[task].numbers}
        subjects = [m for m in metrics.values() if m.kind == "part"]
        assert len(subjects) == 57 and {m.chance for m in subjects} == {0.25}
        values = {m.label: m.table(rows).value for m in subjects if m.table and not math.isnan(m.table(rows).value)}
        assert values == {"Anatomy": 0.5, "Virology": 1.0}


def test_a_set_without_examples_of_its_own_will_do(tmp_path: Path) -> None:
    context = desk.context("mmlu", tmp_path / "few", replies("(B)"), {"test": [row(1)]}, change={"mmlu": {"shots": 2}})
    assert desk.run_task(context)[0]["correct"] == 1.0
    context = desk.context("mmlu", tmp_path / "many", replies(), {"test": [row(1)]}, change={"mmlu": {"shots": 6}})
    with pytest.raises(CharterError, match=r"mmlu_thoughts\.train.* has 5"):
        desk.run_task(context)
