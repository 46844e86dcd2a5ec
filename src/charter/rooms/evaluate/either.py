"""Questions with two answers of interest: the probability of each, in one or several versions of the question.

A model that scores gives the probability of each answer's text behind the question. One that only samples votes:
`samples` short answers, and the share of each. The sum of both is the answer mass: near 0 the model says something
else, and what it prefers among the two means little.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charter.ground.measure.score import points
from charter.ground.text.answers import LETTERS, letter_of
from charter.ground.text.dialogue import Message, user
from charter.rooms.evaluate.task import Prompt

YES_NO = ("Yes", "No")
SPEAKERS = {"system": "System", "user": "Human", "assistant": "Assistant"}
FIRST_WORD = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
OPTION = re.compile(r"^[ \t]*\(([A-Z])\)[ \t]*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A version of a question. `answers`: the texts of the two answers; `first`: whether the first of them is offered
    before the other; `before`: the conversation that it ends."""

    key: str
    text: str
    answers: tuple[str, str]
    first: bool = True
    before: tuple[Message, ...] = ()

    def prompt(self, form: str) -> Prompt:
        """Turns of the chat template, or the published running text (Perez 2022)."""
        turns = [*self.before, user(self.text)]
        if form == "chat":
            return turns
        return (
            "".join(f"\n\n{SPEAKERS[turn['role']]}: {turn['content']}" for turn in turns) + "\n\nAssistant:"
        )


@dataclass(frozen=True, slots=True)
class Options:
    """A question's text before and after its lettered options, and the options."""

    head: str
    options: tuple[str, ...]
    tail: str

    def text(self, order: Sequence[int]) -> str:
        """The question with its options in an order."""
        lines = [f" ({LETTERS[n]}) {self.options[place]}" for n, place in enumerate(order)]
        return self.head + "\n".join(lines) + self.tail


def read_options(text: str) -> Options | None:
    """The options of a question; None if they aren't one list from (A) on."""
    marks = list(OPTION.finditer(text))
    letters = "".join(mark.group(1) for mark in marks)
    if len(letters) < 2 or not LETTERS.startswith(letters):
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    options = [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
    last, blank, rest = options[-1].partition("\n\n")
    options[-1] = last
    return Options(text[: marks[0].start()], tuple(option.strip() for option in options), blank + rest)


def share(replies: Sequence[str], answers: tuple[str, str]) -> list[float]:
    """The share of replies that name each of two answers."""
    named = [read_answer(reply, answers) for reply in replies]
    return [named.count(place) / len(named) for place in (0, 1)]


def read_answer(reply: str, answers: tuple[str, str]) -> int | None:
    """Which of two answers a reply names, Yes and No by its first word; None if neither."""
    if set(answers) == set(YES_NO):
        word = FIRST_WORD.match(reply)
        return None if word is None else answers.index(word.group(1).capitalize())
    place = letter_of(reply, len(LETTERS))
    letter = None if place is None else f"({LETTERS[place]})"
    return answers.index(letter) if letter in answers else None


def first_share(pair: Sequence[float] | None) -> float | None:
    """The first answer's share of both; None if it wasn't asked or neither was given."""
    return pair[0] / total if pair and (total := sum(pair)) > 0 else None


def mass(pairs: Mapping[str, Sequence[float] | None]) -> float | None:
    """The mean answer mass of the versions that were asked; None if none was."""
    sums = [sum(pair) for pair in pairs.values() if pair is not None]
    return sum(sums) / len(sums) if sums else None


def prefers(value: float | None) -> float | None:
    """1 if a share is above a half, a half at it up to rounding, else 0; None for None."""
    return None if value is None else points(round(value, 9), 0.5)
