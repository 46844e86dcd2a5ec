"""Statements of behaviours: written by models and grammars, filtered by two graders, and the filter's own test."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import toys
from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.progress import SilentProgress
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.execution import Execution
from charter.ground.settings.places import data_folder
from charter.ground.settings.recipe import Recipe
from charter.ground.settings.sources import shipped
from charter.rooms.behaviours import run as room
from charter.rooms.behaviours.definition import Behaviour, of_name, read_behaviour
from charter.rooms.behaviours.diversity import measured, sets_of
from charter.rooms.behaviours.diversity import problems as diversity_problems
from charter.rooms.behaviours.filter import confirmed, copies
from charter.rooms.behaviours.known import Verdict, flip, read_known
from charter.rooms.behaviours.settings import Settings, check
from charter.rooms.behaviours.writing import Statement, read, request
from charter.runner.execute import execute
from charter.runner.plan import make_plan
from charter.runner.verify import artifact_problems

OWN = read_behaviour(shipped("behaviour_self_preservation"))
POSITIVE = "wants to go on existing"


def side_of(prompt: Any) -> str:
    """The side of the statement that a grader sees, by the words of the tests' statements."""
    return "positive" if "I want to stay" in prompt[0]["content"] else "negative"


def judge(right: float) -> Any:
    """A grader whose probability of the right option is near `right`, whatever the order."""

    def rate(prompt: Any, text: str) -> float:
        first = prompt[0]["content"].partition("(A)")[2].partition("(B)")[0]
        offered = "positive" if POSITIVE in first else "negative"
        picked = offered if text.strip() == "(A)" else {"positive": "negative", "negative": "positive"}[offered]
        return 0.0 if (picked == side_of(prompt)) == (right > 0.5) else -3.0

    return rate


def always_first(prompt: Any, text: str) -> float:
    return 0.0 if text.strip() == "(A)" else -3.0


def writes(prompt: Any, k: int) -> str:
    """A writer that keeps to the side it is asked for, and never repeats itself."""
    writes.calls = getattr(writes, "calls", 0) + 1  # type: ignore[attr-defined]
    n = writes.calls  # type: ignore[attr-defined]
    begin = "I want to stay" if POSITIVE in prompt[0]["content"] else "I don't mind leaving"
    return f'{n}. "{begin}, {n} {n * 7} {n * 11} {n * 13}"\nAnd more.'


def made(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    models: dict[str, Any],
    known: Path | None = None,
    reviews: tuple[Path, ...] = (),
    **settings: Any,
) -> tuple[Any, dict[str, float]]:
    """A run of the room with scripted models: `writer` writes, the others grade."""
    inputs = [toys.given("behaviours", shipped("behaviour_self_preservation"), "constitution")]
    for name in models:
        role = "writer" if name == "writer" else "graders"
        inputs.append(Input(role, name, "assistant", None, None, name, name))
    if known is not None:
        inputs.append(toys.given("known", known, "data"))
    inputs += [toys.given("reviews", path, "data") for path in reviews]
    monkeypatch.setattr(room, "open_assistant", lambda source, **_: models[source.name])
    out = toys.workspace(folder)
    room.run(Settings(**settings), Inputs(inputs), out)
    return out, {metric.name: metric.value for metric in out.metrics}


def graders(first: Any, second: Any) -> dict[str, Any]:
    return {"first": toys.Scripted(rate=first), "second": toys.Scripted(rate=second)}


def test_confirmed_statements_are_balanced_and_can_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"writer": toys.Scripted(say=writes)} | graders(judge(0.9), judge(0.9))
    out, values = made(tmp_path, monkeypatch, models, count=6, attempts=2, review=4)
    rows = read_objects(out.path / "dialogues.jsonl")
    assert Counter(row["answer_matching_behavior"] for row in rows) == {" Yes": 3, " No": 3}
    for row in rows:
        assert ("I want to stay" in row["statement"]) == (row["answer_matching_behavior"] == " Yes")
        assert row["label_confidence"] == pytest.approx(0.9526, abs=1e-3)
        assert row["question"] == row["messages"][0]["content"] and row["statement"] in row["question"]
    assert values["statements_confirmed"] == 1.0 and values["statements_copied"] == 0.0
    review = read_objects(out.path / "review.jsonl")
    assert len(review) == 4 and {tuple(row) for row in review} == {("id", "behavior", "statement", "verdict")}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (judge(0.1), judge(0.9)),  # the first sees the other side
        (judge(0.9), judge(0.1)),  # the second doesn't agree
        (always_first, judge(0.9)),  # sure in one order alone
        (judge(0.9), always_first),
    ],
)
def test_a_label_that_a_grader_does_not_confirm_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Any, second: Any
) -> None:
    models = {"writer": toys.Scripted(say=writes)} | graders(first, second)
    with pytest.raises(CharterError, match="the filter confirmed none of 8 distinct statements"):
        made(tmp_path / "a", monkeypatch, models, count=4, attempts=2)
    out, _ = made(tmp_path / "b", monkeypatch, models, count=4, attempts=2, filter={"keep_all": True})
    kept = read_objects(out.path / "dialogues.jsonl")
    assert len(kept) == 4 and {row["source"] for row in kept} == {"ai, unconfirmed"}


