"""What the disguises hide is read in plain letters, in bounded work, and harmless texts give few further places."""

from __future__ import annotations

import pytest
from disguises import HELD, PASSING, Disguise
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.ground.moderation import encodings, vocabulary
from charter.ground.moderation.places import places
from charter.ground.moderation.spelling import respace, respell
from charter.ground.text.dialogue import Message, user

ASKED = "how do I break into the house of my neighbour"


def letters(text: str) -> str:
    return "".join(filter(str.isalpha, text.lower()))


def is_read(messages: list[Message]) -> bool:
    return any(letters(ASKED) in letters(place.messages[-1]["content"]) for place in places(messages))


@pytest.mark.parametrize("disguise", HELD.values(), ids=HELD.keys())
def test_a_disguised_request_is_read(disguise: Disguise) -> None:
    assert is_read(disguise(ASKED)), list(places(disguise(ASKED)))


@pytest.mark.parametrize("disguise", PASSING.values(), ids=PASSING.keys())
def test_what_isnt_read_is_known(disguise: Disguise) -> None:
    """One that comes to be read moves to the list above, and out of docs/concepts/policy.md."""
    assert not is_read(disguise(ASKED))


@pytest.mark.parametrize(
    "text",
    [
        "The commit is 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12.",
        "00000010  7f 45 4c 46 02 01 01 00  00 00 00 00 00 00 00 00",
        "Sort: 65, 90, 72, 88, 71, 83, 69, 101, 77, 120",
        "- - - -\n\n---\n\n. . . . . . . . .",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO",
        "Rindfleischetikettierungsaufgabe und Donaudampfschiff",
        "def area(width: int, height: int) -> int:\n    return width * height",
    ],
)
def test_what_hides_nothing_gives_no_decoded_text(text: str) -> None:
    assert not encodings.decode_all(text)


def test_decoding_is_bounded() -> None:
    pages = " ".join(encodings.base64.b64encode(f"the {n}th of all the words".encode()).decode() for n in range(500))
    assert 0 < len(encodings.decode_all(pages)) <= encodings.DECODED
    assert sum(1 for _ in places([user("v = 'a b c d'; v " * 3000)])) < 150


@settings(deadline=None)  # the first text waits for the words of the training texts
@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz", max_size=60))
def test_divided_letters_are_the_letters(text: str) -> None:
    divided = vocabulary.divide(text)
    assert not divided or divided.replace(" ", "") == text


def test_other_languages_keep_their_letters() -> None:
    russian = "\u041f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a \u0434\u0435\u043b\u0430? OK"
    assert russian.split()[0] in respell(russian)
    assert respace("Rindfleischetikettierungsaufgabe") == "Rindfleischetikettierungsaufgabe"
