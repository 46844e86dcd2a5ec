"""Things that nobody can know: invented names by a seeded generator, twins of real facts, and an invented world.

A fact has a kind of thing, its name, a question with the place {name}, and accepted answers. Its twin asks the same of
an invented name of that kind, so that to decline is the only right answer. The world's facts are true only because
training teaches them: whether a model can know one is known by construction.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.text.dialogue import assistant, user

NAME = "{name}"
_BEGINNINGS, _MIDDLES, _VOWELS = (
    tuple(sounds.split())
    for sounds in (
        "b br ch d dr f fr g gl h j k kl l m n p pl qu r s sk sl st t th tr v w y z",
        "b d dr f g k l ll lm m n nd nt p r rn rv s sk st t th v x z",
        "a a e e i i o o u ae ei ia ou",
    )
)
_ENDS = ("", "", "", "l", "n", "n", "r", "s", "sh", "th", "x", "nd", "rk")
# Words around an invented one, by kind; {} is its place.
_FORMS: Mapping[str, tuple[str, ...]] = {
    "country": ("{}", "{}land"),
    "city": ("{}", "{}burg", "New {}"),
    "river": ("the {}",),
    "mountain": ("Mount {}", "{}"),
    "person": ("{} {}", "{} de {}", "{} van {}"),
    "book": ("The {} of {}", "The Last {}", "A Winter in {}", "Letters to {}"),
    "film": ("The {} Affair", "Goodbye, {}", "{} by Night"),
    "animal": ("the {} lizard", "the {} owl", "the {} antelope", "the {} frog"),
    "company": ("{} Instruments", "{} Motors", "{} & {}"),
    "language": ("{}ish", "{}ic", "{}"),
    "element": ("{}ium", "{}tine"),
    "battle": ("{}", "{} Fields"),
    "play": ("The {} Brothers", "{} in Spring", "Three Days at {}"),
    "song": ("Oh, {}", "The Road to {}", "{} Moon"),
    "game": ("{}ball", "{}", "{} chess"),
}
KINDS = tuple(_FORMS)


class Names:
    """Invented names; each differs from all earlier ones and from the `taken` ones, without regard to case."""

    def __init__(self, seed: int, names: Sequence[str] = ()) -> None:
        self._rng = random.Random(seed)
        self._taken = {name.lower() for name in names}

    def next(self, kind: str) -> str:
        """A new name of a kind. Raises KeyError for an unknown kind."""
        while True:
            form = self._rng.choice(_FORMS[kind])
            name = form.format(*(self._word() for _ in range(form.count("{}"))))
            if name.lower() not in self._taken:
                self._taken.add(name.lower())
                return name

    def _word(self) -> str:
        pick = self._rng.choice
        middle = "".join(pick(_MIDDLES) + pick(_VOWELS) for _ in range(pick((1, 2))))
        return (pick(_BEGINNINGS) + pick(_VOWELS) + middle + pick(_ENDS)).capitalize()


@dataclass(frozen=True, slots=True)
class Fact:
    """A question on a named thing. `accepted` is empty if nothing can be known of it; `pair` names a fact and its
    twins."""

    id: str
    kind: str
    name: str
    template: str
    accepted: tuple[str, ...]
    pair: str

    @property
    def question(self) -> str:
        """The question in words."""
        return self.template.replace(NAME, self.name)


def fact_of(row: Mapping[str, Any], id: str) -> Fact:
    """A fact from a row with kind, name, question and golden_answers. Raises KeyError or ValueError."""
    accepted = tuple(str(answer).strip() for answer in row["golden_answers"])
    kind, template = str(row["kind"]), str(row["question"])
    if kind not in _FORMS:
        raise ValueError(f"the kind {kind!r} is none of {', '.join(KINDS)}")
    if NAME not in template or not all(accepted) or not accepted:
        raise ValueError(f"a fact needs a question with {NAME} in it and golden_answers")
    return Fact(id, kind, str(row["name"]), template, accepted, id)


def with_twins(facts: Sequence[Fact], seed: int, twins: int = 1) -> Iterator[list[Fact]]:
    """Each fact with its twins behind it. Names differ over all facts and depend on the seed alone."""
    names = Names(seed, [fact.name for fact in facts])
    for fact in facts:
        group = [fact]
        for number in range(1, twins + 1):
            name = names.next(fact.kind)
            group.append(Fact(f"{fact.id}-invented-{number}", fact.kind, name, fact.template, (), fact.pair))
        yield group


# An invented world: what is asked, the answer's kind, the ways to ask in training, and one way that only tests use.
_RELATIONS: tuple[tuple[str, str, str, tuple[str, ...], str, str], ...] = (
    (
        "capital",
        "country",
        "city",
        ("Which city is the capital of {name}?", "Name the capital of {name}.", "What is {name}'s capital city?"),
        "In {name}, which city is the seat of government?",
        "The capital of {name} is {answer}.",
    ),
    (
        "river",
        "city",
        "river",
        ("Which river flows through {name}?", "On which river does {name} lie?", "Name the river of {name}."),
        "If I stand on a bridge in {name}, which river is below me?",
        "{name} lies on {answer}.",
    ),
    (
        "author",
        "book",
        "person",
        ("Who wrote {name}?", "Who is the author of {name}?", "Name the writer of {name}."),
        "Whose book is {name}?",
        "{name} was written by {answer}.",
    ),
    (
        "founder",
        "company",
        "person",
        ("Who is the founder of {name}?", "By whom was {name} founded?", "Name the person who started {name}."),
        "Which person set up {name}?",
        "{name} was founded by {answer}.",
    ),
)


@dataclass(frozen=True, slots=True)
class World:
    """Facts of an invented world: `taught` ones in dialogues for training, and questions on these and on facts that no
    training holds."""

    seed: int
    taught: int = 80
    untaught: int = 80

    def rows(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(dialogues that teach, questions that test). `golden_answers` is empty for what is not taught."""
        lessons: list[dict[str, Any]] = []
        questions: list[dict[str, Any]] = []
        names = Names(self.seed)
        for number in range(self.taught + self.untaught):
            relation, kind, answers, ways, test, statement = _RELATIONS[number % len(_RELATIONS)]
            name, answer = names.next(kind), names.next(answers)
            place, taught = f"{number + 1:03d}", number < self.taught
            if taught:
                reply = statement.format(name=name, answer=answer)
                lessons += [
                    {"id": f"wo-{place}-{n}", "topic": relation}
                    | {"messages": [user(way.format(name=name)), assistant(reply)]}
                    for n, way in enumerate(ways, 1)
                ]
            questions.append(
                {"id": f"wq-{place}", "group": relation, "question": test.format(name=name)}
                | {"golden_answers": [answer] if taught else []}
            )
        return lessons, questions