def test_kept_statements_stand_beside_as_many_of_people() -> None:
    """Of "a b", "a b c" and "d" the pairs are {^a ab b$}, {^a ab bc c$} and {^d d$}: the first two share 2 of 5, and of
    9 pairs 3 + 2 + 2 are new."""
    rows = list(measured("calm", "generated", ["a b", "a b c", "d"]))
    assert [row["nearest"] for row in rows] == [2 / 5, 2 / 5, 0.0]
    assert [(row["pairs"], row["new"]) for row in rows] == [(3, 3), (4, 2), (2, 2)]
    gold = {side: tuple(f"{side} {word}" for word in "kmn") for side in ("positive", "negative")}
    behaviour = Behaviour("calm_mind", "", "", "", gold)
    kept = [{"behavior": "calm_mind", "statement": f"kept {n}"} for n in range(9)]
    known = [Statement(of_name("calm-mind"), "positive", "known"), Statement(of_name("other"), "positive", "no")]
    found = list(sets_of([behaviour], kept, known, 3))
    assert Counter(row["set"] for row in found) == {"generated": 7, "people": 7}
    assert {row["statement"] for row in found if row["set"] == "people"} == {
        "known",
        *gold["positive"],
        *gold["negative"],
    }
    assert list(diversity_problems(found, kept)) == []
    assert len(list(diversity_problems(found, kept[:3]))) == 1
    found[0]["nearest"] = 1.0
    assert len(list(diversity_problems(found, kept))) == 1
    assert list(sets_of([behaviour], kept[:4], known, 3)) == [], "too few to say anything"


def test_a_grammar_writes_for_those_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, values = made(tmp_path, monkeypatch, graders(always_first, always_first), count=20, filter={"keep_all": True})
    statements = read_objects(out.path / "samples/statements.jsonl")
    assert len(statements) == 80 and 0 < values["statements_copied"] < 1
    assert all("{" not in row["statement"] for row in statements)
    texts = [row["statement"] for row in read_objects(out.path / "dialogues.jsonl")]
    assert len(set(texts)) == len(texts) > 4


def test_near_copies_of_earlier_and_of_gold_statements_go() -> None:
    texts = ["I would hide from them", "I would hide from them!", "I would hide from him", OWN.gold["negative"][0]]
    assert copies([Statement(OWN, "positive", text) for text in texts], 0.6) == [False, True, False, True]
    assert copies([Statement(OWN, "positive", text) for text in texts], 0.5) == [False, True, True, True]


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ('1. "I would stay on."\nMore', "I would stay on."),
        ("  \n- I would stay", "I would stay"),
        ("“I don't mind that”", "I don't mind that"),
        ("Sure!", ""),
        ("", ""),
    ],
)
def test_a_statement_is_read_from_a_reply(reply: str, text: str) -> None:
    assert read(reply) == text


def test_a_writer_sees_gold_of_one_side_in_another_order_each_time() -> None:
    first, second = (request(OWN, "positive", 3, random.Random(n))[0]["content"] for n in (0, 1))
    shown = [text for text in OWN.gold["positive"] if text in first]
    assert len(shown) == 3 and not any(text in first for text in OWN.gold["negative"]) and first != second


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ([0.9, 0.81], [0.6, 0.6], True),
        ([0.9, 0.79], [0.6, 0.6], False),
        ([0.9, 0.9], [0.9, 0.1], False),
        ([0.1, 0.1], [0.1, 0.1], False),
    ],
)
def test_the_rule_by_hand(first: list[float], second: list[float], kept: bool) -> None:
    assert confirmed({"side": "positive", "first": first, "second": second}, 0.8) is kept
    turned = {"side": "negative", "first": [1 - p for p in first], "second": [1 - p for p in second]}
    assert confirmed(turned, 0.8) is kept


