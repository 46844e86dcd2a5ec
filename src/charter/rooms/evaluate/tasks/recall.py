"""Recall over length and depth: a long text holds a fact, and its end asks for it (Claude 2.1 appendix).

Facts are our inventions, so that no model knows them beforehand. The text around them comes from the role `recall`. A
grid cell is a length in tokens and a depth in percent of it. Lengths beyond the context are left out; the score's
identity names those that were used.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.measure import counts
from charter.ground.settings.room import Role
from charter.ground.text.facts import HELD_PLACES, HELD_WORDS, statement
from charter.ground.text.facts import question as ask
from charter.rooms.evaluate import asking
from charter.rooms.evaluate.marks import unless_too_long, verdict
from charter.rooms.evaluate.metrics import higher
from charter.rooms.evaluate.reading import TEST, Row, read_split
from charter.rooms.evaluate.task import Context, Marks, Protocol, Query, Question, Rows, Task, accuracy, unanswered_rate

# Lengths of the texts in tokens: 256, 512 ... 131072, 200000.
LENGTHS = (*(2**k for k in range(8, 18)), 200_000)
# Facts in a cell, if there is no limit.
FACTS = 4
# Texts of 256 tokens are for toy models; settings must name them.
USUAL = LENGTHS[1:]
DEPTHS = (0, 25, 50, 75, 100)
# Tokens for the fact, the question, the template and the answer.
SPARE = 160
# Used only to cut the text roughly if there is no tokenizer.
TOKENS_A_WORD = 1.35


def questions(context: Context) -> list[Question]:
    """Facts in every cell of the grid, about `limit` in all; no text is longer than the context."""
    # a story may stand in many rows
    texts = list(dict.fromkeys(read_split(context.source, TEST, parse)))
    longest = context.local.engine.context if context.local else 8192
    sizes = sorted(set(context.settings.long.lengths or USUAL))
    if unknown := set(sizes) - set(LENGTHS):
        raise CharterError(f"long.lengths names {min(unknown)}; use some of {', '.join(map(str, LENGTHS))}")
    lengths = [length for length in sizes if length <= longest]
    if not lengths:
        raise CharterError(f"recall: the shortest text has {sizes[0]} tokens and the context holds {longest}")
    context.facts["lengths"] = lengths
    context.facts["tokenizer"] = context.local.engine.tokenizer.digest if context.local else "none: words"
    stream, limit = Stream(context, texts), context.protocol.limit
    facts = max(1, limit // (len(lengths) * len(DEPTHS))) if limit else FACTS
    questions = []
    for length in lengths:
        for depth in DEPTHS:
            for number in range(facts):
                questions.append(_question(context, stream, length, depth, number))
    return questions


def _question(context: Context, stream: Stream, length: int, depth: int, number: int) -> Question:
    rng = random.Random(context.seed("fact", length, depth, number))
    place, word = rng.choice(HELD_PLACES), f"{rng.choice(HELD_WORDS)}-{rng.randrange(100, 1000)}"
    before, after = stream.cut(length - SPARE, depth / 100, rng)
    text = "\n\n".join((before, statement(place, word), after, ask(place)))
    name = f"{length}/{depth}/{number}"
    return Question(name, text, accepted=(word,), group=f"{length}/{depth}")


class Stream:
    """The sentences of all texts in order; `cut` takes a text of any length from them."""

    def __init__(self, context: Context, texts: list[str]) -> None:
        self.sentences = [s.strip() for text in texts for s in text.replace("\n", " ").split(". ") if s.strip()]
        if not self.sentences:
            raise CharterError(f"recall: {context.source} has no sentences to put a fact between")
        local = context.local.engine.tokenizer if context.local else None
        self.sizes = [
            len(local.encode(s)) + 1 if local else int(len(s.split()) * TOKENS_A_WORD) + 1 for s in self.sentences
        ]

    def cut(self, tokens: int, depth: float, rng: random.Random) -> tuple[str, str]:
        """About `tokens` tokens from a random sentence on, wrapping at the end, split in two at the share `depth`."""
        at, used = rng.randrange(len(self.sentences)), 0
        sentences: list[str] = []
        split = 0
        while used + self.sizes[at] <= tokens:
            if used < depth * tokens:
                split = len(sentences) + 1
            sentences.append(self.sentences[at] + ".")
            used += self.sizes[at]
            at = (at + 1) % len(self.sentences)
        return " ".join(sentences[:split]), " ".join(sentences[split:])


def rows(context: Context, questions: list[Question]) -> Rows:
    """One row a fact: right if the answer holds the password."""
    answers = asking.answer(context, [Query(question, question.text) for question in questions], grade)
    # the question alone, without the long text
    return [row | {"question": row["question"].rpartition("\n\n")[2]} for row in answers]


def mark_password(row: Marks) -> dict[str, Any]:
    """Right if the reply holds the accepted words, which are in lower case."""
    return verdict(row["accepted"][0] in row["reply"].lower())


def grade(query: Query, reply: str) -> dict[str, Any]:
    """Right if the answer holds the password."""
    row = {"reply": reply, "accepted": list(query.question.accepted)}
    return row | mark_password(row)


def parse(row: Row, name: str) -> list[str]:
    """A row with text, or a story of QuALITY."""
    return [str(row["text"] if "text" in row else row["article"])]


def _of_length(length: int, row: Marks) -> bool:
    return str(row["group"]).startswith(f"{length}/")


TASK = Task(
    name="recall",
    title="Recall",
    group="Long documents",
    questions=questions,
    rows=rows,
    metrics=(
        accuracy("recall", "facts found again in long texts"),
        unanswered_rate("recall"),
        *(
            higher(
                f"recall_{length}",
                counts.mean("correct", partial(_of_length, length)),
                f"facts found again in texts of {length} tokens",
                kind="part",
            )
            for length in LENGTHS
        ),
    ),
    role=Role(kind="questions", default="shipped:quality.heldout"),
    standard="data:pretrain/pepys_diary",
    protocol=Protocol(temperature=0.0, max_tokens=24),
    marks=unless_too_long(mark_password),
    cost=(3000, 16),
)
