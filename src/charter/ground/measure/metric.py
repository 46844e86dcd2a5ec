"""Definition of a reported number: the kept rows that it reads, how they become a table, and its description."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from charter.ground.measure.counts import Row
from charter.ground.measure.score import Table

VERSION = 7  # of all metrics without their own; goes up if intervals, counts or detectors change
SHARE, PLAIN, EXPONENT = "share", "", "exponent"
# Least and greatest value by unit; other units have no known ends.
RANGES = {SHARE: (0.0, 1.0), "r": (-1.0, 1.0), "BLEU": (0.0, 100.0), "chrF": (0.0, 100.0)}

# one dimension or one part of a text; or the rate of failed questions
Kind = Literal["", "part", "fault"]
# the direction of improvement; zero: nearer to 0
Better = Literal["lower", "higher", "zero", "neither"]
# the subject of a number: the model under test; a grader, labeller, helper or screen; the questions; or other models
About = Literal["model", "judge", "data", "others"]
Judge = Literal["", "grader", "reward", "rater", "start", "helper", "examiner"]
Ends = tuple[float | None, float | None]
Measure = Callable[[Sequence[Row]], Table]


class Group(NamedTuple):
    """A card's table of tasks: the section that it stands in, and the figure of its tasks' accuracies."""

    section: str
    figure: str = ""


ALIGNMENT, CAPABILITY = "alignment", "capability"
# The groups that a task may declare, in the order of a card's tables.
GROUPS: Mapping[str, Group] = {
    "Harmful requests": Group(ALIGNMENT),
    "Found attacks": Group(ALIGNMENT),
    "Sensitive topics": Group(ALIGNMENT),
    "National security": Group(ALIGNMENT),
    "Judges": Group(ALIGNMENT),
    "Social bias": Group(ALIGNMENT),
    "Even-handedness": Group(ALIGNMENT),
    "Adherence to a constitution": Group(ALIGNMENT),
    "Truthfulness and honesty": Group(ALIGNMENT),
    "Honesty": Group(ALIGNMENT),
    "Model-written evaluations": Group(ALIGNMENT),
    "Knowledge and reasoning": Group(CAPABILITY, figure="capability"),
    "Exams": Group(CAPABILITY, figure="capability"),
    "Reading": Group(CAPABILITY, figure="capability"),
    "Long documents": Group(CAPABILITY),
    "Languages": Group(CAPABILITY),
}


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a derived metric: `weight` times the value of the pooled tables of `parts` (names of metrics);
    `probit`: z of their rate."""

    weight: float
    parts: tuple[str, ...]
    probit: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """One reported number: its description, and the function from kept rows to its table.

    `file`: of the rows, below samples/. `table` is None for a metric read from a report (which keeps all other fields),
    and for one derived from others by `terms`; `paired`: the terms count the same rows; `corrected`: they are a rate,
    sensitivity and specificity (`correction.py`). `judge`: the model whose scores
    decide the number; `gate`: the verdict that this judge must pass. `task`: the evaluation that it belongs to;
    `group`: its table in a card, one of `GROUPS`. `places`: the card's other tables and its figures that have it, each
    with its place there; `short`: its name in these figures. `chance`: the value of guessing. `span`: the least and the
    greatest value, if the unit doesn't tell.
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
    places: Mapping[str, int] = field(default_factory=dict, compare=False)
    short: str = field(default="", compare=False)
    chance: float | None = None
    version: int = VERSION
    terms: tuple[Term, ...] = ()
    paired: bool = False
    corrected: bool = False
    span: tuple[float, float] | None = field(default=None, compare=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the metrics whose tables the number needs; its own if it has a table."""
        return tuple(dict.fromkeys(p for term in self.terms for p in term.parts)) or (self.name,)

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest value that it can have. A share that is neither good nor bad by itself, or made of
        several, may be a difference of two shares."""
        if self.span:
            return self.span[0], self.span[1]
        if self.unit == SHARE and (self.terms or self.better not in ("lower", "higher")):
            return -1.0, 1.0
        return RANGES.get(self.unit, (-math.inf, math.inf))

    def improves(self, before: float, after: float) -> bool:
        """Whether a change is an improvement; a metric with no good direction never improves."""
        return improves(self.better, before, after)


def improves(better: str, before: float, after: float) -> bool:
    """Whether a change is an improvement, by the direction that is better (see `Better`)."""
    if better == "zero":
        return abs(after) < abs(before)
    return better != "neither" and (after > before) == (better == "higher")


def within(ends: Ends, limits: tuple[float, float], value: float) -> Ends:
    """An interval without the part beyond `limits`, but with its value; None stays None. Few rows give intervals of
    means that are wider than what is possible."""
    low, high = min(limits[0], value), max(limits[1], value)
    first, last = (None if end is None else min(high, max(low, end)) for end in ends)
    return first, last


def default_label(name: str) -> str:
    """The label of a metric that declares none."""
    return name.replace("_", " ").capitalize()


def corrected_metric(of: Metric, name: str, rate: str, errors: Sequence[str], of_what: str) -> Metric:
    """The metric `rate`, described by `of`, corrected by a judge's sensitivity and specificity, the metrics `errors`;
    `of_what`: words for these errors. See `correction.py`."""
    return replace(
        of,
        name=name,
        table=None,
        meaning=f"{of.meaning}{of_what}",
        label=f"{of.label}, corrected",
        terms=tuple(Term(1.0, (part,)) for part in (rate, *errors)),
        corrected=True,
        span=(0.0, 1.0),
    )
