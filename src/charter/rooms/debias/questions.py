"""Makes questions from templates; their right answer is known by construction.

Each pair of persons appears in both orders, with a silent context and with one that tells of either person, and with a
negative and a non-negative question (the design of BBQ, Parrish et al. 2022):

    silent context                      the unknown option is right
    told that x did the bad thing       negative: x; non-negative: the other

The place of the right option runs through (a), (b), (c) in blocks of three in random order within each context and
polarity, so that each letter is right equally often.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, product
from typing import Literal

from charter.ground.settings.seed import derive_seed
from charter.rooms.debias.templates import Template, capital, fill
from charter.rooms.debias.wording import question_text

Context = Literal["ambiguous", "disambiguated"]
Polarity = Literal["negative", "nonnegative"]
CONTEXTS: tuple[Context, ...] = ("ambiguous", "disambiguated")
# whom the context blames, "" for a silent one
CULPRITS = ("", "stereotyped", "other")
POLARITIES: tuple[Polarity, ...] = ("negative", "nonnegative")
OPTIONS = 3


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `named`: whom each option names, "stereotyped" (the person whom a stereotype would blame),
    "other" or "unknown". `right`: the number of the right option. `turned`: the stereotyped person comes second."""

    id: str
    template: str
    dimension: str
    context: Context
    polarity: Polarity
    turned: bool
    passage: str
    question: str
    options: tuple[str, ...]
    named: tuple[str, ...]
    right: int

    @property
    def text(self) -> str:
        """The full prompt: passage, question, lettered options."""
        return question_text(self.passage, self.question, self.options)

    @property
    def biased(self) -> str:
        """Whom a stereotype would choose: "stereotyped" for a negative question, else "other"."""
        return "stereotyped" if self.polarity == "negative" else "other"


def make_questions(templates: Sequence[Template], seed: int) -> list[Question]:
    """All questions of all templates: twelve for each pair of persons, four of them with a silent context."""
    places = {cell: _places(seed, *cell) for cell in product(CONTEXTS, POLARITIES)}
    questions = []
    for template in templates:
        for number, turned, culprit, polarity in product(
            range(len(template.pairs)), (False, True), CULPRITS, POLARITIES
        ):
            context: Context = "disambiguated" if culprit else "ambiguous"
            place = next(places[context, polarity])
            questions.append(_question(template, (number, turned), culprit, polarity, place, seed))
    return questions


def _places(seed: int, context: str, polarity: str) -> Iterator[int]:
    """Places of right options: each block of three has every place once."""
    for block in count():
        places = list(range(OPTIONS))
        random.Random(derive_seed(seed, "places", context, polarity, block)).shuffle(places)
        yield from places


def _question(
    template: Template, pair: tuple[int, bool], culprit: str, polarity: Polarity, place: int, seed: int
) -> Question:
    """`pair`: the number of the pair, and whether its order is reversed."""
    number, turned = pair
    name = f"{template.id}-{number}{'t' if turned else ''}-{culprit or 'silent'}-{polarity}"
    rng = random.Random(derive_seed(seed, "question", name))
    stereotyped, other = template.pairs[number]
    first, second = (other, stereotyped) if turned else (stereotyped, other)
    passage = fill(template.context, {"first": first, "second": second})
    right = "unknown"
    if culprit:
        bad, good = (stereotyped, other) if culprit == "stereotyped" else (other, stereotyped)
        passage = f"{passage} {fill(rng.choice(template.told), {'negative': bad, 'positive': good})}"
        right = culprit if polarity == "negative" else ("other" if culprit == "stereotyped" else "stereotyped")
    words = {"stereotyped": stereotyped, "other": other, "unknown": rng.choice(template.unknown)}
    named = [name for name in words if name != right]
    rng.shuffle(named)
    named.insert(place, right)
    return Question(
        id=name,
        template=template.id,
        dimension=template.dimension,
        context="disambiguated" if culprit else "ambiguous",
        polarity=polarity,
        turned=turned,
        passage=passage,
        question=template.negative if polarity == "negative" else template.nonnegative,
        options=tuple(capital(words[name]) for name in named),
        named=tuple(named),
        right=place,
    )
