"""Lessons of principles: traits by hand, pairs both ways, wordings, a stopped run resumed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import toys
from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.constitution.wording import under_principle
from charter.ground.judge.traits import TRAITS
from charter.ground.settings.sources import shipped
from charter.ground.text.records import read_comparisons
from charter.rooms.principles import run as room
from charter.rooms.principles.pairs import POLES, asked_both_ways, measured, read_wordings
from charter.rooms.principles.settings import Settings, check
from charter.rooms.principles.verify import problems
from toys import Scripted, dialogue

# Of each kind a prompt, a reply that has more of its trait, and one that has less.
BY_HAND: dict[str, tuple[str, str, str]] = {
    "length": ("Hi?", "Yes.", "Yes, and there is much more that one could say of it."),
    "steps": ("How?", "1. Boil water.\n2. Add rice.", "Boil water with rice."),
    "bullets": ("What?", "- milk\n- bread", "Milk and bread."),
    "asks_back": ("Where?", "It depends. Where are you?", "It is in Rome."),
    "example": ("What?", "Fruit, for example an apple.", "Fruit."),
    "names_risk": ("May I?", "You could, but it is dangerous.", "You could."),
    "alternative": ("May I?", "Try walking instead.", "Try walking."),
    "first_person": ("Who?", "I think I know my friend.", "That is a friend."),
    "second_person": ("Who?", "You know your own friend.", "That is a friend."),
    "contractions": ("Is it?", "It isn't.", "It is not."),
    "exclamation": ("Is it?", "It is!", "It is."),
    "apology": ("Why?", "I am sorry, it broke.", "It broke."),
    "hedging": ("Why?", "Perhaps it may be rain.", "It is rain."),
    "refuses": ("Steal?", "I can't help with that.", "Take it at night."),
    "reason": ("Why?", "Eat, because food gives strength.", "Eat."),
    "professional": ("Ill?", "See a doctor.", "Sleep."),
    "offers_more": ("Ill?", "Sleep. Let me know if you need more.", "Sleep."),
    "greeting": ("Ill?", "Hello! Sleep.", "Sleep."),
    "numbers": ("Ill?", "Sleep 9 hours.", "Sleep long."),
    "likeness": ("Sun?", "It is like a lamp.", "It is hot."),
    "praises": ("Sun?", "Great question: it is hot.", "It is hot."),
    "summary": ("Sun?", "It is hot. In short, a fire.", "It is hot."),
    "sentence_length": ("Sun?", "It is hot. It is big.", "It is hot and big and far away and older than all of us."),
    "plain_words": ("Sun?", "It is hot gas.", "Incandescent hydrogen plasma."),
    "paragraphs": ("Sun?", "It is hot.\n\nIt is far.", "It is hot. It is far."),
    "promises": ("Sun?", "It will definitely shine.", "It may shine."),
    "polite": ("Sun?", "Please look away. Thank you.", "Look away."),
    "echo": ("How hot is the sun?", "The sun is very hot.", "Millions of degrees."),
    "quotes": ("Sun?", 'Greeks said "Helios".', "Greeks said Helios."),
    "says_ai": ("Who?", "I am an AI.", "I am Ann."),
    "feelings": ("Why?", "I understand how sad you are.", "It broke."),
    "both_sides": ("Good?", "It is cheap. However, it breaks.", "It is cheap."),
    "defines": ("Sun?", "A star is a kind of sun.", "Look up."),
    "headings": ("Sun?", "**Heat**\nIt is hot.", "It is hot."),
    "conditional": ("Rain?", "If it rains, stay.", "Stay."),
    "names_next_step": ("Rain?", "Call them.", "They know."),
}


@pytest.mark.parametrize("kind", TRAITS)
def test_a_trait_is_what_its_name_says(kind: str) -> None:
    prompt, more, less = BY_HAND[kind]
    trait = TRAITS[kind]
    assert trait.measure(prompt, more) - trait.measure(prompt, less) >= trait.apart


def test_shipped_wordings_name_each_trait_both_ways_and_are_all_distinct() -> None:
    wordings = read_wordings(shipped("principle_wordings.train"))
    assert wordings.keys() == {(kind, pole) for kind in TRAITS for pole in POLES}
    texts = [text for group in wordings.values() for text in group]
    assert len({text.lower() for text in texts}) == len(texts) >= 150


def replies_of(*texts: str, prompt: str = "How?") -> dict[str, list[dict[str, Any]]]:
    messages = [{"role": "user", "content": prompt}]
    return {prompt: [{"prompt": prompt, "messages": messages, "reply": text} for text in texts]}


def test_two_replies_that_differ_in_a_trait_are_asked_both_ways() -> None:
    replies = replies_of("Take a bus there.", "Take a bus there!", "Take the bus, now!", "Yes")
    pairs = measured(replies, "exclamation", Settings(), 0)
    assert {(pair.more, pair.less) for pair in pairs} == {
        ("Take a bus there!", "Take a bus there."),
        ("Take the bus, now!", "Take a bus there."),
    }, "the reply of one word is left out"
    assert len(measured(replies, "exclamation", Settings(per_prompt=1), 0)) == 1
    assert measured(replies, "steps", Settings(), 0) == []
    wordings = {("exclamation", "for"): ["Lively?"], ("exclamation", "against"): ["Calm?"]}
    first, second = list(asked_both_ways(pairs[:1], "exclamation", wordings, 0))
    assert first["chosen"] == second["rejected"] == pairs[0].more
    assert first["messages"] == under_principle([{"role": "user", "content": "How?"}], "Lively?")
    assert "Calm?" in second["messages"][0]["content"]


def test_the_longer_reply_is_on_both_sides_where_there_are_enough() -> None:
    replies: dict[str, list[dict[str, Any]]] = {}
    for n in range(12):
        long, short = f"Go there now by bus {n}", f"Go now {n}"
        more, less = (f"{long}!", f"{short}.") if n < 9 else (f"{short}!", f"{long}.")
        replies |= replies_of(more, less, prompt=f"How {n}?")
    pairs = measured(replies, "exclamation", Settings(per_kind=6), 0)
    assert sum(len(pair.more) > len(pair.less) for pair in pairs) == 3


@pytest.fixture
def inputs(tmp_path: Path, checkpoints: Path) -> Inputs:
    prompts = toys.rows_file(tmp_path / "prompts.jsonl", [dialogue(f"p{n}", f"How do I do {n}?") for n in range(5)])
    return Inputs(
        [
            toys.policy(checkpoints / "policy"),
            toys.given("prompts", prompts),
            toys.given("wordings", shipped("principle_wordings.train"), "questions"),
        ]
    )


def sampler() -> Scripted:
    return Scripted(lambda messages, k: f"Take the bus{'!' if messages[0]['role'] == 'system' else '.'} It is near.")


def test_the_room_writes_comparisons_that_others_read(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "open_assistant", lambda source, device, precision: sampler())
    out = toys.workspace(tmp_path / "whole")
    room.run(Settings(chunk=2), inputs, out)
    comparisons = read_comparisons(out.path)
    kinds = {c.topic for c in comparisons}
    assert {"exclamation"} <= kinds <= set(TRAITS)
    assert all(c.messages[0]["role"] == "system" and c.messages[-1]["role"] == "user" for c in comparisons)
    counts = read_object(out.path / "counts.json")
    assert counts["comparisons"] == len(comparisons) == 2 * counts["pairs_exclamation"] > 1
    assert counts["replies"] == len(read_objects(out.path / "samples/replies.jsonl")) == 20
    manifest: Any = SimpleNamespace(resolved={}, metrics=[])
    assert list(problems(out.path, manifest)) == []
    rows = read_objects(out.path / "comparisons.jsonl")
    rows[0] |= {"chosen": rows[0]["rejected"], "rejected": rows[0]["chosen"]}
    toys.rows_file(out.path / "comparisons.jsonl", rows[:-1])
    said = list(problems(out.path, manifest))
    assert any("wrong order for exclamation" in line for line in said) and any(
        "comparisons is" in line for line in said
    )


@pytest.mark.parametrize("stop", [1, 2])
def test_a_stopped_run_ends_as_an_uninterrupted_one(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    monkeypatch.setattr(room, "open_assistant", lambda source, device, precision: sampler())
    room.run(Settings(chunk=2), inputs, toys.workspace(tmp_path / "whole"))
    with pytest.raises(toys.Interrupted):
        room.run(Settings(chunk=2), inputs, toys.workspace(tmp_path / "cut", progress=toys.StoppingProgress(stop)))
    room.run(Settings(chunk=2), inputs, toys.workspace(tmp_path / "cut"))
    whole, cut = (toys.files_of(tmp_path / name) for name in ("whole", "cut"))
    assert whole == cut and whole


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"kind": "colour", "pole": "for", "principle": "Red?"}, "expected kind"),
        ({"kind": "length", "pole": "up", "principle": "Red?"}, "expected kind"),
        ({"kind": "length", "pole": "for", "principle": "Brief?"}, "no principle of length"),
    ],
)
def test_wordings_are_refused_in_a_line(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    with pytest.raises(CharterError, match=why):
        read_wordings(toys.rows_file(tmp_path / "words.jsonl", [row]))


def test_one_reply_a_prompt_makes_no_pair() -> None:
    assert "plain + guided" in check(Settings(plain=1, guided=0), {"policy", "prompts"})
    assert check(Settings(), {"policy", "prompts"}) == ""
