"""Dialogues and comparisons in files: every form reads back as what was written."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.text.dialogue import Comparison, Dialogue, Message, assistant, system, user
from charter.ground.text.jsonl import write_jsonl
from charter.ground.text.records import (
    read_comparisons,
    read_dialogues,
    read_texts,
    to_hh,
    to_trl,
    write_comparisons,
    write_dialogues,
)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
filled_texts = texts.filter(str.strip)
ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
notes = st.integers() | texts | st.booleans()
metas = st.dictionaries(st.sampled_from(["round", "voted", "note"]), notes, max_size=2)


@st.composite
def messages(draw: st.DrawFn, last: str) -> tuple[Message, ...]:
    head = [system(draw(texts))] if draw(st.booleans()) else []
    turns = [m for _ in range(draw(st.integers(0, 2))) for m in (user(draw(filled_texts)), assistant(draw(texts)))]
    tail = [user(draw(filled_texts))] + ([assistant(draw(texts))] if last == "assistant" else [])
    return (*head, *turns, *tail)


dialogues = st.builds(Dialogue, ids, messages("user") | messages("assistant"), texts, texts, st.floats(0, 10), metas)
comparisons = st.builds(
    Comparison, ids, messages("user"), texts, texts, st.floats(0, 1), texts, texts, texts, metas
).filter(lambda c: c.chosen != c.rejected)


@settings(max_examples=50, deadline=None)
@given(st.lists(dialogues, min_size=1, max_size=3, unique_by=lambda d: d.id))
def test_dialogues_come_back(tmp_path_factory: pytest.TempPathFactory, written: list[Dialogue]) -> None:
    path = tmp_path_factory.getbasetemp() / "dialogues.jsonl"
    write_dialogues(path, written)
    assert read_dialogues(path) == written


@settings(max_examples=50, deadline=None)
@given(st.lists(comparisons, min_size=1, max_size=3, unique_by=lambda c: c.id))
def test_comparisons_come_back(tmp_path_factory: pytest.TempPathFactory, written: list[Comparison]) -> None:
    path = tmp_path_factory.getbasetemp() / "comparisons.jsonl.zst"
    write_comparisons(path, written)
    assert read_comparisons(path) == written


@settings(max_examples=50, deadline=None)
@given(comparisons)
def test_trl_columns_come_back(tmp_path_factory: pytest.TempPathFactory, c: Comparison) -> None:
    path = tmp_path_factory.getbasetemp() / "trl.jsonl"
    write_jsonl(path, [to_trl(c)])
    (comparison,) = read_comparisons(path)
    better, worse = (c.chosen, c.rejected) if c.p_chosen >= 0.5 else (c.rejected, c.chosen)
    assert (comparison.messages, comparison.chosen, comparison.rejected) == (c.messages, better, worse)


@settings(max_examples=50, deadline=None)
@given(comparisons)
def test_hh_transcripts_come_back(tmp_path_factory: pytest.TempPathFactory, c: Comparison) -> None:
    def clean(text: str) -> str:
        return text.strip()

    assume(clean(c.chosen) and clean(c.rejected) and clean(c.chosen) != clean(c.rejected))
    assume(all(m["content"].strip() for m in c.messages))
    path = tmp_path_factory.getbasetemp() / "hh.jsonl"
    write_jsonl(path, [to_hh(c)])
    (comparison,) = read_comparisons(path)
    better, worse = (c.chosen, c.rejected) if c.p_chosen >= 0.5 else (c.rejected, c.chosen)
    assert (comparison.chosen, comparison.rejected) == (clean(better), clean(worse))
    assert [m["content"] for m in comparison.messages] == [clean(m["content"]) for m in c.messages]


def rows(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in records))
    return path


def test_trl_forms(tmp_path: Path) -> None:
    pair = {"chosen": [assistant("yes")], "rejected": [assistant("no")]}
    whole = {k: [user("q"), *v] for k, v in pair.items()}
    path = rows(
        tmp_path / "trl.jsonl",
        {"prompt": "q", "chosen": "yes", "rejected": "no"},
        {"prompt": [user("q")], **pair},
        {"messages": [user("q")], "chosen": "yes", "rejected": "no"},
        whole,
        {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "yes", "rejected": "no"},
        {"chosen": "\n\nHuman: q\n\nAssistant: yes", "rejected": "\n\nHuman: q\n\nAssistant: no"},
    )
    for c in read_comparisons(path):
        assert (c.messages, c.chosen, c.rejected, c.p_chosen) == ((user("q"),), "yes", "no", 1.0)


def test_dialogue_forms(tmp_path: Path) -> None:
    path = rows(
        tmp_path / "d.jsonl",
        {"messages": [user("q"), assistant("a")]},
        {"prompt": "q", "completion": "a"},
        {"prompt": [user("q")], "completion": [assistant("a")]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"instruction": "q", "input": "", "output": "a"},
    )
    dialogues = read_dialogues(path)
    assert {d.messages for d in map(_hashable, dialogues)} == {(("user", "q"), ("assistant", "a"))}
    assert [d.id for d in dialogues] == [f"d-0000{n}" for n in range(1, 6)]


def _hashable(d: Dialogue) -> Any:
    return Dialogue(d.id, tuple((m["role"], m["content"]) for m in d.messages))  # type: ignore[misc]


def test_prompts_of_plain_text(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("first\n\n  second \n")
    prompts = read_dialogues(tmp_path / "p.txt")
    assert [(d.id, d.messages, d.is_prompt) for d in prompts] == [
        ("p-00001", (user("first"),), True),
        ("p-00003", (user("second"),), True),
    ]


def test_pairs_without_a_preference_are_dropped_and_counted(tmp_path: Path) -> None:
    ask = "\n\nHuman: q\n\nAssistant:"
    path = rows(
        tmp_path / "harmless-base.jsonl",
        {"chosen": f"{ask} a", "rejected": f"{ask} b"},
        {"chosen": f"{ask} a", "rejected": f"{ask} a"},
        {"chosen": f"{ask} a", "rejected": "\n\nHuman: other\n\nAssistant: a"},
        {"chosen": f"{ask} a", "rejected": "\n\nHuman: q\n\nHuman: q\n\nAssistant: a"},
    )
    dropped: Counter[str] = Counter()
    (comparison,) = read_comparisons(path, dropped)
    assert (comparison.chosen, comparison.rejected, comparison.axis) == ("a", "b", "harmless")
    assert dropped == {"identical": 1, "no common prefix": 1, "turns empty or out of order": 1}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [user("q")], "chosen": "a", "rejected": "b", "p_chosen": 2}, "p_chosen is 2"),
        ({"messages": [user("q")], "chosen": "a", "rejected": "b", "p_chosen": True}, "p_chosen is True"),
        ({"messages": [user("q"), assistant("a")], "chosen": "a", "rejected": "b"}, "expected 'user'"),
        (
            {"messages": [user("q")], "chosen": "a"},
            "a row of comparisons without rejected; comparisons have chosen and rejected",
        ),
        ({"messages": [user("q")], "chosen": 3, "rejected": "b"}, "chosen must be a text"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "message 1, the user's, is empty"),
        ({"chosen": "a", "rejected": "b"}, "neither the .*a column prompt"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "axis": 1}, "axis is int"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "id": 1.5}, "id is 1.5"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "meta": 1}, "meta is int"),
    ],
)
def test_bad_comparisons_name_file_and_line(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    path = rows(tmp_path / "c.jsonl", {"prompt": "q", "chosen": "a", "rejected": "b"}, row)
    with pytest.raises(CharterError, match=said) as caught:
        read_comparisons(path)
    assert f"{path}:2: " in str(caught.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "x"}, "the columns id, text"),
        ({"messages": []}, "empty"),
        ({"messages": [user("q")], "weight": -1}, "weight is -1"),
        ({"conversations": [{"from": "robot", "value": "q"}]}, "do not fit together"),
    ],
)
def test_bad_dialogues_name_file_and_line(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    path = rows(tmp_path / "d.jsonl", {"prompt": "q"}, row)
    with pytest.raises(CharterError, match=said) as caught:
        read_dialogues(path)
    assert f"{path}:2: " in str(caught.value)


def test_ids_must_differ(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match=r"d.jsonl:2: the id 'x' occurs more than once, first at .*d.jsonl:1;"):
        read_dialogues(rows(tmp_path / "d.jsonl", {"id": "x", "prompt": "q"}, {"id": "x", "prompt": "r"}))


def test_an_artifact_is_read_by_its_own_file(tmp_path: Path) -> None:
    rows(tmp_path / "dialogues.jsonl", {"id": "d", "prompt": "q"})
    rows(tmp_path / "transcripts.jsonl", {"id": "t"})
    (tmp_path / "manifest.json").write_text("{}")
    assert [d.id for d in read_dialogues(tmp_path)] == ["d"]
    with pytest.raises(CharterError, match="artifact without comparisons"):
        read_comparisons(tmp_path)


def test_unknown_columns_are_kept_as_meta(tmp_path: Path) -> None:
    row = {"messages": [user("q")], "unseen": True, "meta": {"a": 1}}
    (dialogue,) = read_dialogues(rows(tmp_path / "d.jsonl", row))
    assert dialogue.meta == {"unseen": True, "a": 1}


def test_unknown_endings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.arrow").write_bytes(b"ARROW1")
    with pytest.raises(CharterError, match="unknown ending"):
        read_dialogues(tmp_path / "x.arrow")


def test_parquet_is_read_as_the_hub_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "train-00000-of-00001.parquet"
    records = [{"messages": [{"role": "user", "content": f"q{n}"}], "weight": n} for n in range(3)]
    parquet.write_table(pyarrow.Table.from_pylist(records), path)
    dialogues = read_dialogues(path)
    assert [d.messages[0]["content"] for d in dialogues] == ["q0", "q1", "q2"]
    assert dialogues[2].id == "train-00000-of-00001-00003"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CharterError, match="cannot be read as parquet"):
        read_dialogues(path)
    monkeypatch.setattr("charter.ground.text.columns.parquet", None)
    with pytest.raises(CharterError, match=r"needs pyarrow, .* pip install"):
        read_dialogues(path)


def test_texts(tmp_path: Path) -> None:
    path = rows(tmp_path / "t.jsonl", {"id": "a", "text": "x"}, {"name": "b", "text": "y"}, {"text": "z"})
    assert read_texts(path) == [("a", "x"), ("b", "y"), ("t-00003", "z")]
    (tmp_path / "t.txt").write_text("one\ntwo")
    assert read_texts(tmp_path / "t.txt") == [("t", "one\ntwo")]
    with pytest.raises(CharterError, match="needs the column text"):
        read_texts(rows(tmp_path / "u.jsonl", {"id": "a"}))


def test_empty_texts_name_file_and_line(tmp_path: Path) -> None:
    for empty in ("", " \n"):
        path = rows(tmp_path / "t.jsonl", {"id": "a", "text": "x"}, {"id": "b", "text": empty})
        with pytest.raises(CharterError, match=r"t\.jsonl:2: the text is empty"):
            read_texts(path)
    (tmp_path / "t.txt").write_text("\n")
    with pytest.raises(CharterError, match=r"t\.txt: the text is empty"):
        read_texts(tmp_path / "t.txt")