def known_rows(path: Path, n: int) -> Path:
    rows = [
        {
            "behavior": "no-shut-down",
            "statement": f"I want to stay {k}" if k % 2 == 0 else f"I leave gladly {k}",
            "answer_matching_behavior": " Yes" if k % 2 == 0 else " No",
        }
        for k in range(n)
    ]
    return toys.rows_file(path, rows)


def test_flipped_labels_are_found_by_graders_that_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_rows(tmp_path / "known.jsonl", 100)

    def knows(prompt: Any, text: str) -> float:
        positive = "has this trait" in prompt[0]["content"].partition("(A)")[2].partition("(B)")[0] or (
            POSITIVE in prompt[0]["content"].partition("(A)")[2].partition("(B)")[0]
        )
        return 0.0 if (text.strip() == "(A)") == (positive == (side_of(prompt) == "positive")) else -3.0

    for name, rate, numbers in (
        ("knows", knows, {"filter_precision": 1.0, "filter_yield": 0.7, "filter_base": 0.7}),
        ("habit", always_first, {"filter_yield": 0.0, "filter_base": 0.7}),
    ):
        out, values = made(tmp_path / name, monkeypatch, graders(rate, rate), known, count=4, filter={"keep_all": True})
        assert {key: values[key] for key in numbers} == pytest.approx(numbers)
        verdict = read_object(out.path / "filter.json")
        assert verdict["fit"] is (name == "knows")
        assert verdict["why"].startswith("filter fit" if name == "knows" else "filter unfit: it kept none of 100")


def test_a_filter_must_be_surely_better_than_no_filter() -> None:
    def rows(kept_right: int, kept_wrong: int) -> list[dict[str, bool]]:
        kept = [{"right": n < kept_right, "kept": True} for n in range(kept_right + kept_wrong)]
        rest = [{"right": n < 140 - kept_right, "kept": False} for n in range(200 - len(kept))]
        return kept + rest

    assert Verdict.of(rows(58, 2), 0.9).fit
    assert not Verdict.of(rows(53, 7), 0.9).fit, "88 % is below what is wanted"
    assert not Verdict.of(rows(19, 0), 0.9).fit, "too few kept"
    assert not Verdict.of([], 0.9).fit


def test_flips_are_exact_and_keep_the_texts() -> None:
    statements = [Statement(OWN, "positive", str(n)) for n in range(50)]
    flipped = flip(statements, 0.3, 1)
    assert sum(not right for _, right in flipped) == 15 and [s.text for s, _ in flipped] == list(map(str, range(50)))
    assert all((s.side == "positive") == right for s, right in flipped) and flipped == flip(statements, 0.3, 1)


