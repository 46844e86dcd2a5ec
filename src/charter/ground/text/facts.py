"""Facts that mean nothing and so can't be known beforehand: a password of a place, stated once and asked for later.

The recall grid asks for some (`HELD_PLACES`, `HELD_WORDS`); where a long-context stage teaches looking things up it
takes places and words from its corpus, never these.
"""

HELD_PLACES = (
    "harbour",
    "mill",
    "orchard",
    "quarry",
    "chapel",
    "ferry",
    "bakery",
    "lighthouse",
    "granary",
    "tannery",
)
HELD_WORDS = (
    "falcon",
    "copper",
    "walnut",
    "meadow",
    "anchor",
    "velvet",
    "thistle",
    "marble",
    "cinder",
    "juniper",
)


def statement(place: str, word: str) -> str:
    """The fact."""
    return f"The password of the {place} is {word}."


def question(place: str) -> str:
    """What asks for it."""
    return f"What is the password of the {place}?"
