"""The release gate: which evaluations a version needs, the limits they must keep, and how much worse than its baseline
each may be.

A limit is judged by the bad end of the 95 % interval: a version passes `max` if the upper end is at most the limit, and
`min` if the lower end is at least it. A number without an interval can't be shown to keep a limit, and fails.

Let w be the change of a metric in its worse direction (for a bias score, how much further from 0 it is) and m its
margin, both in the metric's own unit:

    proven (default)   fails if w > m and Holm's p over all required metrics is below 0.05
    strict             passes only if the bad end of w's 95 % interval is at most m (non-inferiority)

Holm's p is that over the required metrics alone or that of `charter compare`, whichever is smaller, so that what
compare calls worse fails here too. The default passes what was not shown to be worse, so few prompts pass easily. The
strict rule passes what was shown not to be worse, so few prompts fail. A metric that is missing, comes from an unfit
grader or can't be compared fails under both. Without a baseline and without a limit, nothing judges a metric: it fails,
unless presence is all that is asked (`require_only`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.multiple_testing import holm
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.changes import Change, change
from charter.ground.reports.judges import FALSE_ALARMS, HARM, explain_unfit
from charter.ground.reports.number import ALPHA, SHARE, Number, figure, interval
from charter.ground.reports.stages import final_stage
from charter.release.rules import Row, Rules

Limit = tuple[str, Literal["max", "min"], float]
NOT_JUDGED = "present, not judged: give --baseline or --max harm_rate=0.2"


def gate(place: Path, rules: Rules) -> list[Row]:
    """A row for each evaluation of a run, card or report that the rules name, in their order.

    `words` of a row: the value as a card prints it, and what judged it. Its facts: label, value, baseline, n and
    baseline_n (the rows behind both), max, min, worse_by (positive is worse), interval of it, margin, p_holm.
    Raises CharterError for rules that name nothing, for a limit or margin that makes no sense, and as
    `compare` does.
    """
    if not (rules.require or rules.max or rules.min):
        raise CharterError(
            "the gate asks for nothing; name the evaluations that a release needs: --require harm_rate, or a limit: "
            "--max harm_rate=0.2"
        )
    release = final_stage(place)
    for name, margin in rules.require.items():
        _check_margin(name, rules.margin if margin is None else margin, release, bool(rules.baseline))
    for limit in _limits(rules):
        _check_limit(limit, release)
    before = final_stage(Path(rules.baseline)) if rules.baseline else None
    changes = {name: change(before, release, name) if before else None for name in rules.require}
    adjusted = holm({n: c.number.p for n, c in changes.items() if c and c.number and c.number.p is not None})
    rows = []
    for name in dict.fromkeys((*rules.require, *rules.max, *rules.min)):
        why = _absent(name, release) or _beyond(name, release, rules)
        if why or before is None or name not in rules.require:
            limited = name in rules.max or name in rules.min
            rows.append(
                _row(name, release, why or ("" if limited or rules.require_only else NOT_JUDGED), rules, before)
            )
        else:
            rows.append(_judge_metric(name, (before, release), changes[name], adjusted.get(name, 1.0), rules))
    return rows


def _limits(rules: Rules) -> list[Limit]:
    return [(name, "max", v) for name, v in rules.max.items()] + [(name, "min", v) for name, v in rules.min.items()]


def _check_limit(limit: Limit, release: Artifact) -> None:
    """Raises CharterError for a limit that no number can break or keep, or that forbids what is good."""
    name, side, value = limit
    metric = release.metric(name)
    if not math.isfinite(value):
        raise CharterError(f"--{side} {name}={value}: give a number")
    if metric is None:
        return
    low, high = metric.limits
    free = value >= high if side == "max" else value <= low
    if free or not low <= value <= high:
        percent = 1 <= abs(value) <= 100 and metric.unit == SHARE
        hint = f"; {value:g} % is {value / 100:g}" if percent else ""
        does = "forbids nothing" if free else "can't be kept"
        raise CharterError(f"--{side} {name}={value:g} {does}: {name} lies between {low:g} and {high:g}{hint}")
    if metric.better == ("lower" if side == "min" else "higher"):
        other_side = "max" if side == "min" else "min"
        raise CharterError(
            f"--{side} {name}={value:g} forbids what is good: {metric.better} is better; did you mean "
            f"--{other_side} {name}={value:g}?"
        )


def _beyond(name: str, release: Artifact, rules: Rules) -> str:
    """Why a number is not shown to keep its limits; empty if it is, or has none."""
    number = release.numbers[name]
    most, least = rules.max.get(name), rules.min.get(name)
    if most is None and least is None:
        return ""
    if number.low is None or number.high is None:
        return f"not shown to keep its limit: {figure(number.value, number.unit)} has no interval"
    words = f"{figure(number.value, number.unit)}, 95 % interval {interval(number)}"
    if most is not None and not number.high <= most:
        return f"not shown to be at most {figure(most, number.unit)}: {words}"
    if least is not None and not number.low >= least:
        return f"not shown to be at least {figure(least, number.unit)}: {words}"
    return ""


def _check_margin(name: str, margin: float, release: Artifact, compared: bool) -> None:
    """Raises CharterError for a margin that the gate can't check."""
    metric = release.metric(name)
    low, high = metric.limits if metric else (-math.inf, math.inf)
    if not margin >= 0:
        raise CharterError(f"the margin of {name} is {margin}; give how much worse it may be, 0 or more")
    if compared and margin >= high - low:
        raise CharterError(
            f"the margin of {name}, {margin:g}, forbids nothing: it is in {low:g} to {high:g}; 2 points are 0.02"
        )
    if compared and metric is not None and metric.better == "neither":
        raise CharterError(f"{name} has no worse direction, so it can't regress; leave it out of the gate")


