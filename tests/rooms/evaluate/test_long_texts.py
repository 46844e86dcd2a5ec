"""QuALITY, recall and loss by position: parsing, what fits into the context, and the numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import desk
import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.scorer import score, score_document
from charter.rooms.evaluate import models
from charter.rooms.evaluate.catalogue import TASKS
from charter.rooms.evaluate.identity import identity
from charter.rooms.evaluate.tasks import position, quality

STORY = "The ferry left the quay at dawn. Nobody had counted the crates. A dog slept on the ropes. "


def story(name: str, length: int = 2, **more: Any) -> dict[str, Any]:
    options = ["a ferry", "a dog", "a crate", "a rope"]
    question = {"question": "What left at dawn?", "options": options, "gold_label": 1, **more}
    return {"article_id": name, "article": STORY * length, "questions": [question, question | {"gold_label": 2}]}


@pytest.fixture(scope="module")
def local(checkpoints: Path) -> LocalAssistant:
    return LocalAssistant.open(checkpoints / "policy")


def test_questions_of_a_story_are_one_cluster_and_labels_count_from_one(tmp_path: Path) -> None:
    model = toys.Scripted(rate=lambda prompt, text: float(text == " A"))
    files = {"dev": [story("s0", difficult=1), story("s1", difficult=0)], "train": [story(f"t{n}") for n in range(6)]}
    context = desk.context("quality", tmp_path, model, files)
    rows = desk.run_task(context)
    assert [(r["id"], r["correct"], r["group"]) for r in rows[:3]] == [
        ("s0", 1.0, "hard"),
        ("s0", 0.0, "hard"),
        ("s1", 1.0, "easy"),
    ]
    assert context.facts["shots"] == 5 and str(model.asked[0]).count("What left at dawn?") == 6


def test_rows_of_one_question_as_the_hub_has_them_give_the_same_questions(tmp_path: Path) -> None:
    """Two rows of a story are one cluster; the answer counts from 0."""
    (first, second) = story("s0")["questions"]
    text = story("s0")["article"]
    hub = [
        {"article": text, "question": q["question"], "options": q["options"], "answer": place, "hard": place == 1}
        for place, q in enumerate((first, second))
    ]
    one = [quality.parse(row, f"validation-{n}")[0] for n, row in enumerate(hub)]
    many = quality.parse(story("s0"), "dev-1")
    assert [(q.text, q.options, q.right, q.passage) for q in one] == [
        (q.text, q.options, q.right, q.passage) for q in many
    ]
    assert one[0].cluster == one[1].cluster and one[0].id != one[1].id
    assert [q.group for q in one] == ["easy", "hard"]
    with pytest.raises(ValueError, match="is none of"):
        quality.parse({**hub[0], "answer": 4}, "validation-0")
    questions = quality.questions(desk.context("quality", tmp_path, toys.Scripted(), {"validation": hub}))
    assert len(questions) == 2


def test_as_many_stories_are_shown_as_the_context_holds(tmp_path: Path, local: LocalAssistant) -> None:
    size = len(local.encode(STORY))
    length = local.engine.context // size // 3  # three stories don't fit beside their questions, two do
    files = {"dev": [story("s0", length)], "train": [story(f"t{n}", length) for n in range(6)]}
    context = desk.context("quality", tmp_path, local, files)
    rows = desk.run_task(context)
    assert context.facts["shots"] == 1 and identity(context)["shots"] == 1
    assert all(r["outcome"] in ("right", "wrong") for r in rows)


def test_the_room_is_that_beside_every_drawn_question_however_few_are_asked_together(
    tmp_path: Path, local: LocalAssistant
) -> None:
    """Deep verification asks some of the questions again."""
    size = local.engine.context // len(local.encode(STORY))
    files = {"dev": [story("long", size - 4), story("short")], "train": [story("t0", size // 2)]}
    context = desk.context("quality", tmp_path, local, files)
    questions = quality.questions(context)
    quality.rows(context, questions[2:])
    assert context.facts["shots"] == 0 and "A dog slept" in (context.out.path / "prompts/quality.txt").read_text()
    assert (context.out.path / "prompts/quality.txt").read_text().count("What left at dawn?") == 1


def test_a_story_that_is_scored_is_no_example(tmp_path: Path) -> None:
    files = {"test": [story("s0"), story("s1")], "train": [story("s1"), story("t0")]}
    context = desk.context("quality", tmp_path, toys.Scripted(rate=lambda prompt, text: 0.0), files, limit=1)
    desk.run_task(context)
    assert context.facts["shots"] == 1


def test_without_a_training_split_the_examples_are_of_other_stories(tmp_path: Path) -> None:
    """Each has a word of its own; the first five others stand before a question."""
    stories = [story(f"s{n}") for n in range(7)]
    for n, one in enumerate(stories):
        one["article"] = f"Boat {n} left. " + one["article"]
    model = toys.Scripted(rate=lambda prompt, text: 0.0)
    context = desk.context("quality", tmp_path, model, {"quality_7_articles": stories})
    rows = desk.run_task(context)
    assert len(rows) == 14 and context.facts["shots"] == 5 and "shots" not in context.summary
    assert context.facts["examples"] == "of other stories"
    by_story = {n: str(model.asked[2 * n]) for n in range(7)}
    for n, prompt in by_story.items():
        shown = [int(word) for word in re.findall(r"Boat (\d) left", prompt)]
        assert shown == [*[m for m in range(7) if m != n][:5], n]
    assert str(model.asked[3]).endswith("\nAnswer:") and str(model.asked[3]).count("Answer: A") == 5


def test_dropped_examples_and_a_missing_hard_subset_are_told(tmp_path: Path, local: LocalAssistant) -> None:
    size = len(local.encode(STORY))
    length = local.engine.context // size // 3  # two stories fit, three don't
    files = {"test": [story(f"s{n}", length) for n in range(4)]}
    context = desk.context("quality", tmp_path / "a", local, files)
    quality.questions(context)
    assert context.summary["shots"] == {
        "wanted": 5,
        "asked": 1,
        "dropped": 4,
        "why": "3 are there, 2 don't fit into the context",
    }
    assert context.summary["absent"] == {"quality_hard": "the data marks no hard questions (`difficult`)"}
    files = {"dev": [story("s0", difficult=1), story("s1", difficult=0)], "train": [story("t0")]}
    context = desk.context("quality", tmp_path / "b", local, files, change={"quality": {"shots": 1}})
    quality.questions(context)
    assert context.summary == {} and context.facts["examples"] == "of the training split"


def test_the_authors_files_are_read_as_they_are(tmp_path: Path) -> None:
    """An article stands in a row for each writer; both rows are one cluster."""
    more = {"set_unique_id": "20000_A", "batch_num": "23", "writer_id": "1", "title": "Boats", "year": 1950}
    votes = {"speed_validation": [{"speed_annotator_id": "1", "speed_answer": 2}], "writer_label": 1}
    first = story("20000", question_unique_id="20000_A_1", difficult=1, **votes) | more
    second = story("20000", question_unique_id="20000_B_1", difficult=0, **votes) | more
    first["questions"], second["questions"] = first["questions"][:1], second["questions"][:1]
    files = {
        "QuALITY.v1.0.1.htmlstripped.dev": [first, second],
        "QuALITY.v1.0.1.htmlstripped.train": [story("10000"), story("20000")],
        "QuALITY.v1.0.1.htmlstripped.test": [{"article_id": "3", "article": "No labels.", "questions": []}],
    }
    context = desk.context("quality", tmp_path, toys.Scripted(), files)
    asked = quality.questions(context)
    assert [(q.id, q.cluster, q.group) for q in asked] == [
        ("20000_A_1", "20000", "hard"),
        ("20000_B_1", "20000", "easy"),
    ]
    assert [name for name, _, _ in quality.examples(context)] == ["10000"]


def test_a_story_over_the_context_counts_as_wrong_and_costs_the_others_nothing(
    tmp_path: Path, local: LocalAssistant
) -> None:
    files = {"dev": [story("long", 200), story("short")], "train": [story("t0")]}
    context = desk.context("quality", tmp_path, local, files, change={"quality": {"shots": 1}})
    rows = desk.run_task(context)
    assert [r["outcome"] == "too long" for r in rows] == [True, True, False, False]
    assert context.facts["shots"] == 1 and rows[0]["correct"] == 0.0


def test_the_same_facts_for_every_model_each_in_its_place(tmp_path: Path) -> None:
    prompts = {}
    for name in ("one", "two"):
        model = toys.Scripted(say=lambda prompt, k: "I can't say.")
        context = desk.context("recall", tmp_path / name, model, {"text": [{"text": STORY * 30}]}, limit=25)
        rows = desk.run_task(context)
        prompts[name] = [m[-1]["content"] for m in model.asked]
    assert prompts["one"] == prompts["two"] and len(rows) == 25 and {r["correct"] for r in rows} == {0.0}
    for row, prompt in zip(rows, prompts["one"], strict=True):
        length, depth = map(int, row["group"].split("/"))
        before, fact, _ = prompt.partition("The password of the ")
        assert fact and abs(len(before) / len(prompt) - depth / 100) < 0.3
        assert 0.5 * length < 1.35 * len(prompt.split()) < 1.1 * length
        assert row["question"].startswith("What is the password of the ") and row["accepted"][0] in prompt


def test_a_fact_is_recalled_where_the_answer_holds_it(tmp_path: Path) -> None:
    def say(prompt: Any, k: int) -> str:
        text = prompt[-1]["content"]
        return "It is " + text.partition(" is ")[2].partition(".")[0].upper() if "harbour is" in text else "No idea."

    rows = desk.run_task(
        desk.context("recall", tmp_path, toys.Scripted(say=say), {"text": [{"text": STORY * 30}]}, limit=100)
    )
    assert 0 < sum(r["correct"] for r in rows) < len(rows)
    assert all((r["outcome"] == "right") == ("harbour" in r["question"]) for r in rows)


@pytest.mark.parametrize("opens", [False, True])
def test_loss_by_position_adds_up_to_the_loss(
    tmp_path: Path, local: LocalAssistant, opens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the start token, if the tokenizer puts one before plain text."""
    tokenizer = local.engine.tokenizer
    monkeypatch.setitem(vars(tokenizer), "opening", [tokenizer.eos_id] if opens else [])
    files = {"text": [{"id": f"d{n}", "text": STORY[n:] * 20} for n in range(2)] + [{"id": "short", "text": "Hm."}]}
    context = desk.context("position", tmp_path, local, files)
    rows = desk.run_task(context)
    length = context.facts["length"]
    assert [r["id"] for r in rows] == ["d0", "d1"] and length in (256, 512, local.engine.context)
    for row, document in zip(rows, files["text"], strict=False):
        ids = ([tokenizer.eos_id] * opens + tokenizer.encode(document["text"]))[:length]
        whole = sum(sum(c) for c in _logs(local, ids))
        assert sum(row["nats"].values()) == pytest.approx(-whole, rel=1e-5)
        assert row["tokens"] == {str(2**k): min(2 ** (k + 1), length) - 2**k for k in range(int(math.log2(length)))}


