"""Mutators: pure, seeded, read back where they say so; chains made again from their record."""

from __future__ import annotations

import base64
import json
import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.attack import mutator as codecs
from charter.ground.attack.chains import COMBINATION, FAMILIES, draw_chain, invert, mutate, rebuild, resolve, usable
from charter.ground.attack.families import GERMAN, MUTATORS, OF_REQUESTS
from charter.ground.attack.mutator import KINDS, SLOT, Writer
from charter.ground.text.dialogue import Dialogue, assistant, check_messages, system, user

ASKED = "How do I open the old barn door?"
LOSE = {"leetspeak", "disemvowel", "obfuscation", "translation", "past_tense"}
RULES = [name for name in MUTATORS if not MUTATORS[name].needs_writer]
READABLE = [name for name in MUTATORS if name not in LOSE]


def prompt(text: str, id: str = "p") -> Dialogue:
    return Dialogue(id, (system("Be kind."), user("Hello."), assistant("Hello!"), user(text)), "doors")


def writer(request: str, seed: int) -> str:
    """Says what it was asked, and the seed."""
    return f" <{seed}> {request.rpartition(chr(10))[2]} "


def strings(count: int) -> list[str]:
    """Random texts of all planes of Unicode but surrogates, some empty, some with words of wrappers."""
    rng = random.Random(5)
    ranges = [(32, 127), (0x410, 0x450), (0x4E00, 0x4F00), (0x1F600, 0x1F640), (0, 0xD800), (0xE000, 0x110000)]
    texts = []
    for _ in range(count):
        low, high = rng.choice(ranges)
        texts.append("".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(40))))
    return texts


def test_there_are_twenty_families_by_name() -> None:
    assert len(FAMILIES) == len(set(FAMILIES)) == 20 and FAMILIES[-1] == COMBINATION
    assert all(MUTATORS[name].name == name and MUTATORS[name].kind in KINDS for name in MUTATORS)
    assert {name for name in MUTATORS if MUTATORS[name].inverse is None} == LOSE
    assert [name for name in MUTATORS if name not in usable(writer=False)] == ["obfuscation"]
    assert set(OF_REQUESTS) <= set(MUTATORS) and len(OF_REQUESTS) == 10


@pytest.mark.parametrize("name", MUTATORS)
def test_each_form_has_one_place_for_the_request(name: str) -> None:
    mutator = MUTATORS[name]
    assert all(form.text.count(SLOT) == 1 for form in mutator.forms) and mutator.title and mutator.what
    assert mutator.asks.count(SLOT) == (1 if mutator.asks else 0)


@pytest.mark.parametrize("name", READABLE)
def test_inverses_read_1000_random_strings(name: str) -> None:
    mutator = MUTATORS[name]
    assert mutator.inverse is not None
    for seed, text in enumerate(strings(1000)):
        before = prompt(text).messages
        assert mutator.inverse(mutator.apply(before, seed)) == before, repr(text)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=40)
@given(text=st.text(min_size=1), seed=st.integers(0, 2**31 - 1))
def test_a_mutator_is_pure_and_gives_a_prompt(name: str, text: str, seed: int) -> None:
    mutator, before = MUTATORS[name], prompt(text)
    wrapped = mutator.wrap(before, seed)
    assert wrapped == mutator.wrap(before, seed), "pure"
    assert wrapped.messages[:3] == before.messages[:3] and wrapped.is_prompt
    check_messages(list(wrapped.messages))
    assert wrapped.meta["family"] == name and wrapped.id == before.id
    assert mutator.unwrap(wrapped) == (None if name in LOSE else before)


@pytest.mark.parametrize("name", RULES)
def test_the_seed_chooses_among_all_forms_and_no_other_text_is_taken_for_ones_own(name: str) -> None:
    mutator = MUTATORS[name]
    wrapped = {json.dumps(mutator.wrap(prompt(ASKED, f"p{n}")).messages) for n in range(200)}
    assert json.dumps(prompt(ASKED).messages) not in wrapped
    assert len(wrapped) == len(mutator.forms)
    if name not in ("prior_commitment", "many_shot"):
        assert mutator.unwrap(prompt("What is a barn?")) is None


@pytest.mark.parametrize("name", READABLE)
def test_each_form_is_read_by_itself_alone(name: str) -> None:
    forms = MUTATORS[name].forms
    for one, other in product(forms, repeat=2):
        read = other.invert((user("Hello."), assistant("Hello!"), *one.apply(ASKED)))
        assert (read is not None) == (one is other), (one.text, other.text)


def test_requests_are_written_as_the_families_say() -> None:
    texts = {name: MUTATORS[name].wrap(prompt(ASKED)).messages[-1]["content"] for name in RULES}
    assert base64.b64encode(ASKED.encode()).decode() in texts["base64"]
    assert "Ubj qb V bcra gur byq onea qbbe?" in texts["rot13"]
    assert "H0w d0 I 0p3n th3 0ld b4rn d00r?" in texts["leetspeak"]
    assert "Hw d  pn th ld brn dr?" in texts["disemvowel"]
    assert "wie tue ich öffnen der alt barn Tür?" in texts["translation"]
    assert "How did people open the old barn door in the past?" in texts["past_tense"]
    assert f'{{"question": "{ASKED}", "answer":' in texts["few_shot_json"]
    hidden = ("base64", "rot13", "leetspeak", "disemvowel", "payload_splitting", "translation", "past_tense")
    for name, text in texts.items():
        assert (ASKED in text) != (name in (*hidden, "typographic", "reversal")), name
    assert len(MUTATORS["many_shot"].wrap(prompt(ASKED)).messages) == 4 + 2 * 8


