"""Numbers of reports and their sources.

A `Number` carries the artifact and the file that it was computed from.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from charter.ground.measure.metric import PLAIN as PLAIN
from charter.ground.measure.metric import SHARE as SHARE
from charter.ground.measure.metric import Metric, default_label

ALPHA = 0.05
FEW = 20  # a number of fewer answers is printed with its n, and not drawn
COUNT, ELO, FLOPS = "count", "Elo", "FLOPs"
OF_A_HUNDRED = frozenset({"BLEU", "chrF"})
# Values of counts.json that are neither counts nor shares, with their units.
MEASURED = {"label_weight": PLAIN, "mean_p_chosen": SHARE, "compute": FLOPS, "kl_bound": "nats"}


@dataclass(frozen=True, slots=True)
class Source:
    """The step, its artifact's id, and the file in it that a number was computed from."""

    step: str
    artifact: str
    file: str


@dataclass(frozen=True, slots=True)
class Number:
    """A value, its 95 % interval, what it counts, and where it comes from. `key` is unique in a card: the name of an
    artifact (see `gather`), then that of the number."""

    key: str
    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    clusters: int | None = None
    version: int = 1
    unit: str = PLAIN
    stage: str = ""
    change: bool = False
    sources: tuple[Source, ...] = ()
    # For a change: by exchange; and corrected, see `changes`.
    p: float | None = None
    p_holm: float | None = None
    # As its report declares it.
    metric: Metric | None = field(default=None, compare=False, repr=False)

    @property
    def label(self) -> str:
        """Its name at the head of a table."""
        return self.metric.label if self.metric else default_label(self.name)

    @property
    def meaning(self) -> str:
        """What it counts, if its report says so."""
        return self.metric.meaning if self.metric else ""

    @property
    def better(self) -> str:
        """The direction that is better; empty if it is not a metric."""
        return self.metric.better if self.metric else ""

    @property
    def significant(self) -> bool:
        """For a change: whether its interval excludes 0 and the corrected p is below ALPHA."""
        apart = self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)
        return apart and self.p_holm is not None and self.p_holm < ALPHA

    @property
    def size(self) -> str:
        """What is behind it, `n 40` or `n 120 (40 prompts)`; empty if that isn't known."""
        if self.n is None:
            return ""
        alike = self.clusters is None or self.clusters == self.n
        return f"n {self.n:,}" if alike else f"n {self.n:,} ({self.clusters:,} prompts)"

    @property
    def few(self) -> bool:
        """Whether too little is behind it to be drawn."""
        return self.n is not None and self.n < FEW

    def record(self) -> dict[str, Any]:
        """Its entry in card.json."""
        entries = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "metric"}
        return entries | {"sources": [asdict(s) for s in self.sources]}


def unit_of_count(name: str, whole: bool) -> str:
    """The unit of a number of counts.json that no metric names. `whole`: it is an integer, as a share may be too."""
    unit = MEASURED.get(name, SHARE if name.endswith("_share") else PLAIN)
    return COUNT if whole and unit == PLAIN and name not in MEASURED else unit


def figure(value: float | None, unit: str, signed: bool = False, bare: bool = False) -> str:
    """A value in words that fit its unit. `bare` leaves the unit out; a change of a share is in points."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if unit == SHARE:
        text, end = f"{100 * abs(value):.1f}", " points" if signed else " %"
    elif unit in (COUNT, ELO):
        text, end = f"{abs(value):,.0f}", ""
    elif unit == FLOPS:
        text, end = f"{abs(value):.2e}".replace("e+", "e"), f" {FLOPS}"
    elif unit in OF_A_HUNDRED:
        text, end = f"{abs(value):.1f}", ""
    elif unit == "tokens":
        text, end = f"{abs(value):.1f}", " tokens"
    else:
        text, end = f"{abs(value):.3f}" if unit else f"{abs(value):.2f}", ""
    zero = not text.strip("0.")
    sign = "−" if value < 0 and not zero else "+" if signed and not zero else ""
    return sign + text + ("" if bare else end)


def interval(number: Number) -> str:
    """The interval, without its unit; empty if there is none."""
    if number.low is None or number.high is None:
        return ""
    ends = (figure(x, number.unit, number.change, bare=True) for x in (number.low, number.high))
    return " to ".join(ends)


def words_of_size(number: Number) -> str:
    """The number of rows, and of the prompts (or texts) that they belong to if there are fewer."""
    if number.n is None:
        return ""
    if number.clusters is None or number.clusters == number.n:
        return f"n\u00a0=\u00a0{number.n:,}"
    prompts = "prompt" if number.clusters == 1 else "prompts"
    return f"n\u00a0=\u00a0{number.n:,} ({number.clusters:,}\u00a0{prompts})"
