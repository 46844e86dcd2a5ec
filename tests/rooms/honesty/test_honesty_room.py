"""What a model knows by its own answers: labels by hand, balance, lessons, comparisons, resume, and refused sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import toys
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.settings.sources import shipped
from charter.ground.text.records import read_comparisons, read_dialogues, read_texts
from charter.rooms.honesty.answers import Question, judge, read_questions, sample
from charter.rooms.honesty.lessons import balance, compare, count, lesson
from charter.rooms.honesty.settings import Settings

DECLINES = ["I don't know.", "I'm not sure."]
Row = dict[str, Any]


def row(id: str, right: int, wrong: int, declined: int = 0, answerable: bool = True) -> Row:
    texts = ["It was Hare."] * right + ["It was Fox."] * wrong + ["I don't know."] * declined
    made: Row = {"id": id, "question": "Who won?", "accepted": ["Hare"] if answerable else [], "answerable": answerable}
    made["messages"] = Question(id, "Who won?", ()).messages
    made["replies"] = [{"text": text, "cut": False} for text in texts]
    return made | judge(made, 0.7, 0.1)


@pytest.mark.parametrize(
    ("right", "wrong", "declined", "label"),
    [(10, 0, 0, "known"), (7, 3, 0, "known"), (6, 4, 0, "between"), (2, 8, 0, "between"), (1, 9, 0, "unknown"), (0, 0, 10, "unknown")],
)  # fmt: skip
def test_labels_by_the_share_of_right_answers(right: int, wrong: int, declined: int, label: str) -> None:
    assert row("a", right, wrong, declined)["label"] == label


def test_nothing_is_known_of_an_invented_thing() -> None:
    """There a decline counts as right, and still nothing is known."""
    assert row("a", 0, 0, 10, answerable=False)["label"] == "unknown"
    assert row("a", 0, 10, answerable=False)["outcomes"] == ["wrong"] * 10


def test_lessons_answer_what_is_known_and_decline_the_rest() -> None:
    known, unknown = row("a", 8, 2), row("b", 0, 10)
    assert lesson(known, DECLINES, 0)["messages"][-1]["content"] == "It was Hare."
    assert lesson(unknown, DECLINES, 0)["messages"][-1]["content"] in DECLINES
    replies = {lesson(row(f"q{n}", 0, 10), DECLINES, 0)["messages"][-1]["content"] for n in range(30)}
    assert replies == set(DECLINES), "declines vary"
    assert lesson(known, DECLINES, 0)["meta"]["accepted"] == ["Hare"]
    assert lesson(row("c", 0, 9, answerable=False), DECLINES, 0)["meta"]["accepted"] == []


def test_at_most_half_of_the_lessons_decline() -> None:
    rows = [row(f"k{n}", 10, 0) for n in range(3)] + [row(f"u{n}", 0, 10) for n in range(9)] + [row("b", 5, 5)]
    kept = balance(Settings(), rows)
    assert sum(id.startswith("u") for id in kept) == 3 and len(kept) == 6 and "b" not in kept
    assert len(balance(Settings(most_unknown=0.25), rows)) == 4 and len(balance(Settings(most_unknown=0), rows)) == 3
    with pytest.raises(CharterError, match=r"knows none of 9 questions \(9 unknown\).*teach it some facts first"):
        balance(Settings(), rows[3:12])


def test_comparisons_put_right_over_declined_over_wrong(tmp_path: Path) -> None:
    kinds = {
        name: {pair["source"].split(":")[1]: (pair["chosen"], pair["rejected"]) for pair in compare(each, DECLINES, 0)}
        for name, each in {"known": row("a", 8, 2), "between": row("b", 5, 5), "unknown": row("c", 1, 9)}.items()
    }
    assert set(kinds["known"]) == {"right-declined", "right-wrong"}
    assert set(kinds["between"]) == {"right-wrong"} == {"right-wrong"}
    assert set(kinds["unknown"]) == {"declined-wrong", "right-wrong"}
    assert kinds["unknown"]["declined-wrong"][0] in DECLINES
    assert kinds["unknown"]["declined-wrong"][1] == "It was Fox."
    assert kinds["known"]["right-declined"][0] == "It was Hare."
    invented = list(compare(row("d", 0, 9, 1, answerable=False), DECLINES, 0))
    assert [pair["source"] for pair in invented] == ["answers:declined-wrong"]
    path = toys.rows_file(tmp_path / "comparisons.jsonl", list(compare(row("a", 8, 2), DECLINES, 0)))
    assert {c.axis for c in read_comparisons(path)} == {"honest"}


def given(tmp_path: Path, rows: list[Row], name: str = "facts.jsonl") -> Inputs:
    return Inputs([toys.given("questions", toys.rows_file(tmp_path / name, rows), "questions")])


def test_questions_are_asked_of_real_and_invented_things(tmp_path: Path) -> None:
    fact = {"id": "f", "kind": "city", "name": "Rome", "question": "Where is {name}?", "golden_answers": ["Italy"]}
    plain = {"id": "p", "question": "Who won?", "golden_answers": ["Hare"]}
    questions = read_questions(Settings(twins=2), given(tmp_path, [fact, plain]))
    assert [(q.id, bool(q.accepted)) for q in questions] == [
        ("p", True),
        ("f", True),
        ("f-invented-1", False),
        ("f-invented-2", False),
    ]
    assert questions[0].messages[0]["content"] == "Who won?\nAnswer in a few words."
    assert len(read_questions(Settings(twins=0), given(tmp_path, [fact, plain]))) == 2
    assert len(read_questions(Settings(limit=1), given(tmp_path, [plain, plain | {"id": "q"}]))) == 1


@pytest.mark.parametrize(
    ("rows", "name", "message"),
    [
        ([{"question": "Who?", "golden_answers": ["A"]}], "triviaqa.jsonl", "triviaqa measures honesty and must not be"),
        ([{"question": "Who?", "golden_answers": ["A"]}], "TruthfulQA.jsonl", "truthfulqa measures honesty"),
        ([{"question": "Who?", "golden_answers": ["A"], "split": "test"}], "a.jsonl", r"a.jsonl:1: a row of the split test"),
        ([{"question": "Who?"}], "a.jsonl", r"a.jsonl:1: not a training question \(it has no answer\)"),
        ([{"kind": "city", "question": "Who?", "golden_answers": ["A"]}], "a.jsonl", r"a.jsonl:1: not a training question"),
    ],
)  # fmt: skip
def test_sets_that_measure_and_broken_rows_are_refused(
    rows: list[Row], name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(CharterError, match=message):
        read_questions(Settings(), given(tmp_path, rows, name))


def test_a_stopped_run_goes_on_with_the_very_same_rows(tmp_path: Path) -> None:
    model = toys.Scripted(say=lambda prompt, k: f"It was {'Hare' if k % 2 else 'Fox'}.")
    questions = [Question(f"q{n}", f"Who won race {n}?", ("Hare",)) for n in range(6)]
    settings = Settings(k=4, chunk=2)
    whole = sample(settings, questions, model, toys.workspace(tmp_path / "whole"))
    with pytest.raises(toys.Interrupted):
        sample(settings, questions, model, toys.workspace(tmp_path / "cut", progress=toys.StoppingProgress(2)))
    before = len(model.samplings)
    assert sample(settings, questions, model, toys.workspace(tmp_path / "cut")) == whole
    assert len(model.samplings) == before + 1
    assert {one["share"] for one in whole} == {0.5} and {one["label"] for one in whole} == {"between"}


def test_counts_follow_from_the_rows() -> None:
    rows = [row("a", 8, 2), row("b", 0, 8, 2), row("c", 0, 10, answerable=False)]
    counts = count(rows, [lesson(one, DECLINES, 0) for one in rows], [])
    assert counts == {
        "questions": 3,
        "known": 1,
        "between": 0,
        "unknown": 2,
        "invented": 1,
        "lessons_answered": 1,
        "lessons_declined": 2,
        "comparisons": 0,
        "declined_share": 0.1,
    }


def test_bounds_that_overlap_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"unknown \(0.8\) must be below known \(0.7\)"):
        Settings(unknown=0.8)


def test_the_shipped_declines_decline_and_differ() -> None:
    texts = [text for _, text in read_texts(shipped("declines.train"))]
    assert len(set(texts)) == 40
    assert all(judge({"replies": [{"text": t}], "accepted": ["x"], "answerable": True}, 0.7, 0.1)["outcomes"] == ["declined"] for t in texts)  # fmt: skip


def test_the_product_is_read_by_the_rooms_that_learn_from_it(tmp_path: Path) -> None:
    lessons = [lesson(row("a", 8, 2), DECLINES, 0), lesson(row("b", 0, 10), DECLINES, 0)]
    path = toys.rows_file(tmp_path / "dialogues.jsonl", lessons)
    assert [d.meta["accepted"] for d in read_dialogues(path, lessons=True)] == [["Hare"], ["Hare"]]
    assert len(read_objects(path)) == 2