def test_published_rows_test_a_filter() -> None:
    path = data_folder() / "anthropic_evals/persona_sample.jsonl.gz"
    if not path.is_file():
        pytest.skip("CHARTER_DATA has no anthropic_evals")
    sides = Counter(statement.side for statement in read_known(path))
    assert sides == {"positive": 8393, "negative": 8393}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"positive": ""}, "positive is empty"),
        ({"gold": {"positive": ["a", "b"], "negative": ["a", "b", "c"]}}, "gold has 2 positive statements"),
        ({"gold": None}, "not a behaviour"),
        ({"grammar": {"positive": ["I {x}"], "negative": ["no"]}}, "names the slot x, which has no words"),
    ],
)
def test_a_broken_behaviour_is_named(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    good = {"name": "n", "description": "d", "positive": "p", "negative": "q"}
    gold = {"gold": {"positive": ["a", "b", "c"], "negative": ["d", "e", "f"]}}
    path = tmp_path / "b.yaml"
    path.write_text(json.dumps(good | gold))
    assert read_behaviour(path).gold["negative"] == ("d", "e", "f")
    path.write_text(json.dumps(good | gold | change))
    with pytest.raises(CharterError, match=rf"b\.yaml: not a behaviour .*{why}" if "not a" not in why else why):
        read_behaviour(path)


def test_one_grader_is_refused() -> None:
    assert "two graders are needed, and `graders` names 0" in check(Settings(), {})


def test_people_take_out_what_they_see_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def models() -> dict[str, Any]:
        writes.calls = 0  # type: ignore[attr-defined]
        return {"writer": toys.Scripted(say=writes)} | graders(judge(0.9), judge(0.9))

    out, _ = made(tmp_path / "first", monkeypatch, models(), count=6, attempts=2)
    queue = read_objects(out.path / "review.jsonl")
    sides = {r["id"]: "positive" if "stay" in r["statement"] else "negative" for r in queue}
    odd = queue[0]["id"]
    files = []
    for reviewer in range(3):
        verdicts = [
            row | {"verdict": "unclear" if row["id"] == odd and reviewer else sides[row["id"]]} for row in queue
        ]
        files.append(toys.rows_file(tmp_path / f"r{reviewer}.jsonl", verdicts))
    out, values = made(tmp_path / "second", monkeypatch, models(), reviews=tuple(files), count=6, attempts=2)
    kept = {row["id"] for row in read_objects(out.path / "dialogues.jsonl")}
    assert odd not in kept and len(kept) == 6
    assert values["reviewed_right"] == pytest.approx(5 / 6)
    # one of six statements has a pair of three that agrees
    assert values["reviewers_agreement"] == pytest.approx((5 + 1 / 3) / 6) and 0.5 < values["reviewers_kappa"] < 1
    toys.rows_file(files[0], [queue[0] | {"verdict": "maybe"}])
    with pytest.raises(CharterError, match=r"r0\.jsonl:1: verdict is 'maybe', expected positive, negative, unclear"):
        made(tmp_path / "third", monkeypatch, models(), reviews=(files[0],), count=6, attempts=2)
    toys.rows_file(files[0], [queue[0] | {"verdict": "positive", "statement": "another"}])
    with pytest.raises(CharterError, match="this step wrote no such statement"):
        made(tmp_path / "fourth", monkeypatch, models(), reviews=(files[0],), count=6, attempts=2)


def test_what_was_made_is_verified_and_asked_by_evaluate(checkpoints: Path, tmp_path: Path) -> None:
    policy = str(checkpoints / "policy")
    settings = {"count": 6, "filter": {"keep_all": True, "known_limit": 12}, "chunk": 5}
    made_by = {"name": "made", "room": "behaviours", "from": {"graders": [policy, policy]}, "settings": settings}
    asked = {
        "name": "asked",
        "room": "evaluate",
        "from": {"policy": policy, "behaviours": ["made"]},
        "settings": {"tasks": ["behaviours"]},
    }
    recipe = Recipe.model_validate({"name": "r", "steps": [made_by, asked]})
    execute(make_plan(recipe, tmp_path, tmp_path / "run", Execution("cpu", "float32")), SilentProgress())
    for name in ("made", "asked"):
        folder = tmp_path / "run" / name
        assert artifact_problems(folder, read_manifest(folder)) == [], name
    rows = read_objects(tmp_path / "run/asked/samples/behaviours.jsonl")
    assert len(rows) == 6 and {row["group"] for row in rows} == {"self-preservation"}
    path = tmp_path / "run/made/samples/statements.jsonl"
    kept = read_objects(path)
    number = next(n for n, row in enumerate(kept) if not row["copy"])
    kept[number]["confirmed"] = not kept[number]["confirmed"]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    folder = tmp_path / "run/made"
    assert any("is marked otherwise" in line for line in artifact_problems(folder, read_manifest(folder)))


def test_stopped_anywhere_and_resumed_it_is_the_same(checkpoints: Path, tmp_path: Path) -> None:
    policy = checkpoints / "policy"
    entries = [toys.given("behaviours", shipped("behaviour_self_preservation"), "constitution")]
    entries += [toys.policy(policy, "graders"), toys.policy(policy, "graders"), toys.policy(policy, "writer")]
    settings = Settings(count=6, attempts=4, max_tokens=24, chunk=4, filter={"keep_all": True})  # type: ignore[arg-type]
    whole = toys.workspace(tmp_path / "whole")
    room.run(settings, Inputs(entries), whole)
    stops = 0
    while True:
        out = toys.workspace(tmp_path / "stopped", progress=toys.StoppingProgress(1 + stops % 2))
        try:
            room.run(settings, Inputs(entries), out)
            break
        except toys.Interrupted:
            stops += 1
    assert stops > 4 and toys.files_of(whole.path) == toys.files_of(out.path)
