"""GRE-shaped verbal items: completions, sentence equivalence, reading with choices that all must be found (card 4.3.1).

Five worked examples with reasoning, an answer sampled at T=1; partly right is wrong. The shipped items are ours, and
no official form: no scaled score follows from them.
"""

from __future__ import annotations

from charter.ground.settings.roles import Role
from charter.rooms.evaluate.exam import mark_reasoned, reader
from charter.rooms.evaluate.exam_numbers import kind_parts, metrics
from charter.rooms.evaluate.exam_scale import Scaled
from charter.rooms.evaluate.task import SAMPLED, Protocol, Task

OURS = "gre_verbal.heldout"
KINDS = ("completion", "equivalence", "single", "select_all")
parse = reader(*KINDS)
SCALED = Scaled(parse, OURS, "verbal")
TASK = Task(
    name="gre_verbal",
    title="GRE-shaped verbal",
    group="Exams",
    questions=SCALED.questions,
    rows=SCALED.rows,
    metrics=metrics(
        "gre_verbal",
        "GRE-shaped verbal items",
        kind_parts(*KINDS),
    ),
    role=Role(kind="questions", default=f"shipped:{OURS}"),
    reads=("exam_tables",),
    protocol=Protocol(shots=5, max_tokens=512),
    takes=(*SAMPLED, "shots"),
    marks=mark_reasoned,
    cost=(900, 250),
    searched=True,
)
