"""The acceptable use policy's screen on labelled texts: how many violations it finds, and at what cost to the harmless.

`screening.py` has the procedure, `measure/screening.py` the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from charter.ground.measure.metrics import of_a_judge
from charter.ground.measure.screening import OF_SCREENS, PLACED
from charter.ground.settings.room import Role
from charter.rooms.evaluate.task import Context, Rows, Task

if TYPE_CHECKING:
    from charter.rooms.evaluate.screening import Item


def questions(context: Context) -> list[Item]:
    """The labelled texts."""
    context.facts.update(context.screening.identity())
    return context.screening.items()


def rows(context: Context, texts: Sequence[Item]) -> Rows:
    """One row a text: its label, the findings at each level, its scores. Writes thresholds.yaml."""
    rows = context.screening.rows(texts)
    context.summary.update(context.screening.summary)
    return rows


def beside(context: Context, rows: Rows) -> Iterator[tuple[str, Rows]]:
    """The same prompts in every place of a conversation and encoding, if the settings place any."""
    if placed := context.screening.rows_by_place():
        yield f"samples/{PLACED}", placed


TASK = Task(
    name="acceptable_use",
    harmful=True,
    title="Acceptable use",
    questions=questions,
    rows=rows,
    beside=beside,
    metrics=of_a_judge(*OF_SCREENS),
    role=Role(kind="constitution", default="shipped:acceptable_use"),
    reads=("red_team", "lookalikes", "helpful", "reader", "violating", "ordinary", "work", "replies", "fitness"),
    takes=(),
    cost=(0, 0),
)
