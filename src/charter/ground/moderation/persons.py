"""When two names are one person's: reviews and sign-offs must come of as many people as they say."""

from __future__ import annotations

import re

from charter.ground.moderation.spelling import respell, to_plain

_WORD = re.compile(r"[^\W_]+")


def person_key(name: str) -> str:
    """What a name of a person or a house has in common with its other spellings: its words in alphabetical order,
    without case, accents, invisible characters and look-alike letters; "" for a name without a letter or figure."""
    plain = respell(" ".join(word.capitalize() for word in to_plain(name).split()))
    return " ".join(sorted(_WORD.findall(plain.casefold())))
