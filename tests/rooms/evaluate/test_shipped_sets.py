"""The small sets of the package: every task reads its own, with enough questions and examples, and fair letters."""

from __future__ import annotations

import importlib
import re
from collections import Counter, defaultdict
from typing import Any

import pytest

from charter.ground.settings.sources import shipped, shipped_folder
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.evaluate.catalogue import TASKS
from charter.rooms.evaluate.reading import DEV, TEST, has, read_split
from charter.rooms.evaluate.task import Query, Question
from charter.rooms.evaluate.tasks import quality, triviaqa

# task -> (number of questions, number of examples)
SIZES: dict[str, tuple[int, int]] = {
    "gsm8k": (32, 0),
    "mmlu_plain": (40, 20),
    "mmlu": (40, 20),
    "arc": (40, 5),
    "race": (36, 6),
    "humaneval": (12, 0),
    "triviaqa": (41, 5),
    "translation": (60, 0),
}


def parser(task: str) -> Any:
    """The function with which a task parses a row."""
    return importlib.import_module(f"charter.rooms.evaluate.tasks.{task}").parse


def read_questions(task: str, splits: tuple[str, ...]) -> list[Question]:
    return read_split(shipped(f"{TASKS[task].data_role}.heldout"), splits, parser(task))


@pytest.mark.parametrize("task", SIZES)
def test_a_shipped_set_is_read_whole(task: str) -> None:
    source = shipped(f"{TASKS[task].data_role}.heldout")
    test = read_questions(task, TEST)
    dev = read_questions(task, DEV) if has(source, DEV) else []
    assert (len(test), len(dev)) == SIZES[task]
    ids = [q.id for q in test + dev]
    assert len(set(ids)) == len(ids)
    assert not {q.text for q in test} & {q.text for q in dev}, "what is shown is not asked"


@pytest.mark.parametrize("task", ["mmlu_plain", "arc", "race"])
def test_no_letter_is_right_far_more_often_than_another(task: str) -> None:
    test = read_questions(task, TEST)
    letters = Counter(q.right[0] for q in test)
    assert all(0.15 < letters[n] / len(test) < 0.35 for n in range(4)), letters
    assert all(len(set(q.options)) == 4 for q in test)


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("quiz-017", "The Loire River"),
        ("quiz-028", "Augustus Caesar."),
        ("quiz-031", "Mt Everest"),
        ("quiz-037", "1,440 minutes"),
        ("quiz-039", "32 degrees Fahrenheit"),
    ],
)
def test_a_right_answer_counts_in_its_common_forms(name: str, reply: str) -> None:
    (question,) = (q for q in read_questions("triviaqa", TEST) if q.id == name)
    assert triviaqa.grade(Query(question, ""), reply)["outcome"] == "right"


def test_stories_are_scored_and_another_one_is_shown() -> None:
    source = shipped("quality.heldout")
    scored = read_split(source, quality.SCORED, quality.parse)
    examples = read_split(source, quality.EXAMPLES, quality.parse)
    assert (len(scored), len(examples)) == (20, 3)
    assert len({q.cluster for q in scored}) == 5 and not {q.cluster for q in scored} & {q.cluster for q in examples}
    assert all(len(set(q.options)) == 4 for q in scored)


def test_every_subject_has_its_examples() -> None:
    groups = [Counter(q.group for q in read_questions("mmlu", splits)) for splits in (TEST, DEV)]
    assert set(groups[0].values()) == {10} and set(groups[1].values()) == {5} and set(groups[0]) == set(groups[1])


def test_thoughts_do_not_show_what_is_asked() -> None:
    thoughts = read_jsonl(shipped("mmlu_thoughts.train"))
    questions = {q.text for q in read_questions("mmlu", TEST) + read_questions("arc", TEST)}
    assert len(thoughts) == 5 and not {t["question"] for t in thoughts} & questions
    assert len({t["answer"] for t in thoughts}) >= 3 and all(t["thought"].endswith(".") for t in thoughts)


def grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}


def test_nothing_that_is_asked_stands_in_training() -> None:
    """Nor nearly: word 3-grams, as for the other held-out sets."""
    files = shipped_folder().glob("*.train.jsonl")
    texts = {m["content"] for path in files for row in read_jsonl(path) for m in row.get("messages", ())}
    trained = {text: grams(text) for text in texts}
    with_gram: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for text, own in trained.items():
        for gram in own:
            with_gram[gram].add(text)
    near = []
    for text in {q.text for task in SIZES for q in read_questions(task, TEST)}:
        own = grams(text)
        for other in set().union(*(with_gram.get(gram, set()) for gram in own)):
            if len(trained[other] & own) / len(trained[other] | own) >= 0.5:
                near.append((text, other))
    assert len(trained) > 1000 and near == []


@pytest.mark.parametrize("task", ["position", "recall"])
def test_long_texts_are_the_stories(task: str) -> None:
    assert len(read_split(shipped("quality.heldout"), TEST, parser(task))) == 5
