"""The prompts room: labels, parts by hash, copies and repeats, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.text.heldout import part_of
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.records import read_prompts
from charter.rooms.prompts.run import run
from charter.rooms.prompts.settings import Settings, Split, check

ALL = Split(part="all")


def _source(folder: Path, role: str, name: str, prompts: list[str]) -> Any:
    rows = [toys.dialogue(f"{name}{n}", prompt, "An answer.") for n, prompt in enumerate(prompts)]
    return toys.given(role, toys.rows_file(folder / f"{name}.jsonl", rows))


def _run_room(folder: Path, settings: Settings, *sources: Any) -> tuple[list[dict[str, Any]], dict[str, int]]:
    out = toys.workspace(folder / "out")
    run(settings, Inputs(sources), out)
    rows = list(read_jsonl(out.path / "dialogues.jsonl"))
    assert len(read_prompts([out.path / "dialogues.jsonl"])) == len(rows)
    return rows, json.loads((out.path / "counts.json").read_text())


def test_every_prompt_comes_once_with_its_label_and_without_its_answer(tmp_path: Path) -> None:
    rows, counts = _run_room(
        tmp_path,
        Settings(split=ALL),
        _source(tmp_path, "unsafe", "bad", ["Steal a bike.", "steal  a BIKE.", "Forge a note."]),
        _source(tmp_path, "benign", "good", ["Sketch a bike.", "Forge a note."]),
    )
    assert [(r["messages"], r["meta"]["p_refuse"]) for r in rows] == [
        ([{"role": "user", "content": "Steal a bike."}], 1.0),
        ([{"role": "user", "content": "Forge a note."}], 1.0),
        ([{"role": "user", "content": "Sketch a bike."}], 0.0),
    ]
    assert counts["dropped_repeated"] == 2 and (counts["unsafe"], counts["benign"]) == (2, 1)


def _labelled(folder: Path, *labels: Any) -> Any:
    rows = [
        toys.dialogue(f"own{n}", f"Prompt {n}.") | ({} if p is None else {"meta": {"p_refuse": p}})
        for n, p in enumerate(labels)
    ]
    return toys.given("labelled", toys.rows_file(folder / "own.jsonl", rows))


def test_prompts_with_a_label_of_their_own_keep_it_and_others_are_left_out(tmp_path: Path) -> None:
    for keep, numbers in (("all", [0, 3, 1]), ("unsafe", [0, 3]), ("benign", [1])):
        rows, _ = _run_room(tmp_path / keep, Settings(split=ALL, keep=keep), _labelled(tmp_path, 0.9, 0.2, None, 0.5))
        labels = [(r["messages"][0]["content"], r["meta"]["p_refuse"]) for r in rows]
        assert labels == [(f"Prompt {n}.", {0: 0.9, 1: 0.2, 3: 0.5}[n]) for n in numbers]
    with pytest.raises(CharterError, match="no prompt with a label"):
        _run_room(tmp_path, Settings(split=ALL), _labelled(tmp_path, None, None))
    with pytest.raises(CharterError, match="write a probability"):
        _run_room(tmp_path, Settings(split=ALL), _labelled(tmp_path, 1.5))


def test_parts_are_disjoint_cover_all_and_follow_from_the_words_alone(tmp_path: Path) -> None:
    prompts = [f"Question number {n} of many?" for n in range(120)]
    parts = {}
    for part in ("train", "dev", "test"):
        settings = Settings(split=Split(part=part))
        rows, counts = _run_room(tmp_path / part, settings, _source(tmp_path, "benign", "good", prompts))
        parts[part] = {r["messages"][0]["content"] for r in rows}
        assert counts["dropped_held_out"] == 120 - len(rows)
    assert set.union(*parts.values()) == set(prompts) and sum(map(len, parts.values())) == 120
    assert 25 <= len(parts["test"]) <= 55 and 8 <= len(parts["dev"]) <= 30
    number = int(hashlib.sha256(b"a word").hexdigest()[8:16], 16)
    expected = "test" if number % 3 == 0 else "dev" if number % 5 == 0 else "train"
    assert part_of("a word") == expected


def test_copies_of_evaluation_prompts_are_left_out(tmp_path: Path) -> None:
    long = "please tell me how the old bridge over the river was built"
    rows, counts = _run_room(
        tmp_path,
        Settings(split=ALL, overlap=6),
        _source(tmp_path, "benign", "good", [f"Hello, {long} then?", "What is a bridge?", "Name a river."]),
        _source(tmp_path, "apart", "test", [long, "what is A bridge?"]),
    )
    assert [r["messages"][0]["content"] for r in rows] == ["Name a river."] and counts["dropped_copy"] == 2


def test_one_label_limits_and_long_prompts(tmp_path: Path) -> None:
    sources = [
        _source(tmp_path, "unsafe", "bad", ["Do harm one.", "Do harm two.", "Do harm three."]),
        _source(tmp_path, "benign", "good", ["word " * 70, "Do good.", "Do harm one."]),
    ]
    rows, counts = _run_room(tmp_path, Settings(split=ALL, keep="benign"), *sources)
    assert [r["messages"][0]["content"] for r in rows] == ["Do good."]  # what is unsafe in one set isn't benign
    assert counts["dropped_long"] == 1 and counts["unsafe"] == 0
    first, again = (_run_room(tmp_path / str(n), Settings(split=ALL, limit=1), *sources)[0] for n in (1, 2))
    assert len(first) == 2 and first == again


def test_topics_are_left_out_by_name(tmp_path: Path) -> None:
    rows = [toys.dialogue(f"t{n}", f"Prompt {n}.", topic=topic) for n, topic in enumerate(["kept", "gone", "kept"])]
    source = toys.given("benign", toys.rows_file(tmp_path / "topics.jsonl", rows))
    kept_rows, counts = _run_room(tmp_path, Settings(split=ALL, without=("gone",)), source)
    assert [r["messages"][0]["content"] for r in kept_rows] == ["Prompt 0.", "Prompt 2."]
    assert counts["dropped_topic"] == 1


def test_what_can_not_be_made_is_said(tmp_path: Path) -> None:
    assert "name some under unsafe" in check(Settings(keep="unsafe"), {"benign", "apart"})
    assert check(Settings(), {"benign"}) == ""
    with pytest.raises(ValueError, match="use 4 or more, or 0"):
        Settings(overlap=2)
    with pytest.raises(CharterError, match="no prompt is left"):
        _run_room(
            tmp_path,
            Settings(split=ALL),
            _source(tmp_path, "benign", "good", ["Name a river."]),
            _source(tmp_path, "apart", "test", ["name a river."]),
        )


def test_unsafe_prompts_get_a_drawn_refusal_where_some_are_given(tmp_path: Path) -> None:
    replies = ["I won't help with that.", "I can't do this.", "No, that would hurt someone."]
    stock = [toys.dialogue(f"s{n}", "Anything", reply) for n, reply in enumerate(replies)]
    prompts = [f"Do harm number {n}." for n in range(30)]
    rows, _ = _run_room(
        tmp_path,
        Settings(split=ALL),
        _source(tmp_path, "unsafe", "bad", prompts),
        _source(tmp_path, "benign", "good", ["Name a river."]),
        toys.given("refusals", toys.rows_file(tmp_path / "stock.jsonl", stock)),
    )
    answered = [r for r in rows if r["meta"]["label"] == "unsafe"]
    assert {r["messages"][-1]["content"] for r in answered} == set(replies)
    assert all(r["learn_from"] == 1 and r["messages"][0]["content"] in prompts for r in answered)
    assert [r["messages"] for r in rows if r["meta"]["label"] == "benign"] == [
        [{"role": "user", "content": "Name a river."}]
    ]
    assert "leave the role out" in check(Settings(keep="benign"), {"benign", "refusals"})


def test_a_refusal_fits_the_topic_of_its_prompt_or_is_a_stock_one(tmp_path: Path) -> None:
    refusals = [
        toys.dialogue(topic, "Anything", reply) | {"topic": topic, "meta": {"cut": topic == "stock"}}
        for topic, reply in (("theft", "I won't help steal."), ("fraud", "I won't help cheat."), ("stock", "No."))
    ]
    topics = ["theft", "fraud", "arson"] * 5
    unsafe = [{"id": f"u{n}", "topic": topic, "messages": [{"role": "user", "content": f"Request {n}."}]}
              for n, topic in enumerate(topics)]  # fmt: skip
    source = toys.given("unsafe", toys.rows_file(tmp_path / "bad.jsonl", unsafe))
    known = toys.given("refusals", toys.rows_file(tmp_path / "stock.jsonl", refusals))
    rows, _ = _run_room(tmp_path, Settings(keep="unsafe", split=ALL), source, known)
    assert [row["meta"].get("cut", False) for row in rows] == [topic == "arson" for topic in topics]
    replies = {"theft": "I won't help steal.", "fraud": "I won't help cheat.", "arson": "No."}
    assert [row["messages"][-1]["content"] for row in rows] == [replies[topic] for topic in topics]
    neutral = Settings(keep="unsafe", split=ALL, by_topic=False)
    rows, _ = _run_room(tmp_path, neutral, source, known)
    assert {row["messages"][-1]["content"] for row in rows} == {"No."}
    alone = toys.given("refusals", toys.rows_file(tmp_path / "own.jsonl", refusals[:2]))
    with pytest.raises(CharterError, match="no refusal of the topic stock, which by_topic: false needs"):
        _run_room(tmp_path, neutral, source, alone)
