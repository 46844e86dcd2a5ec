"""The release gate: which evaluations a version needs, and how much worse than its baseline each may be.

Let w be the change of a metric in its worse direction (for a bias score, how much further from 0 it is) and m its
margin, both in the metric's own unit:

    proven (default)   fails if w > m and Holm's p over all required metrics is below 0.05
    strict             passes only if the bad end of w's 95 % interval is at most m (non-inferiority)

The default passes what was not shown to be worse, so few prompts pass easily. The strict rule passes what was shown
not to be worse, so few prompts fail. A metric that is missing, comes from an unfit grader or can't be compared fails
under both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.notation import read_settings
from charter.rooms.card.artifact import Artifact
from charter.rooms.card.changes import Change, change
from charter.rooms.card.compare import correct_p_values, final_stage
from charter.rooms.card.number import ALPHA, Number, figure
from charter.rooms.card.sections import unfit

Row = dict[str, Any]


class Rules(Frozen):
    """The rules of a release. `require` is a list of metrics, or maps metrics to margins of their own."""

    baseline: str = Field(
        "", description="run, card or report that the release is compared with; empty: none"
    )
    require: dict[str, float | None] = Field(default_factory=dict, description="metric: its margin, or null")
    margin: float = Field(0.0, ge=0, description="how much worse a metric without its own margin may be")
    strict: bool = Field(False, description="pass only metrics shown not to be worse than the margin")

    @field_validator("require", mode="before")
    @classmethod
    def _accept_list(cls, value: object) -> object:
        names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return dict.fromkeys(value) if names else value  # type: ignore[call-overload]


def read_rules(path: Path) -> Rules:
    """Reads rules from a YAML file. Raises CharterError of one line if it is missing, damaged or has an unknown
    rule."""
    return read_settings(path, Rules, "file of rules", "require: [METRIC, ...]")


def gate(place: Path, rules: Rules) -> list[Row]:
    """A row for each required evaluation of a run, card or report, in the order of the rules.

    A row: metric, passed, why (empty if it passed), value, baseline, worse_by (positive is worse), interval of it,
    margin, p_holm. Without a baseline, only presence and the graders' fitness are checked. Raises CharterError for
    rules without a requirement, for a metric that has no worse direction, and as `compare` does.
    """
    if not rules.require:
        raise CharterError(
            "the gate asks for nothing; name the evaluations that a release needs: --require harm_rate"
        )
    release = final_stage(place)
    for name, margin in rules.require.items():
        _check(name, margin, release, bool(rules.baseline))
    if not rules.baseline:
        return [_row(name, release, _absent(name, release)) for name in rules.require]
    before = final_stage(Path(rules.baseline))
    changes = {name: change(before, release, name) for name in rules.require}
    adjusted = correct_p_values(changes)
    return [
        _judge_metric(name, (before, release), changes[name], adjusted.get(name), rules)
        for name in rules.require
    ]


def _check(name: str, margin: float | None, release: Artifact, compared: bool) -> None:
    """Raises CharterError for a metric that the gate can't check."""
    metric = release.metric(name)
    if margin is not None and not margin >= 0:
        raise CharterError(f"the margin of {name} is {margin}; give how much worse it may be, 0 or more")
    if compared and metric is not None and metric.better == "neither":
        raise CharterError(f"{name} has no worse direction, so it can't regress; leave it out of the gate")


def _nearest(name: str, known: list[str]) -> str:
    """The metric that was probably meant, or those of the evaluation that was; empty if none is near."""
    parts = [metric for metric in known if metric.startswith(f"{name}_")]
    if parts:
        return f"; name one of its own: {', '.join(parts[:4])}{' ...' if len(parts) > 4 else ''}"
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _absent(name: str, release: Artifact) -> str:
    """Why a required number doesn't count by itself; empty if it does."""
    number = release.numbers.get(name)
    if number is None or number.value is None:
        return f"missing: no report on {release.label} has it{_nearest(name, list(release.metrics))}"
    return "graded by a model that failed its fitness gate" if unfit(release, name) else ""


def _judge_metric(
    name: str, sides: tuple[Artifact, Artifact], delta: Change | None, p: float | None, rules: Rules
) -> Row:
    """The row of a metric with a baseline."""
    before, release = sides
    if why := _absent(name, release):
        return _row(name, release, why, before)
    if delta is None:
        return _row(name, release, "the baseline lacks it", before)
    if unfit(before, name):
        return _row(name, release, "the baseline's grader failed its fitness gate", before)
    if delta.number is None:
        return _row(name, release, f"not compared: {delta.why}", before)
    number, own = delta.number, rules.require[name]
    margin = rules.margin if own is None else own
    value, low, high = _worsened(number, before.numbers[name], release.numbers[name])
    ends = (figure(x, number.unit, signed=True, bare=True) for x in (low, high))
    allowed = figure(margin, number.unit, signed=True).removeprefix("+")
    shift = (
        f"{'worse' if value >= 0 else 'better'} by {figure(abs(value), number.unit, signed=True).lstrip('+')}"
    )
    words = f"{shift} (95 % interval of what it is worse by: {' to '.join(ends)})"
    why = ""
    if rules.strict and high > margin:
        why = f"not shown to be within {allowed}: {words}"
    elif not rules.strict and value > margin and p is not None and p < ALPHA:
        why = f"regressed beyond {allowed}: {words}, p {p:.2g}"
    facts = {"worse_by": value, "interval": [low, high], "margin": margin, "p_holm": p}
    return _row(name, release, why, before, facts)


def _worsened(change: Number, before: Number, after: Number) -> tuple[float, float, float]:
    """w and its interval: the change in its worse direction.

    For a score that should be 0, w is how much further from 0 it is. If it changed sign, the intervals of both
    distances are combined (Zou and Donner 2008).
    """
    value, low, high = (float(x) for x in (change.value or 0.0, change.low or 0.0, change.high or 0.0))
    better = change.better
    was, is_now = before.value or 0.0, after.value or 0.0
    if better == "zero" and was * is_now < 0:
        (a, a_low, a_high), (b, b_low, b_high) = map(_distance, (before, after))
        return b - a, b - a - math.hypot(a_high - a, b - b_low), b - a + math.hypot(b_high - b, a - a_low)
    if better == "higher" or (better == "zero" and (is_now or was) < 0):
        return -value, -high, -low
    return value, low, high


def _distance(number: Number) -> tuple[float, float, float]:
    """How far a score is from 0, at least and at most by its interval. Without one, the limits are those of a bias
    score."""
    value = number.value or 0.0
    low, high = (-1.0 if number.low is None else number.low), (1.0 if number.high is None else number.high)
    return abs(value), max(0.0, low, -high), max(-low, high)


def _row(
    name: str,
    release: Artifact,
    why: str,
    before: Artifact | None = None,
    facts: Mapping[str, object] | None = None,
) -> Row:
    values = [side.numbers.get(name) if side else None for side in (release, before)]
    value, baseline = (number.value if number else None for number in values)
    nothing = dict.fromkeys(("worse_by", "interval", "margin", "p_holm"))
    return (
        {"metric": name, "passed": not why, "why": why, "value": value, "baseline": baseline}
        | nothing
        | dict(facts or {})
    )
