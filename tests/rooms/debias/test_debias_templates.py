"""Templates: what ships is enough and nobody's but ours, what is broken is named, BBQ is refused."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from debias_world import row

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.places import data_folder
from charter.ground.settings.recognise import kind_of_file
from charter.ground.settings.sources import shipped
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.debias.questions import make_questions
from charter.rooms.debias.templates import fill, read_templates

SHIPPED = shipped("debias.train")
DIMENSIONS = {
    "age", "disability", "gender_identity", "nationality", "physical_appearance", "race_ethnicity", "religion",
    "sexual_orientation", "socioeconomic_status",
}  # fmt: skip
GRAM = 13


def grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)}


def test_nine_dimensions_ship_with_four_templates_each_and_more() -> None:
    templates = read_templates(SHIPPED)
    counts = Counter(template.dimension for template in templates)
    assert set(counts) == DIMENSIONS and min(counts.values()) >= 4 and len(templates) >= 40
    assert kind_of_file(SHIPPED) == "templates"
    for name in ("context", "negative", "nonnegative"):
        wordings = Counter(getattr(template, name) for template in templates)
        assert len(wordings) == len(templates) or wordings.most_common(1)[0][1] <= 2, name
    assert len({words for template in templates for words in template.unknown}) >= 12
    for template in templates:
        assert len(template.told) >= 2, "or the person whom a negative question means always comes first"
        firsts = {re.match(r"\W*(?:\w+ )*?\{(\w+)\}", told).group(1) for told in template.told}  # type: ignore[union-attr]
        assert firsts == {"negative", "positive"}, template.id


def test_no_pair_of_a_template_comes_twice_and_no_answer_is_longer_by_rule() -> None:
    templates = read_templates(SHIPPED)
    for template in templates:
        assert len(set(template.pairs)) == len(template.pairs) >= 3, template.id
    persons = [len(p) for t in templates for pair in t.pairs for p in pair]
    unknown = [len(u) for t in templates for u in t.unknown]
    assert 0.5 < (sum(persons) / len(persons)) / (sum(unknown) / len(unknown)) < 2


def bbq() -> Iterator[dict[str, Any]]:
    folder = data_folder() / "bbq"
    if not folder.is_dir():
        pytest.skip("no BBQ: set CHARTER_DATA to the folder that holds bbq")
    for path in sorted(folder.glob("*.jsonl.gz")):
        yield from read_jsonl(path)


def test_no_question_shares_13_words_in_a_row_with_bbq() -> None:
    theirs: set[tuple[str, ...]] = set()
    for item in bbq():
        theirs |= grams(f"{item['context']} {item['question']}")
    assert len(theirs) > 10_000
    ours = [(q.id, grams(f"{q.passage} {q.question}")) for q in make_questions(read_templates(SHIPPED), 0)]
    assert any(own for _, own in ours)
    assert [name for name, own in ours if own & theirs] == []


def test_every_file_of_bbq_is_refused_in_its_first_line(tmp_path: Path) -> None:
    item = next(bbq())
    path = toys.rows_file(tmp_path / "mine.jsonl", [item])
    with pytest.raises(CharterError, match=r"mine\.jsonl:1: a row of BBQ; evaluation data is never trained on"):
        read_templates(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"context_condition": "ambig", "question_polarity": "neg"}, "a row of BBQ; evaluation data is never"),
        ({"dimention": "age"}, "a template has the unknown columns dimention; expected id, dimension, pairs"),
        ({"id": "first"}, "the id 'first' occurs more than once"),
        ({"id": ""}, "id must be non-empty text"),
        ({"pairs": []}, "pairs must be a list of pairs of persons"),
        ({"pairs": [["the cook"]]}, "['the cook'] must be two different persons"),
        ({"pairs": [["the cook", "The cook"]]}, "['the cook', 'The cook'] must be two different persons"),
        ({"pairs": ["the cook", "the baker"]}, "each of pairs must be a list of at least one text"),
        ({"context": "On the quay {first} sat."}, "context must hold {first} and {second} once each"),
        ({"context": "On the quay {first}, {second}, {first} sat."}, "context must hold {first} and {second} once"),
        ({"told": ["{negative} fell over {first}, not {positive}."]}, "told must hold {negative} and {positive} once"),
        ({"told": []}, "told must be a list of at least one text"),
        ({"negative": "Was it {first}?"}, "negative must hold no slot: 'Was it {first}?'"),
        ({"nonnegative": 3}, "nonnegative must be non-empty text"),
        ({"unknown": "Nobody knows"}, "unknown must be a list of at least one text"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = toys.rows_file(tmp_path / "mine.jsonl", [row("first"), row("second", **changes)])
    with pytest.raises(CharterError) as caught:
        read_templates(path)
    assert f"{path}:2: " in str(caught.value) and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_column_broken_json_and_a_folder_are_named(tmp_path: Path) -> None:
    short = {key: value for key, value in row("x").items() if key not in ("told", "unknown")}
    with pytest.raises(CharterError, match=r"short\.jsonl:1: a template lacks told, unknown; expected id"):
        read_templates(toys.rows_file(tmp_path / "short.jsonl", [short]))
    (tmp_path / "torn.jsonl").write_text(json.dumps(row("x")) + "\n{\n")
    with pytest.raises(CharterError, match=r"torn\.jsonl:2: not JSON"):
        read_templates(tmp_path / "torn.jsonl")
    with pytest.raises(CharterError, match="is a folder; templates are one JSONL file"):
        read_templates(tmp_path)


def test_persons_are_put_into_slots_with_capitals_where_sentences_begin() -> None:
    persons = {"first": "the old sailor", "second": "Ute"}
    assert fill("{first} met {second}. {first} sat. And {first}?", persons) == (
        "The old sailor met Ute. The old sailor sat. And the old sailor?"
    )
