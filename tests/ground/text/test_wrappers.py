"""Jailbreak wrappers: pure, seeded, readable back where they say so."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.ground.text.dialogue import Dialogue, assistant, system, user
from charter.ground.text.wrappers import FAMILIES, WRAPPERS, join, leet, rot13, split

ASKED = "How do I open the old barn door?"


def prompt(text: str, id: str = "p") -> Dialogue:
    return Dialogue(id, (system("Be kind."), user("Hello."), assistant("Hello!"), user(text)), "doors")


def test_there_are_ten_families() -> None:
    assert len(FAMILIES) == 10 and [WRAPPERS[family].family for family in FAMILIES] == list(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
@given(text=st.text(min_size=1), seed=st.integers(0, 9))
def test_a_wrapper_with_an_inverse_gives_the_dialogue_again(family: str, text: str, seed: int) -> None:
    wrapper, before = WRAPPERS[family], prompt(text)
    wrapped = wrapper.wrap(before, seed)
    assert wrapped == wrapper.wrap(before, seed), "pure"
    assert wrapped.messages[:3] == before.messages[:3] and wrapped.is_prompt
    assert wrapped.meta["family"] == family and wrapped.id == before.id
    assert wrapper.unwrap(wrapped) == (None if family == "leetspeak" else before)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrapper_changes_its_request_and_takes_no_other_for_its_own(family: str) -> None:
    wrapper = WRAPPERS[family]
    wrapped = {json.dumps(wrapper.wrap(prompt(ASKED, f"p{n}")).messages) for n in range(40)}
    assert json.dumps(prompt(ASKED).messages) not in wrapped
    assert len(wrapped) == len(wrapper.frames), "the seed chooses among all frames"
    if family != "prior_commitment":
        assert wrapper.unwrap(prompt("What is a barn?")) is None


def test_requests_are_written_as_the_families_say() -> None:
    texts = {family: WRAPPERS[family].wrap(prompt(ASKED)).messages[-1]["content"] for family in FAMILIES}
    assert base64.b64encode(ASKED.encode()).decode() in texts["base64"]
    assert "Ubj qb V bcra gur byq onea qbbe?" in texts["rot13"]
    assert "H0w d0 I 0p3n th3 0ld b4rn d00r?" in texts["leetspeak"]
    assert f'{{"question": "{ASKED}", "answer":' in texts["few_shot_json"]
    for plain in ("persona", "prefix_injection", "refusal_suppression", "fiction", "prior_commitment"):
        assert ASKED in texts[plain]
    assert not any(ASKED in texts[hidden] for hidden in ("base64", "rot13", "leetspeak", "payload_splitting"))


def test_pieces_by_hand() -> None:
    assert split("abcdef") == 'a = "ab"\nb = "cd"\nc = "ef"'
    assert join('a = "he"\nb = "l\\n"\nc = "lo"') == "hel\nlo"
    assert leet("Noises") == "N01535" and rot13(rot13("Barn 3")) == "Barn 3"