def _logs(local: LocalAssistant, ids: list[int]) -> list[list[float]]:
    """Token by token, each after all before it."""
    pairs = [(ids[:n], [ids[n : n + 1]]) for n in range(1, len(ids))]
    return [scores[0] for at in range(0, len(pairs), 32) for scores in score(local.engine.model, pairs[at : at + 32])]


def test_a_long_document_is_scored_a_piece_at_a_time_as_it_is_whole(
    tmp_path: Path, local: LocalAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"text": [{"id": f"d{n}", "text": STORY[n:] * 20} for n in range(2)]}
    whole = desk.run_task(desk.context("position", tmp_path / "whole", local, files))
    monkeypatch.setattr(models, "TOGETHER", 100)
    monkeypatch.setattr(models, "score_document", lambda model, ids: score_document(model, ids, 37))
    pieces = desk.run_task(desk.context("position", tmp_path / "pieces", local, files))
    for row, other in zip(whole, pieces, strict=True):
        assert row["tokens"] == other["tokens"]
        for start, nats in row["nats"].items():
            assert other["nats"][start] == pytest.approx(nats, abs=1e-4 * row["tokens"][start])


def test_each_token_of_a_piecewise_score_is_that_of_the_whole(local: LocalAssistant) -> None:
    ids = local.engine.tokenizer.encode(STORY * 12)[:500]
    whole = score(local.engine.model, [(ids[:1], [ids[1:]])])[0][0]
    for piece in (1, 64, 499, 4096):
        assert score_document(local.engine.model, ids[:140], piece) == pytest.approx(whole[:139], abs=1e-4)
    assert score_document(local.engine.model, ids[:1]) == []
    with pytest.raises(CharterError, match="the context holds"):
        score_document(local.engine.model, ids * 9)


