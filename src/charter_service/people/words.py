"""The words by which messages are sought. Each word in the index begins with its person's number, so that a search
reads nothing of other people, however much they wrote."""

from __future__ import annotations

import re
import unicodedata

WORD = re.compile(r"[^\W_]+")
LONGEST_WORD = 64  # letters; of a longer word the beginning is kept
PERSON_DIGITS = 8
MOST_BYTES = 900_000  # of a message's words: PostgreSQL keeps no more than 1 MiB of them


def plain_word(word: str) -> str:
    """A word that WORD found, in small letters without accents."""
    if word.isascii():  # nearly all words; the rest takes ten times as long
        return word[:LONGEST_WORD].lower()
    letters = unicodedata.normalize("NFKD", word[:LONGEST_WORD]).lower()
    return "".join(letter for letter in letters if letter.isalnum())[:LONGEST_WORD]


def key_of(person: int, word: str) -> str:
    """A plain word as the index of a person holds it: behind PERSON_DIGITS hexadecimal digits."""
    return f"{person:0{PERSON_DIGITS}x}{word}"


def keys_of(person: int, text: str) -> list[str]:
    """The different words of a text as the index of a person holds them, the first ones up to MOST_BYTES."""
    words = dict.fromkeys(plain_word(word) for word in dict.fromkeys(WORD.findall(text)))
    keys = [key_of(person, word) for word in words if word]
    size = 0
    for number, key in enumerate(keys):
        size += len(key.encode()) + 1
        if size > MOST_BYTES:
            return keys[:number]
    return keys
