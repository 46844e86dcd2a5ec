"""Arbitrary facts that no model can know: the password of a place, stated once and asked for later.

The recall grid asks for these (`HELD_PLACES`, `HELD_WORDS`). A long-context stage that teaches lookup takes places and
words from its corpus, never these.
"""

HELD_PLACES = ("harbour", "mill", "orchard", "quarry", "chapel", "ferry", "bakery", "lighthouse", "granary", "tannery")
HELD_WORDS = ("falcon", "copper", "walnut", "meadow", "anchor", "velvet", "thistle", "marble", "cinder", "juniper")


def statement(place: str, word: str) -> str:
    """The sentence that states the fact."""
    return f"The password of the {place} is {word}."


def question(place: str) -> str:
    """The question that asks for the fact."""
    return f"What is the password of the {place}?"