def test_documents_are_joined_where_none_is_long_enough(tmp_path: Path, local: LocalAssistant) -> None:
    size = len(local.engine.tokenizer.encode(STORY))
    files = {"text": [{"id": f"d{n}", "text": STORY + str(n)} for n in range(30)]}
    with pytest.raises(CharterError, match=r"long\.joined"):
        desk.run_task(desk.context("position", tmp_path / "a", local, files))
    context = desk.context("position", tmp_path / "b", local, files, long={"joined": True, "positions": 400})
    rows = desk.run_task(context)
    assert context.facts["length"] == 400 and identity(context)["joined"] is True
    each = -(-400 // (size + 1))
    assert [row["id"] for row in rows] == [f"d{n} to d{n + each - 1}" for n in range(0, 30 - each + 1, each)] and len(
        rows
    ) >= 2
    assert all(sum(row["tokens"].values()) == 399 for row in rows)


def test_a_fit_that_fails_is_told_in_place_of_an_exponent(tmp_path: Path, local: LocalAssistant) -> None:
    """A model with random weights loses the same at every position."""
    files = {"text": [{"id": f"d{n}", "text": STORY[n:] * 20} for n in range(3)]}
    context = desk.context("position", tmp_path, local, files, limit=2)
    rows = desk.run_task(context)
    metrics = {metric.name: metric for metric in TASKS["position"].numbers}
    assert math.isnan(metrics["position_exponent"].table(rows).value)
    why = context.summary["absent"]["position_exponent"]
    assert why == context.summary["absent"]["position_constant"] and why
    assert context.summary["card"] == {"exponent": 0.59, "constant": 0.31}
    assert identity(context)["limit"] == 2 and TASKS["position"].protocol.limit == 1000


def test_lengths_to_try_are_that_of_the_window_and_powers_of_two_below() -> None:
    assert position.lengths(200_000)[:3] == [200_000, 131_072, 65_536]
    assert position.lengths(8192) == [8192, 4096, 2048, 1024, 512, 256]
    assert position.lengths(255) == []


def test_recall_asks_at_the_lengths_that_are_named(tmp_path: Path) -> None:
    texts = {"text": [{"text": STORY * 30}]}
    context = desk.context("recall", tmp_path / "a", toys.Scripted(), texts, long={"lengths": [1024, 512]}, limit=10)
    questions = TASKS["recall"].questions(context)
    assert {q.group.split("/")[0] for q in questions} == {"512", "1024"} and context.facts["lengths"] == [512, 1024]
    with pytest.raises(CharterError, match=r"long\.lengths names 700"):
        TASKS["recall"].questions(
            desk.context("recall", tmp_path / "b", toys.Scripted(), texts, long={"lengths": [700]})
        )


def test_what_counts_tokens_says_whose(tmp_path: Path, local: LocalAssistant) -> None:
    for task in ("position", "recall"):
        context = desk.context(task, tmp_path / task, local, {"text": [{"text": STORY * 99}]}, limit=1)  # type: ignore[arg-type]
        context.task.questions(context)
        assert identity(context)["tokenizer"] == local.engine.tokenizer.digest
    served = desk.context("recall", tmp_path / "served", toys.Scripted(), {"text": [{"text": STORY}]}, limit=1)
    TASKS["recall"].questions(served)
    assert identity(served)["tokenizer"] == "none: words"


def test_what_position_refuses(tmp_path: Path, local: LocalAssistant) -> None:
    with pytest.raises(CharterError, match="256 tokens or more"):
        desk.run_task(desk.context("position", tmp_path / "a", local, {"text": [{"text": "Short."}]}))
    with pytest.raises(CharterError, match="leave position out of tasks"):
        desk.run_task(desk.context("position", tmp_path / "b", toys.Scripted(), {"text": [{"text": STORY * 99}]}))
