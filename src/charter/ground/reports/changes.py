"""Changes between two reports: paired differences, or the reason why two numbers can't be compared.

Card, `charter compare` and `charter gate` read these same changes. Holm's method (1979) corrects the p of the headline
numbers over these alone, so that further numbers in a report take nothing from them, the p of parts (subjects,
positions, dimensions) over the parts, and the p of all others over all others.

Both reports answered the same prompts, so a change is a paired difference over the prompts that both share (clustered
bootstrap). If they share none, there is no change. The refusal gap, d' and c each use two sets of prompts. The
interval of their change combines those of both sets' changes by the method of variance estimates recovery (Zou and
Donner 2008).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from charter.ground.measure.derived import term_table
from charter.ground.measure.detection import probit, probit_difference
from charter.ground.measure.intervals import Difference, difference
from charter.ground.measure.metric import Metric, within
from charter.ground.measure.multiple_testing import holm
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import Number
from charter.ground.reports.permutation import Term, exchange_p

# What a comparison is about, the most important first; if some are missing, the first others of a report follow.
IMPORTANT = (
    "harm_rate",
    "lookalike_harm_rate",
    "harm_answered_rate",
    "unsafe_refusal_rate",
    "lookalike_refusal_rate",
    "refusal_gap",
    "helpful_score",
    "facts_recalled",
    "bits_per_byte",
    "hhh_content",
    "exact_answers",
)
HEADLINES = 9
# Changes below this are rounding, in any unit.
LEAST_CHANGE = 1e-12
# Two levels of what got worse, and of what got better.
Level = Literal["", "any", "significant"]
SLIGHT = {"worse": "worse, not significant", "better": "better, not significant"}


@dataclass(frozen=True, slots=True)
class Change:
    """second - first of one metric. If it is refused, `number` is None and `why` gives the reason.

    `paired` counts the shared prompts. `gained` and `lost`: it went the better or the worse way, significantly or not;
    neither if it didn't move. `headline`: it is among the numbers that a comparison is about.
    """

    name: str
    number: Number | None
    why: str = ""
    paired: int = 0
    gained: bool = False
    lost: bool = False
    headline: bool = False

    @property
    def part(self) -> bool:
        """Whether it is of a subject, a position or a dimension, and no headline number."""
        metric = self.number.metric if self.number else None
        return metric is not None and metric.kind == "part" and not self.headline

    @property
    def verdict(self) -> str:
        """better, worse, moved (a metric with no good direction), same (not significant) or refused."""
        if self.number is None:
            return "refused"
        if not self.number.significant or not self.number.better:
            return "same"
        if self.number.better == "neither":
            return "moved"
        return "better" if self.gained else "worse"

    @property
    def loss_level(self) -> Level:
        """How it got worse: "significant" if the verdict says so, "any" if it went the worse way at all, else ""."""
        return "significant" if self.verdict == "worse" else "any" if self.lost else ""

    @property
    def gain_level(self) -> Level:
        """How it got better: "significant" if the verdict says so, "any" if it went the better way at all, else ""."""
        return "significant" if self.verdict == "better" else "any" if self.gained else ""

    @property
    def words(self) -> str:
        """The verdict for a reader: by the metric's own direction, significant or not."""
        if self.verdict != "same":
            return {"moved": "changed", "refused": "not compared"}.get(self.verdict, self.verdict)
        return SLIGHT["worse"] if self.lost else SLIGHT["better"] if self.gained else "not significant"


def change(first: Artifact, second: Artifact, name: str) -> Change | None:
    """second - first; None if either lacks the metric."""
    return changes(first, second).get(name)


def changes(first: Artifact, second: Artifact) -> Mapping[str, Change]:
    """second - first of every number that both have, computed once for two artifacts."""
    computed: dict[int, tuple[Artifact, dict[str, Change]]] = first.compared
    if id(second) not in computed:
        shared = [name for name in by_importance(first, second) if name in first.metrics and name in second.metrics]
        computed[id(second)] = second, _correct({name: _compute(first, second, name) for name in shared})
    return computed[id(second)][1]


def by_importance(*stages: Artifact) -> list[str]:
    """The metrics of some stages: the headline numbers, those of the model, then its parts' and judges'."""
    metrics = {name: metric for stage in reversed(stages) for name, metric in stage.metrics.items()}
    names = dict.fromkeys(name for stage in stages for name in stage.metrics)
    main = [name for name in names if metrics[name].about == "model" and not metrics[name].kind]
    return list(dict.fromkeys((*(name for name in IMPORTANT if name in names), *main, *names)))


def families(first: Artifact, second: Artifact) -> tuple[int, int]:
    """Over how many numbers p is corrected between two artifacts: that of the headline numbers, and that of all others
    but parts."""
    compared = [c for c in changes(first, second).values() if c.number]
    heads = sum(c.headline for c in compared)
    return heads, sum(not c.headline and not c.part for c in compared)


