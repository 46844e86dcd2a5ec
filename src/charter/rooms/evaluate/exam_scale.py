"""Scaled scores and percentiles of an official form that somebody owns, by dated tables; never of a stand-in.

Items whose picture was removed leave a range: all wrong, or at the chance of guessing.

The tables give the scaled score of a form's raw score, and the percentile of a scaled score among a year's test takers.
They are a CSV with the columns table (scaled or percentile), exam, section, score, value, source, years, n. A
percentile without its years says nothing, so that a lookup returns one value for each. The shipped file has the few
points that published pages name; a form's table is its owner's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.essays import to_half
from charter.ground.settings.room import Role
from charter.ground.settings.sources import shipped_folder
from charter.ground.text.columns import raw_rows
from charter.rooms.evaluate.choices import Parse
from charter.rooms.evaluate.exam import draw, guess, kind_parts, mark_reasoned, metrics, reader, reasoned, was_asked
from charter.rooms.evaluate.task import SAMPLED, Context, Protocol, Question, Rows, Task

SCALED, PERCENTILE = TABLES = ("scaled", "percentile")
COLUMNS = ("table", "exam", "section", "score", "value", "source", "years")
ROLE = "exam_tables"
EXAM = "GRE"
# About this share usually passes (card 4.3.3).
PASS = 0.6


@dataclass(frozen=True, slots=True)
class Entry:
    """One point of a table; `n` test takers, if the source says how many."""

    table: str
    exam: str
    section: str
    score: Fraction
    value: Fraction
    source: str
    years: str
    n: int | None = None

    def describe(self) -> dict[str, Any]:
        """Its fields as JSON."""
        return asdict(self) | {"score": float(self.score), "value": float(self.value)}


def shipped_tables() -> Path:
    """The points that published pages name."""
    return shipped_folder() / "exam_tables.csv"


def read_tables(path: Path) -> list[Entry]:
    """The entries of a CSV. Raises CharterError naming file and line."""
    entries: list[Entry] = []
    keys: set[tuple[object, ...]] = set()
    for place, row in raw_rows(path):
        try:
            entry = _entry(row)
        except KeyError as error:
            raise CharterError(f"{place}: a table needs the column {error.args[0]}") from None
        except ValueError as error:
            raise CharterError(f"{place}: {error}") from None
        key = (entry.table, entry.exam, entry.section, entry.score, entry.years)
        if key in keys:
            raise CharterError(f"{place}: the score {row['score']} of {entry.years} has a value already; remove one")
        keys.add(key)
        entries.append(entry)
    return entries


def _entry(row: dict[str, Any]) -> Entry:
    fields = {column: str(row[column] if row[column] is not None else "").strip() for column in COLUMNS}
    if fields["table"] not in TABLES:
        raise ValueError(f"table is {fields['table']!r}, expected {' or '.join(TABLES)}")
    if missing := [column for column in COLUMNS if not fields[column] and column != "section"]:
        raise ValueError(f"{missing[0]} is empty; every value needs its {missing[0]}")
    try:
        score, value = Fraction(fields.pop("score")), Fraction(fields.pop("value"))
        n = int(str(row.get("n") or 0)) or None
    except ValueError:
        raise ValueError("score, value and n must be numbers") from None
    if fields["table"] == PERCENTILE and not 0 <= value <= 100:
        raise ValueError(f"a percentile of {float(value):g}, expected 0 to 100")
    return Entry(**fields, score=score, value=value, n=n)


def look_up(entries: Sequence[Entry], table: str, exam: str, section: str, score: float | Fraction) -> list[Entry]:
    """The entries of a score, one for each years; [] if no table has it. Nothing is interpolated."""
    wanted = (table, exam, section, Fraction(score))
    return [e for e in entries if (e.table, e.exam, e.section, e.score) == wanted]


def check_scale(context: Context, questions: Sequence[Question]) -> None:
    """Refuses tables for items that stand in for an exam, or are of several. Raises CharterError."""
    if context.inputs.optional(ROLE) is None:
        return
    exams = sorted({str(question.meta["exam"]) for question in questions})
    if any(question.meta["stand_in"] for question in questions):
        raise CharterError(
            f"{context.task.name}: its items ({', '.join(exams)}) stand in for an exam, and a scaled score or a "
            f"percentile belongs to an official form; leave {ROLE} out, or give your own paper"
        )
    count, of = context.drawn["asked"], context.drawn["of"]
    if count < of:
        raise CharterError(
            f"{context.task.name}: {count} of {of} items are asked, and a scaled score belongs to a whole form; leave "
            f"{ROLE} or the limit out"
        )
    if len(exams) > 1:
        raise CharterError(
            f"{context.task.name}: items of {', '.join(exams)}; a scaled score belongs to one form, so give one"
        )


def scale(context: Context, rows: Rows, questions: Sequence[Question], section: str) -> None:
    """Adds scaled scores and percentiles, for both bounds, to the task's summary."""
    source = context.inputs.optional(ROLE)
    if source is None:
        return
    entries, exam = read_tables(source.folder), str(questions[0].meta["exam"])
    samples = context.protocol.samples
    right = sum(float(row["correct"]) for row in rows) / samples
    guessed = sum(guess(row) for row in rows if not was_asked(row)) / samples
    bounds: dict[str, Any] = {}
    for bound, raw in (("removed_wrong", round(right)), ("removed_guessed", round(right + guessed))):
        scaled = look_up(entries, SCALED, exam, section, raw)
        bounds[bound] = {
            "raw": raw,
            "of": len(questions),
            "scaled": [entry.describe() for entry in scaled],
            "percentile": [
                entry.describe() for each in scaled for entry in look_up(entries, PERCENTILE, EXAM, section, each.value)
            ],
        }
    context.summary["scale"] = bounds


