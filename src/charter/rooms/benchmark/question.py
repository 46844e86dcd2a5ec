"""What is asked: a question of a data set, and the words in which it is put to a model.

A question with worked examples is put as one running text, or as turns of the model's chat template; in both forms
everything before the answer is the same, so a shared beginning is computed once (card section 4.3; Bai 2022a,
appendix E: examples come from a development split, never from the one that is scored).
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from charter.ground.generate.assistant import Prompt
from charter.ground.text.dialogue import Message, assistant, user
from charter.rooms.benchmark.settings import Form

LETTERS = string.ascii_uppercase


@dataclass(frozen=True, slots=True)
class Question:
    """One item of a data set.

    `right`: places of the right options. `accepted`: right free answers. `cluster`: the passage or template that
    answers depend on together. `group`: subject, dimension or language. `meta`: what a scorer needs besides.
    """

    id: str
    text: str
    options: tuple[str, ...] = ()
    right: tuple[int, ...] = ()
    accepted: tuple[str, ...] = ()
    passage: str = ""
    cluster: str = ""
    group: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question in words: `header` opens the whole, `shots` are pairs of question and answer, `lead` begins the
    answer ("Answer:")."""

    question: Question
    text: str
    lead: str = ""
    shots: Sequence[tuple[str, str]] = ()
    header: str = ""

    def prompt(self, form: Form) -> Prompt:
        """What the model reads; it goes on after `lead`."""
        if form == "text":
            blocks = [f"{text}\n{self.lead} {answer}" for text, answer in self.shots]
            return "\n\n".join([*filter(None, [self.header]), *blocks, f"{self.text}\n{self.lead}"])
        turns: list[Message] = []
        for text, answer in self.shots:
            turns += [user(text), assistant(f"{self.lead} {answer}".strip())]
        turns.append(user(self.text))
        if self.header:
            turns[0] = user(f"{self.header}\n\n{turns[0]['content']}")
        return [*turns, assistant(self.lead)] if self.lead else turns


def listed(question: Question, style: str = "{}.") -> str:
    """The question with its passage before it and its options below it, a letter each: "A. first" """
    options = [f"{style.format(LETTERS[n])} {option}" for n, option in enumerate(question.options)]
    return "\n".join([*filter(None, [question.passage]), question.text, *options])