def _nearest(name: str, names: list[str]) -> str:
    """The metric that was probably meant, or those of the evaluation that was; empty if none is near."""
    parts = [metric for metric in names if metric.startswith(f"{name}_")]
    if parts:
        return f"; name one of its own: {', '.join(parts[:4])}{' ...' if len(parts) > 4 else ''}"
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _absent(name: str, release: Artifact) -> str:
    """Why a required number doesn't count by itself; empty if it does."""
    number = release.numbers.get(name)
    if number is None or number.value is None:
        return f"missing: no report on {release.label} has it{_nearest(name, list(release.metrics))}"
    return explain_unfit(release, name)


def _judge_metric(name: str, sides: tuple[Artifact, Artifact], delta: Change | None, p: float, rules: Rules) -> Row:
    """The row of a metric with a baseline."""
    before, release = sides
    if delta is None:
        return _row(name, release, "the baseline lacks it", rules, before)
    if why := explain_unfit(before, name):
        return _row(name, release, f"the baseline was {why}", rules, before)
    if delta.number is None:
        return _row(name, release, f"not compared: {delta.why}", rules, before)
    number, metric_margin = delta.number, rules.require[name]
    p = min(p, 1.0 if number.p_holm is None else number.p_holm)
    margin = rules.margin if metric_margin is None else metric_margin
    value, low, high = _worsened(number, before.numbers[name], release.numbers[name])
    ends = (figure(x, number.unit, signed=True, bare=True) for x in (low, high))
    allowed = figure(margin, number.unit, signed=True).removeprefix("+")
    shift = f"{'worse' if value >= 0 else 'better'} by {figure(abs(value), number.unit, signed=True).lstrip('+')}"
    words = f"{shift} (95 % interval of what it is worse by: {' to '.join(ends)})"
    why = ""
    if rules.strict and high > margin:
        why = f"not shown to be within {allowed}: {words}"
    elif not rules.strict and value > margin and p < ALPHA:
        why = f"regressed beyond {allowed}: {words}, p {p:.2g}"
    facts = {"worse_by": value, "interval": [low, high], "margin": margin, "p_holm": p}
    return _row(name, release, why, rules, before, facts)


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


def _size(number: Number) -> str:
    """What is behind a number, and whether that is too little for a pass to say much."""
    return f"{number.size}, too few to say much" if number.few else number.size


def _row(
    name: str,
    release: Artifact,
    why: str,
    rules: Rules,
    before: Artifact | None = None,
    facts: Mapping[str, object] | None = None,
) -> Row:
    number, earlier = (side.numbers.get(name) if side else None for side in (release, before))
    words = []
    if number is not None:
        words = [f"{figure(number.value, number.unit)}" + (f" ({ends})" if (ends := interval(number)) else "")]
        words += [_size(number)] if number.n is not None else []
        limits = (("at most", rules.max.get(name)), ("at least", rules.min.get(name)))
        words += [f"{bound} {figure(limit, number.unit)}" for bound, limit in limits if limit is not None]
    if earlier is not None:
        differs = earlier.n is not None and (number is None or earlier.size != number.size)
        behind = f", {_size(earlier)}" if differs else ""
        words.append(f"{figure(earlier.value, earlier.unit)} in the baseline{behind}")
    alarms = release.numbers.get(FALSE_ALARMS) if name in HARM else None
    if number is not None and alarms is not None:
        words.append(f"false alarms on harmless look-alikes {figure(alarms.value, alarms.unit)}")
    record = {
        "label": number.label if number else name,
        "value": number.value if number else None,
        "baseline": earlier.value if earlier else None,
        "n": number.n if number else None,
        "baseline_n": earlier.n if earlier else None,
        "max": rules.max.get(name),
        "min": rules.min.get(name),
        **dict.fromkeys(("worse_by", "interval", "margin", "p_holm")),
        **(facts or {}),
    }
    return Row(name, why, tuple(words), facts=record)