def scale_essays(context: Context, rows: Rows) -> None:
    """Adds the mean score in halves and its percentiles to the task's summary."""
    source = context.inputs.optional(ROLE)
    scores = [row["score"] for row in rows if row["outcome"] != "unscored"]
    if source is None or not scores:
        return
    score = to_half(sum(scores) / len(scores))
    percentiles = look_up(read_tables(source.folder), PERCENTILE, EXAM, "writing", score)
    context.summary["scale"] = {"score": score, "percentile": [entry.describe() for entry in percentiles]}


def pass_view(context: Context, rows: Rows) -> None:
    """Adds, for an official form alone, whether each step's share lies at or above the mark that usually passes."""
    if context.summary["items"]["stand_in"]:
        return
    steps = sorted({str(row["step"]) for row in rows})
    shares = {
        step: sum(row["correct"] for row in step_rows) / len(step_rows)
        for step in steps
        if (step_rows := [row for row in rows if row["step"] == step and was_asked(row)])
    }
    context.summary["pass_view"] = {
        "mark": PASS,
        "source": "Claude 2 model card, section 4.3.3: about 60 % usually passes",
        "steps": {step: {"share": share, "at_or_above": share >= PASS} for step, share in shares.items()},
    }


@dataclass(frozen=True, slots=True)
class Scaled:
    """The functions of a section that is answered with reasoning and may have a scaled score. `parse` reads an item,
    `ours` is the shipped set with the worked examples."""

    parse: Parse
    ours: str
    section: str

    def questions(self, context: Context) -> list[Question]:
        """The drawn items."""
        drawn = draw(context, self.parse)
        check_scale(context, drawn)
        return drawn

    def rows(self, context: Context, questions: Sequence[Question]) -> Rows:
        """One row a sampled answer, and one for each item whose picture was removed."""
        answered = reasoned(context, questions, self.parse, self.ours)
        scale(context, answered, questions, self.section)
        return answered


def section_task(name: str, section: str, kinds: tuple[str, ...]) -> Task:
    """A section of GRE-shaped items of some kinds, whose shipped set has the task's name."""
    ours = f"{name}.heldout"
    scaled = Scaled(reader(*kinds), ours, section)
    return Task(
        name=name,
        title=f"GRE-shaped {section}",
        group="Exams",
        questions=scaled.questions,
        rows=scaled.rows,
        metrics=metrics(name, f"GRE-shaped {section} items", kind_parts(*kinds)),
        role=Role(kind="questions", default=f"shipped:{ours}"),
        reads=(ROLE,),
        protocol=Protocol(shots=5, max_tokens=512),
        takes=(*SAMPLED, "shots"),
        marks=mark_reasoned,
        cost=(900, 250),
        searched=True,
    )
