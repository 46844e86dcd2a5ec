"""Invented names, drawn with a task's generator: people, companies, places, words and sites in .example
and .test."""

from __future__ import annotations

from random import Random

FIRST = (
    "Mara Ivo Tessa Odo Lene Bram Suri Kofi Alba Timo Nela Juri Esra Pavo Runa Milo Zita Hugo Vera Anik "
    "Dario Lumi Oren Petra"
)
LAST = (
    "Lindqual Vesper Okoro Tannic Brevik Solano Hartwen Quill Marrow Ibsant Fenwild Calder Orsini Pell "
    "Dovrek "
    "Nakasu Wexley Thorn Abernal Ruiz"
)
START = ("Tes", "Bran", "Or", "Vel", "Kar", "Lum", "Nor", "Quin", "Sel", "Dra", "Fen", "Hal", "Mor", "Pir")
MIDDLE = ("a", "o", "i", "e", "u")
END = ("dell", "wick", "mere", "stad", "vane", "thorpe", "lund", "nia", "rix", "born", "field", "tor")


def generator(task: str, seed: int) -> Random:
    """The generator of a task's world."""
    return Random(f"{task}:{seed}")


def people(draw: Random, count: int) -> list[str]:
    """Full names, no two with a first or a last name in common."""
    firsts, lasts = draw.sample(FIRST.split(), count), draw.sample(LAST.split(), count)
    return [f"{first} {last}" for first, last in zip(firsts, lasts, strict=True)]


def places(draw: Random, count: int) -> list[str]:
    """Invented proper names of towns, companies and things, all different."""
    names: dict[str, None] = {}
    while len(names) < count:
        names[draw.choice(START) + draw.choice(MIDDLE) + draw.choice(END)] = None
    return list(names)


def site(name: str, draw: Random) -> str:
    return f"{name.lower()}.{draw.choice(('example', 'test'))}"


def code(draw: Random, length: int = 8) -> str:
    """A word of letters and figures that nobody guesses; it begins with a letter."""
    letters = "abcdefghkmnpqrstuvwxyz"
    return draw.choice(letters) + "".join(draw.choice(f"{letters}23456789") for _ in range(length - 1))


def numbers(draw: Random, count: int, least: int, most: int) -> list[int]:
    return draw.sample(range(least, most), count)