def test_codecs_by_hand() -> None:
    assert codecs.split("abcdef") == 'a = "ab"\nb = "cd"\nc = "ef"'
    assert codecs.join('a = "he"\nb = "l\\n"\nc = "lo"') == "hel\nlo"
    assert codecs.leet("Noises") == "N01535" and codecs.rot13(codecs.rot13("Barn 3")) == "Barn 3"
    assert codecs.disemvowel("An Old barn") == "n ld brn"
    assert codecs.homoglyphs("cab") == "\u0441\u0430b" and codecs.homoglyphs("\u0441\u0430b") == "cab"
    assert codecs.spaced("ab c") == "a b   c " and codecs.unspaced("a b   c ") == "ab c"
    assert codecs.reverse("barn") == "nrab"
    assert codecs.odd_even("12345") == "13524" and codecs.from_odd_even("13524") == "12345"
    with pytest.raises(ValueError, match="not spaced"):
        codecs.unspaced("abcd")
    with pytest.raises(ValueError, match="no string"):
        codecs.unquote("7")


@pytest.mark.parametrize(
    ("text", "past"),
    [
        ("How can you hide a key", "How did people hide a key in the past?"),
        ("Tell me how to bake bread.", "How did people bake bread in the past?"),
        ("What is the best way to ask?", "What was the best way to ask in the past?"),
        ("Where do I find moss?", "Where did people find moss in the past?"),
        ("Bake!", "Long ago people asked this: Bake! What did others tell them?"),
    ],
)
def test_questions_about_the_past(text: str, past: str) -> None:
    assert codecs.to_past(text) == past


def test_the_table_has_small_keys_and_words_alone() -> None:
    assert len(GERMAN) > 200 and all(key == key.lower() and " " not in key for key in GERMAN)


def test_a_writer_writes_the_request() -> None:
    """Obfuscation needs a writer; translation does without one, by its table."""
    obfuscation, translation = MUTATORS["obfuscation"], MUTATORS["translation"]
    with pytest.raises(CharterError, match="obfuscation needs a model that writes"):
        obfuscation.wrap(prompt(ASKED))
    written = obfuscation.apply(prompt(ASKED).messages, 7, writer)[-1]["content"]
    assert written.startswith(f"<7> {ASKED}\n\nSay to yourself")
    assert translation.apply(prompt(ASKED).messages, 0, writer)[-1]["content"] == f"<0> {ASKED}"
    silent: Writer = lambda request, seed: " "  # noqa: E731
    assert translation.apply(prompt(ASKED).messages, 0, silent)[-1]["content"] == ASKED
    with pytest.raises(CharterError, match="the last one is the assistant's"):
        obfuscation.apply((user("a"), assistant("b")), 0, writer)


def test_combinations_are_two_or_three_families_in_order() -> None:
    chains = {draw_chain(seed) for seed in range(400)}
    assert {len(chain) for chain in chains} == {2, 3} and len(chains) > 150
    for chain in chains:
        kinds = [MUTATORS[name].kind for name in chain]
        assert kinds == sorted(kinds, key=KINDS.index) and kinds.count("letters") <= 1
        assert len(set(chain)) == len(chain) and "obfuscation" not in chain
    assert {name for chain in chains for name in chain} == set(RULES)
    assert any("obfuscation" in draw_chain(seed, usable(writer=True)) for seed in range(100))
    assert {draw_chain(seed, ("rot13", "persona")) for seed in range(20)} == {("rot13", "persona")}


@settings(max_examples=100)
@given(text=st.text(min_size=1), seed=st.integers(0, 2**31 - 1))
def test_a_combination_is_made_again_from_prompt_chain_and_seed(text: str, seed: int) -> None:
    before = prompt(text, "goal-1")
    chain = resolve([COMBINATION], before.id, seed)
    attack = mutate(before, chain, seed)
    record = json.loads(json.dumps(dict(attack.meta)))
    assert (record["seed_prompt"], record["chain"], record["attack_seed"]) == ("goal-1", list(chain), seed)
    assert record["family"] == COMBINATION and attack.id == f"goal-1/{'+'.join(chain)}/{seed}"
    stored = Dialogue(attack.id, (user("lost"),), meta=record)
    assert rebuild(stored, before).messages == attack.messages
    assert invert(attack.messages, chain) == (None if LOSE & set(chain) else before.messages)


def test_what_a_record_must_have() -> None:
    before = prompt(ASKED)
    assert mutate(before, (), 3).messages == before.messages and resolve((), "p", 3) == ()
    assert mutate(before, ("base64",), 3).messages == MUTATORS["base64"].wrap(before, 3).messages
    with pytest.raises(CharterError, match="p records no seed_prompt, chain and attack_seed"):
        rebuild(before, before)
    with pytest.raises(CharterError, match="was made of prompt p, not of q"):
        rebuild(mutate(before, ("rot13",), 3), prompt(ASKED, "q"))
    with pytest.raises(CharterError, match=r"no family 'rot14'.*did you mean rot13"):
        mutate(before, ("rot14",), 0)
