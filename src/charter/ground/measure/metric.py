"""What a reported number is: the kept rows that it reads, how they become a table, and what a reader must know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from charter.ground.measure.counts import Row
from charter.ground.measure.score import Table

VERSION = 7  # of all numbers that name none of their own; goes up if intervals, counts or detectors change
SHARE, PLAIN, EXPONENT = "share", "", "exponent"

# one dimension or one stretch of a text; or how often asking went wrong
Kind = Literal["", "part", "fault"]
# what counts as an improvement; zero: nearer to it
Better = Literal["lower", "higher", "zero", "neither"]
# what a number describes: the model under test, a grader, labeller, helper or screen, the questions, or other models
About = Literal["model", "judge", "data", "others"]
Judge = Literal["", "grader", "reward", "rater", "start", "helper"]
Measure = Callable[[Sequence[Row]], Table]


@dataclass(frozen=True, slots=True)
class Term:
    """One summand of a number over the tables of others: `weight` times the value of the tables of `parts`, names of
    metrics, counted together; `probit`: told as z of their rate."""

    weight: float
    parts: tuple[str, ...]
    probit: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """One reported number: what a reader must know of it, and how kept rows become its table.

    `file`: of the rows, below samples/. `table` is None if the number was read from a report, which keeps all the rest,
    or is made of the tables of others: `terms`, `paired` if these are counted on the same rows. `judge`: the model
    whose scores decide the number; `gate`: the verdict on that judge by which it counts. `task`: the evaluation that it
    belongs to; `group`: the table of a card that it stands in. `chance`: what guessing gets.
    """

    name: str
    file: str
    table: Measure | None = field(compare=False, repr=False)
    better: Better
    meaning: str
    unit: str = SHARE
    judge: Judge = ""
    kind: Kind = ""
    gate: Literal["harm", "helpful"] = "harm"
    label: str = ""
    about: About = "model"
    task: str = ""
    group: str = ""
    chance: float | None = None
    version: int = VERSION
    terms: tuple[Term, ...] = ()
    paired: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the metrics whose tables make up the number; its own if it has a table."""
        return tuple(dict.fromkeys(p for term in self.terms for p in term.parts)) or (self.name,)

    def improves(self, before: float, after: float) -> bool:
        """Whether a change is an improvement; a metric with no good direction never improves."""
        if self.better == "zero":
            return abs(after) < abs(before)
        return self.better != "neither" and (after > before) == (self.better == "higher")


def default_label(name: str) -> str:
    """What a number is called that declares no label."""
    return name.replace("_", " ").capitalize()
