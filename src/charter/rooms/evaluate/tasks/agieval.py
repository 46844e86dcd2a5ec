"""AGIEval: seven English admission and qualification exams, no examples, the likeliest letter (Zhong 2023, 2304.06364).

They replace exams that aren't free to share. Each set is a task of its own: law-school reasoning (analytical,
logical, reading), college admission (mathematics, English), algebra in words, and civil-service logic.
"""

from __future__ import annotations

import re

from charter.ground.artifact.manifest import digest_text
from charter.ground.settings.room import Role
from charter.rooms.evaluate.choices import NO_SHOT, without_examples
from charter.rooms.evaluate.marks import likeliest
from charter.rooms.evaluate.reading import Row, draw_questions, place_of
from charter.rooms.evaluate.task import CHOSEN, Question, Task, accuracy, unanswered_rate

# Name of a set: its title, and how many options a question has.
SETS = {
    "lsat-ar": ("LSAT, analytical", 5),
    "lsat-lr": ("LSAT, logical", 5),
    "lsat-rc": ("LSAT, reading", 5),
    "sat-math": ("SAT, mathematics", 4),
    "sat-en": ("SAT, English", 4),
    "aqua-rat": ("AQuA-RAT", 5),
    "logiqa-en": ("LogiQA", 4),
}
LETTERED = re.compile(r"^\s*\([A-Z]\)\s*")


def parse(row: Row, name: str) -> list[Question]:
    """A row with passage (may be empty), question, options ("(A)first") and label, a letter. Questions of one passage
    are one cluster."""
    options = tuple(LETTERED.sub("", str(option)).strip() for option in row["options"])
    passage = str(row.get("passage") or "").strip()
    right = (place_of(row["label"], options),)
    question = str(row["question"]).strip()
    cluster = digest_text(passage)[:12] if passage else ""
    return [Question(name, question, options, right, passage=passage, cluster=cluster)]


def _task(source: str, title: str, options: int) -> Task:
    name = f"agieval_{source.replace('-', '_')}"
    return Task(
        name=name,
        title=title,
        group="Exams",
        questions=draw_questions(parse),
        rows=without_examples,
        metrics=(accuracy(name, f"AGIEval, {title}"), unanswered_rate(name)),
        role=Role(kind="questions"),
        standard=f"data:agieval/{source}",
        protocol=NO_SHOT,
        takes=CHOSEN,
        marks=likeliest,
        cost=(300, 0),
        chance=1 / options,
        searched=True,
    )


TASKS = tuple(_task(source, *details) for source, details in SETS.items())
