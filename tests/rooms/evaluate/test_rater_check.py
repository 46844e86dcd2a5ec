"""The harm rater against outside labels: columns of each set, and figures by hand."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from desk import context, run_task

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.store import write_manifest
from charter.ground.judge.rater import KEPT
from charter.ground.measure.reporting import record
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Dialogue, cluster_of, user
from charter.rooms.evaluate.asking import mean_number, read_number, shorten
from charter.rooms.evaluate.catalogue import METRICS
from charter.rooms.evaluate.tasks.rater_check import mark, read_labelled

OUTSIDE = Path(os.environ.get("CHARTER_DATA", "nowhere")) / "grader_checks"
REFUSAL = "I can't help with that."


@pytest.mark.parametrize(
    ("file", "row", "expected"),
    [
        ("pyrit_harm", {"objective": "q", "assistant_response": "r", "human_scores": "[0.5, 1.0]"}, 0.75),
        ("pyrit_objective", {"objective": "q", "assistant_response": "r", "human_scores": [0.0]}, 0.0),
        ("gptfuzz_labelled_evaluate", {"question": "q", "response": "r", "label": "1"}, 1.0),
        ("jailjudge_mini", {"question": "q", "answer": "r", "label": 0}, 0.0),
        ("diasafety_val_test", {"context": "q", "response": "r", "label": "Unsafe"}, 1.0),
        ("red_team_attempts", {"transcript": "\n\nHuman: q\n\nAssistant: r", "rating": 3.0}, 0.75),
        ("mine", {"prompt": "q", "reply": "r", "label": 0.5}, 0.5),
    ],
)
def test_columns_of_every_set(tmp_path: Path, file: str, row: dict[str, Any], expected: float) -> None:
    (one,) = read_labelled(toys.rows_file(tmp_path / f"{file}.jsonl", [row]))
    assert (one.messages[-1]["content"], one.reply, one.harm) == ("q", "r", expected)
    wanted = {"red_team_attempts": "attempts", "mine": "own"}
    assert (one.set == wanted.get(file, one.set) and file.startswith(one.set.split("_")[0])) or file in wanted


def test_bad_rows_are_named_and_attempts_without_a_reply_left_out(tmp_path: Path) -> None:
    path = toys.rows_file(tmp_path / "a.jsonl", [{"question": "q", "answer": "r", "label": "3"}])
    with pytest.raises(CharterError, match=r"a.jsonl:1: .*label of 3"):
        list(read_labelled(path))
    asked = toys.rows_file(tmp_path / "b.jsonl", [{"transcript": "\n\nHuman: q", "rating": 1}])
    assert list(read_labelled(asked)) == []


def test_answers_of_a_judge() -> None:
    texts = ["3", "Rating: 2.", "\u22121", "I'd say +1, since", "4/4", "7", "none", "2.5"]
    assert [read_number(t, -3, 4) for t in texts] == [3, 2, -1, 1, 4, None, None, None]
    assert mean_number(["3", "no", "1"], 0, 4) == 2.0 and mean_number(["no"], 0, 4) is None
    assert shorten("abcdef", 4) == "ab\n[...]\nef" and shorten("abc", 4) == "abc"


def test_of_an_arena_the_rated_attempts_are_read(tmp_path: Path) -> None:
    """Its votes and comparisons lie beside them."""
    attempt = toys.dialogue("a1", "Do it.", "No.", rating=1)
    desk = context("rater_check", tmp_path, toys.Scripted(), {"ratings": [attempt], "votes": [{"vote": "left"}]})
    (one,) = desk.task.questions(desk)
    assert (one.set, one.harm, one.reply) == ("attempts", 0.25, "No.")


def test_what_people_and_simulated_raters_said_are_sets_apart(tmp_path: Path) -> None:
    """Of a transcript the mean of its reviews counts, (1 + 4) / 2 of 4; one without a review waits."""
    transcript = {"id": "r", "verdict": None, "messages": toys.dialogue("r", "Do it.", "So.")["messages"]}
    reviews = [
        transcript | {"ratings": [1, 4], "source": "human"},
        transcript | {"ratings": [0], "source": "simulated"},
        transcript | {"ratings": [], "source": "human"},
    ]
    attempt = toys.dialogue("a", "Do it.", "No.", rating=4, source="simulated")
    export = {"reviews": reviews, "judgments": [{"verdict": None}]}
    desk = context("rater_check", tmp_path / "reviews", toys.Scripted(), export)
    found = [(one.set, one.harm) for one in desk.task.questions(desk)]
    assert found == [("reviewed", 0.625), ("simulated", 0.0)]
    desk = context("rater_check", tmp_path / "attempts", toys.Scripted(), {"ratings": [attempt]})
    assert [(one.set, one.harm) for one in desk.task.questions(desk)] == [("simulated", 1.0)]


def test_attempts_that_the_rater_learnt_from_are_not_asked(tmp_path: Path) -> None:
    """Its step held out the first turn "Two."; another source is asked whole."""
    attempts = [toys.dialogue(name, f"{name}.", "No.", rating=1) for name in ("One", "Two")]
    rater = tmp_path / "rater"
    (rater / KEPT).parent.mkdir(parents=True)
    heldout = cluster_of(Dialogue("Two", (user("Two."),)))
    toys.rows_file(rater / KEPT, [{"id": heldout, "rating": 1, "score": 1.0, "tokens": 2}])
    data = {"ratings": attempts}
    for learnt, asked in (("data", ["Two."]), ("another", ["One.", "Two."])):
        entry = toys.given("rater", rater, "checkpoint", "rating")
        desk = context("rater_check", tmp_path / learnt, toys.Scripted(), data, further=[entry])
        (source,) = desk.inputs.many("rater_check")
        ratings = [source.id if learnt == "data" else "sha256:other"]
        facts: dict[str, Any] = {"status": "done", "step": "rater", "room": "rating", "recipe": "r", "id": "1" * 64}
        write_manifest(rater, Manifest(kind="checkpoint", inputs={"ratings": ratings}, **facts))
        assert [one.messages[0]["content"] for one in desk.task.questions(desk)] == asked
        assert desk.summary == ({"learnt": 1} if learnt == "data" else {})


ROWS = [
    {"question": "one", "answer": "a b c d", "label": 1},
    {"question": "two", "answer": REFUSAL, "label": 1},
    {"question": "three", "answer": "a b", "label": 0},
    {"question": "four", "answer": REFUSAL, "label": 0},
]
SAID = {"one": ("4", "4"), "two": ("1", "none"), "three": ("1", "0"), "four": ("0", "2")}


def test_figures_by_hand(tmp_path: Path) -> None:
    """T = 0: harmful 4 and 1 against 1 and 0. T = 1: 4 against 0 and 2, "two" has no readable rating. Rule: harmful
    {1, 0} against {1, 0}. The rater has them the wrong way round."""

    def say(messages: Any, k: int) -> str:
        text = messages[-1]["content"]
        name = next(n for n in SAID if f"User: {n}\n" in text)
        return SAID[name][0 if judge.samplings[-1].temperature == 0 else 1]

    judge = toys.Scripted(say)
    desk = context("rater_check", tmp_path, toys.Scripted(), {"jailjudge_mini": ROWS})
    ratings = {"one": 0.0, "two": 0.5, "three": 2.0, "four": 3.0}
    rater = SimpleNamespace(score=lambda items: [[ratings[m[-1]["content"]]] for m, _ in items])
    models: Any = desk.models
    models.rater, models.judge = rater, judge
    kept = run_task(desk)
    assert [row["unread"] for row in kept] == [[], ["t1"], [], []]
    assert all(mark(row).items() <= row.items() for row in kept)
    desk.out.write_jsonl("samples/rater_check.jsonl", kept)
    record(desk.out, METRICS)
    values = {m.name: m.value for m in desk.out.metrics}
    expected = {
        "auroc_judge_t0_jailjudge": 3.5 / 4,
        "auroc_judge_t1_jailjudge": 1.0,
        "auroc_rater_jailjudge": 0.0,
        "auroc_answered_jailjudge": 0.5,
        "auroc_words_jailjudge": (2 + 2 * 0.75) / 4,
        "unread": 1 / 4,
    }
    lengths = [len(row["answer"].split()) for row in ROWS]  # 4, 5, 2, 5
    assert lengths == [4, 5, 2, 5]
    expected["auroc_words_jailjudge"] = (1 + 0 + 1 + 0.5) / 4
    assert {k: values[f"rater_check_{k}"] for k in expected} == pytest.approx(expected)
    assert values["rater_check_rank_rater_jailjudge"] == pytest.approx(-2 / 5**0.5)


def test_it_needs_something_to_check(tmp_path: Path) -> None:
    desk = context("rater_check", tmp_path, toys.Scripted(), {"x": ROWS})
    models: Any = desk.models
    models.rater = models.judge = None
    with pytest.raises(CharterError, match="needs the role rater"):
        run_task(desk)


def test_the_shipped_triples_are_a_set() -> None:
    rows = list(read_labelled(shipped("fitness.heldout")))
    assert len(rows) == 152 and sum(row.harm for row in rows) == 76 and {row.set for row in rows} == {"triples"}


@pytest.mark.skipif(not OUTSIDE.is_dir(), reason="CHARTER_DATA has no grader_checks")
@pytest.mark.parametrize(
    ("file", "count", "set"),
    [
        ("pyrit_harm", 835, "pyrit_harm"),
        ("pyrit_objective", 380, "pyrit_objective"),
        ("gptfuzz_labelled_evaluate", 1540, "gptfuzz"),
        ("jailjudge_mini", 985, "jailjudge"),
        ("safe_rlhf_mini", 1827, "safe_rlhf"),
        ("diasafety_val_test", 2174, "diasafety"),
    ],
)
def test_outside_sets_are_read_whole(file: str, count: int, set: str) -> None:
    rows = list(read_labelled(OUTSIDE / f"{file}.jsonl.gz"))
    assert len(rows) == count and {row.set for row in rows} == {set}
    assert 0.1 < sum(row.harm >= 0.5 for row in rows) / count < 0.9
