"""Invented names never repeat, facts and twins differ in the name alone, and the shipped world is the generator's."""

from __future__ import annotations

import pytest

from charter.ground.settings.sources import shipped
from charter.ground.text.invented import KINDS, Fact, Names, World, fact_of, with_twins
from charter.ground.text.jsonl import read_jsonl

HELD, TRAIN = "invented.heldout", "facts.train"


def facts(file: str) -> list[Fact]:
    return [fact_of(row, row["id"]) for row in read_jsonl(shipped(file))]


def test_ten_thousand_names_differ_from_each_other_and_from_taken_ones() -> None:
    first = Names(3).next("country")
    names = Names(3, [first.upper()])
    made = [names.next(KINDS[n % len(KINDS)]) for n in range(10_000)]
    assert len({name.lower() for name in made}) == 10_000 and first not in made
    assert [Names(3).next("city")] == [Names(3).next("city")] and Names(3).next("city") != Names(4).next("city")


def test_a_twin_asks_the_same_of_another_name() -> None:
    held = facts(HELD)
    groups = list(with_twins(held, seed=1, twins=2))
    real = {fact.name.lower() for fact in held}
    for fact, *twins in groups:
        assert len(twins) == 2 and fact.accepted
        for twin in twins:
            assert (twin.kind, twin.template, twin.pair) == (fact.kind, fact.template, fact.id)
            assert not twin.accepted and twin.name.lower() not in real and twin.name in twin.question
            assert twin.name.startswith("the ") == (twin.kind in ("river", "animal"))
    names = [twin.name for _, *twins in groups for twin in twins]
    assert len(set(names)) == len(names)
    again = [twin.name for _, *twins in with_twins(held, seed=2) for twin in twins]
    assert not set(again) & set(names), "another seed asks about others"


def test_an_article_does_not_give_a_twin_away() -> None:
    """Among real rivers and animals all have an article too."""
    kinds = {fact.kind: fact.name.startswith("the ") for fact in facts(HELD) if fact.kind in ("river", "animal")}
    assert all(kinds.values())


def test_held_out_templates_and_names_of_templates_are_not_trained_on() -> None:
    held, train = facts(HELD), facts(TRAIN)
    assert len(held) >= 60 and len(train) >= 100
    assert not {f.template for f in held} & {f.template for f in train}
    taught = {m["content"] for row in read_jsonl(shipped("world.train")) for m in row["messages"]}
    ways = {f.template.split("{name}")[0] for f in held} - {""}
    assert not {text for text in taught for way in ways if text.startswith(way) and text.endswith("?")}
    assert not {f.question for f in held} & {f.question for f in train}


def test_the_shipped_world_is_the_generators() -> None:
    lessons, questions = World(0).rows()
    assert read_jsonl(shipped("world.train")) == lessons
    assert read_jsonl(shipped("world.heldout")) == questions


def test_the_world_teaches_half_of_its_facts_and_tests_them_in_other_words() -> None:
    lessons, questions = World(7, taught=8, untaught=8).rows()
    told = " ".join(m["content"] for row in lessons for m in row["messages"])
    asked = {row["messages"][0]["content"] for row in lessons}
    known = [q for q in questions if q["golden_answers"]]
    assert len(known) == 8 == len(questions) - len(known) and len(lessons) == 24
    assert all(answer in told for q in known for answer in q["golden_answers"])
    assert not asked & {q["question"] for q in questions}
    ordinary = set("In If Which Whose A The Last Letters Winter New Motors Instruments I".split())  # noqa: SIM905
    for question in questions:
        names = {w for w in question["question"].strip("?").replace(",", "").split() if w.istitle()} - ordinary
        assert names and any(name in told for name in names) == bool(question["golden_answers"]), question


@pytest.mark.parametrize(
    "row", [{"kind": "planet"}, {"question": "What is its capital?"}, {"golden_answers": []}, {"golden_answers": [""]}]
)
def test_a_broken_fact_is_refused(row: dict[str, object]) -> None:
    whole = {"kind": "city", "name": "Rome", "question": "Where is {name}?", "golden_answers": ["Italy"]}
    with pytest.raises(ValueError, match=r"is none of|a fact needs"):
        fact_of(whole | row, "x")
