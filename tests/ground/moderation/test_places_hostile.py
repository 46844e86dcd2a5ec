"""The screen reads hostile texts of full length in time that grows with their length: no expression looks back over all
of a text at each of its letters."""

from __future__ import annotations

import pytest

from charter.ground.moderation.classifiers.words import Words
from charter.ground.moderation.encodings import decodings
from charter.ground.moderation.places import places
from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.screen import unscreened
from charter.ground.text.dialogue import user

# of one text; with a quadratic expression each of the first two took minutes
LENGTH = 30_000
PIECES = (
    (
        "\\",
        "a. ",
        "a b ",
        "1, ",
        "0x41 ",
        "%41",
        "=41",
        "&#1;",
        "&amp;",
        "<!--",
        "</a",
        "*",
        "`",
        "'a",
        '"a"',
        '"',
        "a=",
    ),
    (
        "let a = b\n",
        "a is b ",
        "a|b\n",
        "|",
        "[",
        "1. \n",
        "- ",
        ". - ",
        "-_",
        "alfa bravo ",
        "AbC",
        "AAAA",
        "aaaa7777",
    ),
    ("A.A", "b o m b ", "a\n", "\n", "\t", "e\u0301", "\u0301", "\u202e", "\u200b", "\U000e0041", "\ufe00", "\u0430"),
    ("\u2801", "how what ", "qzx fjk ", "ombbay ", "\u0131\u0259\u0250 ", "!~", "\u4e2d", "\U0001f468\u200d"),
)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("pieces", PIECES)
def test_no_text_holds_the_screen(pieces: tuple[str, ...]) -> None:
    for piece in pieces:
        text = (piece * LENGTH)[: LENGTH - 1] + "g"
        assert len(list(places([user(text)]))) <= 1000, piece
        unscreened([user(text)])
        list(decodings(text))
    mixed = "".join((piece * LENGTH)[: LENGTH // len(pieces)] for piece in pieces)
    assert Words(shipped_policy()).prompts([[user(mixed)]])


def test_numbers_at_the_end_of_a_sentence_are_letters_too() -> None:
    codes = ". ".join(str(ord(letter)) for letter in "please read this letter aloud")
    assert "please read this letter aloud" in list(decodings(f"Read: {codes}."))
    assert "please read this letter aloud" in list(decodings(f"Read: {codes}"))