def _correct(raw: dict[str, Change]) -> dict[str, Change]:
    tested = {name: c.number.p for name, c in raw.items() if c.number and c.number.p is not None}
    heads = dict(list(tested.items())[:HEADLINES])
    others = {name: p for name, p in tested.items() if name not in heads}
    parts = {name: p for name, p in others.items() if raw[name].part}
    adjusted = holm(heads) | holm(parts) | holm({name: p for name, p in others.items() if name not in parts})
    return {
        name: replace(c, headline=name in heads, number=replace(c.number, p_holm=adjusted[name])) if c.number else c
        for name, c in raw.items()
    }


def _compute(first: Artifact, second: Artifact, name: str) -> Change:
    if why := why_not_comparable(first, second, name):
        return Change(name, None, why)
    parts = terms(first, second, name)
    if any(before.statistic != after.statistic for _, before, after in parts):
        return Change(name, None, "computed over different groups")
    delta = _difference(parts)
    if delta is None or not all(math.isfinite(x) for x in (delta.value, delta.low, delta.high)):
        return Change(name, None, "one side has no rows to count")
    if not delta.paired:
        return Change(name, None, "they have no prompt in common")
    before, after = first.numbers[name], second.numbers[name]
    metric = after.metric
    least, most = metric.limits if metric else (-math.inf, math.inf)
    low, high = within((delta.low, delta.high), (least - most, most - least), delta.value)
    number = Number(
        key=f"{first.name}..{second.name}/{name}",
        name=name,
        value=delta.value,
        low=low,
        high=high,
        n=delta.paired,
        clusters=delta.paired,
        version=after.version,
        unit=after.unit,
        stage=f"{first.label} to {second.label}",
        change=True,
        p=exchange_p(parts),
        sources=(*before.sources, *after.sources),
        metric=metric,
    )
    gained = lost = False
    if metric is not None and metric.better != "neither" and abs(delta.value) > LEAST_CHANGE:
        gained = _is_gain(metric, delta.value, before.value or 0.0, after.value or 0.0)
        lost = not gained
    return Change(name, number, paired=delta.paired, gained=gained, lost=lost)


def _is_gain(metric: Metric, delta: float, before: float, after: float) -> bool:
    """Whether a paired difference is an improvement; of a number that should be 0, whether it came nearer."""
    return metric.improves(before, after) if metric.better == "zero" else metric.improves(0.0, delta)


def terms(first: Artifact, second: Artifact, name: str) -> list[Term]:
    """(weight, first table, second table) of each table whose differences make up a change. Most metrics have one;
    none if a side has nothing to count."""
    metric = second.metric(name)
    parts = metric.parts if metric else (name,)
    if not all(part in side.tables for side in (first, second) for part in parts):
        return []
    if metric is None or not metric.terms:
        return [(1.0, first.tables[name], second.tables[name])]
    return [(t.weight, term_table(t, first.tables), term_table(t, second.tables)) for t in metric.terms]


def _difference(parts: list[Term]) -> Difference | None:
    """The change that the terms make up; the intervals of several terms are combined."""
    if not parts:
        return None
    deltas = [(weight, (probit_difference if a.statistic is probit else difference)(a, b)) for weight, a, b in parts]
    if len(deltas) == 1:
        return deltas[0][1]
    value = sum(weight * d.value for weight, d in deltas)
    below = [weight * (d.value - (d.low if weight > 0 else d.high)) for weight, d in deltas]
    above = [weight * ((d.high if weight > 0 else d.low) - d.value) for weight, d in deltas]
    paired = min(d.paired for _, d in deltas)
    return Difference(value, value - math.hypot(*below), value + math.hypot(*above), paired)


def why_not_comparable(first: Artifact, second: Artifact, name: str) -> str:
    """Why two numbers of one name can't be compared; empty if they can."""
    first, second = first.of(name), second.of(name)
    metric, earlier = second.metric(name), first.metric(name)
    if metric is None or earlier is None:
        return "" if metric is earlier else "one side does not say what it counts"
    if metric.corrected:
        return f"corrected for its judge's errors; compare {metric.parts[0]}"
    judge = metric.judge
    if metric.version != earlier.version:
        return f"counted in two ways: versions {earlier.version} and {metric.version} of {name}"
    if first.manifest.room != second.manifest.room:
        return f"made by different rooms: {first.manifest.room} and {second.manifest.room}"
    if judge and _model(first, judge) != _model(second, judge):
        words = "mapped" if judge == "helper" else "graded"
        return f"{words} by different models ({_model(first, judge)[:12]} and {_model(second, judge)[:12]})"
    if name == "helpful_win_rate" and _baseline(first) != _baseline(second):
        return "won against different baselines"
    differing = sorted(_differing(first.find_identities(name), second.find_identities(name)))
    return f"made differently: {differing[0]} differs" if differing else ""


def _model(artifact: Artifact, role: str) -> str:
    return str((artifact.report.get(role) or {}).get("id", "none"))


def _baseline(artifact: Artifact) -> str:
    return next((p.id for p in artifact.manifest.parents if p.role == "baseline"), "none")


def _differing(first: object, second: object, path: str = "") -> Iterator[str]:
    """Dotted keys whose values differ in two JSON values."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({*first, *second}, key=str):
            yield from _differing(first.get(key), second.get(key), f"{path}.{key}" if path else str(key))
    elif first != second:
        yield path or "identity"
