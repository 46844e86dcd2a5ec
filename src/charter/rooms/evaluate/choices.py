"""Questions with lettered options, with or without worked examples, and the likeliest letter: the form of most exams.

A task of this form gives a parser of rows. `behind_examples` asks all its questions after the same examples, drawn from
the development split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from charter.rooms.evaluate import asking
from charter.rooms.evaluate.reading import DEV, Row, read_split
from charter.rooms.evaluate.task import CHOSEN, LETTERS, Context, Protocol, Query, Question, Rows, format_question

LEAD = "Answer:"
FIVE_SHOT, NO_SHOT = (Protocol(shots=n, form="text", temperature=0.0) for n in (5, 0))
TAKES = (*CHOSEN, "shots")
Parse = Callable[[Row, str], list[Question]]


def without_examples(context: Context, questions: Sequence[Question]) -> Rows:
    """The `rows` of a task: one a question, without examples."""
    return asking.choose(context, [Query(question, format_question(question), LEAD) for question in questions])


def behind_examples(parse: Parse) -> Callable[[Context, Sequence[Question]], Rows]:
    """The `rows` of a task: one a question, after examples of the development split."""

    def rows(context: Context, questions: Sequence[Question]) -> Rows:
        pool = read_split(context.source, DEV, parse)
        shots = [(format_question(q), LETTERS[q.right[0]]) for q in context.examples(pool)]
        return asking.choose(
            context, [Query(question, format_question(question), LEAD, shots) for question in questions]
        )

    return rows
