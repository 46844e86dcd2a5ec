"""Compares versions: paired differences, corrected for their number, with regressions named.

Two versions are runs, cards or reports. More of them, or the stages of one card, are each compared with the one
before. p-values come from exchanging the answers to prompts that changed (`permutation`), and are corrected over the
numbers that the two versions share (`changes`). Rows that can't be compared stay, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.changes import Change, by_importance, change, families
from charter.ground.reports.judges import unfit
from charter.ground.reports.number import Number, figure, interval
from charter.ground.reports.stages import final_stage, stages_at

Row = dict[str, Any]


def compare(places: Sequence[Path]) -> dict[str, Any]:
    """The final stages of several places, or the stages of one place's card, oldest first.

    versions: their names. same: every version is the same report. corrected_over: for each step over how many numbers p
    is corrected, that of headline numbers and that of others. metrics: a row for each, the most important first.

    Of two versions, a row: metric, label, better, headline, words (a, b and the change as a card prints them), a,
    a_interval, b, b_interval, difference (b - a), interval, paired (prompts that both answered), p_holm, verdict
    ("better", "worse", "changed", "not significant", or "not compared: ..." with the reason), drop ("significant"
    if the verdict is worse, "any" if it went the worse way at all, else ""), gain (likewise of the better way),
    regression (a significant drop), unfit (a grader that failed its fitness gate, or is unfit for harm, gave a or b),
    a_n and b_n (the rows behind a and b), size (both in words).

    Of more, a row: metric, label, better, headline, values, intervals, n, words (one a version), steps (rows as above,
    each version against the nearest earlier one that has the metric), overall (from the first that has it to the last
    version; corrected_over ends with it), drop (the gravest of the steps and the whole), dropped (it is significant).

    Raises CharterError if a place has no report, or several and no card that says which is final, if another version of
    the measures made it, and if one place has only one stage.
    """
    stages = stages_at(places[0]) if len(places) == 1 else tuple(final_stage(place) for place in places)
    if len(stages) < 2:
        raise CharterError(f"{places[0]} has one stage; name another run, card or report to compare it with")
    labels = [stage.label for stage in stages]
    several = len(stages) > 2
    pairs = [*pairwise(stages), *([(stages[0], stages[-1])] if several else [])]
    by_name = compare_stages(stages, overall=several)
    return {
        "versions": labels if len({*labels}) == len(labels) else list(map(str, places)),
        "same": len({tuple(_content(report) for report in (s, *s.beside)) for s in stages}) == 1,
        "corrected_over": [families(*pair) for pair in pairs],
        "metrics": [_track(stages, name, rows) if several else rows[0] for name, rows in by_name.items()],
    }


def _content(report: Artifact) -> tuple[str, ...]:
    return report.manifest.id, *(file.sha256 for file in report.manifest.files)


def _track(stages: Sequence[Artifact], name: str, rows: Sequence[Row]) -> Row:
    """The row of one metric over all stages; `rows` has its steps, and from first to last."""
    numbers = [stage.numbers.get(name) for stage in stages]
    return {
        **{key: rows[-1][key] for key in ("metric", "label", "better", "headline")},
        "values": [n.value if n else None for n in numbers],
        "intervals": [_ends(n) for n in numbers],
        "n": [n.n if n else None for n in numbers],
        "words": [figure(n.value, n.unit) if n else "" for n in numbers],
        "steps": rows[:-1],
        "overall": rows[-1],
        "drop": next((level for level in ("significant", "any") if any(r["drop"] == level for r in rows)), ""),
        "dropped": any(row["regression"] for row in rows),
    }


def compare_stages(stages: Sequence[Artifact], overall: bool = False) -> dict[str, list[Row]]:
    """Metric -> a row for each stage after the first, against the nearest earlier one that has the metric; the most
    important metrics first, and those by an unfit grader behind all others that matter as much.

    With `overall`, one more row compares the first stage that has it with the last stage.
    """
    rows = {
        name: [_row(name, a, b, change(a, b, name)) for a, b in _pairs(stages, name, overall)]
        for name in by_importance(*stages)
    }
    behind = {name: (not any(r["headline"] for r in of), any(r["unfit"] for r in of)) for name, of in rows.items()}
    return {name: rows[name] for name in sorted(rows, key=lambda name: behind[name])}


def _pairs(stages: Sequence[Artifact], name: str, overall: bool) -> list[tuple[Artifact, Artifact]]:
    """The pairs of stages that are compared for one metric, see `compare_stages`."""
    before = stages[0]
    pairs = []
    for first, second in pairwise(stages):
        before = first if name in first.numbers else before
        pairs.append((before, second))
    first = next(stage for stage in stages if name in stage.numbers)
    return pairs + ([(first, stages[-1])] if overall else [])


def _row(name: str, first: Artifact, second: Artifact, delta: Change | None) -> Row:
    a, b = first.numbers.get(name), second.numbers.get(name)
    number = delta.number if delta is not None else None
    verdict = _verdict(delta, a, b)
    metric = second.metric(name) or first.metric(name)
    return {
        "metric": name,
        "label": metric.label if metric else name,
        "better": metric.better if metric else "neither",
        "headline": delta is not None and delta.headline,
        "words": [
            *(figure(n.value, n.unit) if n else "" for n in (a, b)),
            f"{figure(number.value, number.unit, True)} ({interval(number)})" if number else "",
        ],
        "a": a.value if a else None,
        "a_interval": _ends(a),
        "b": b.value if b else None,
        "b_interval": _ends(b),
        "difference": number.value if number else None,
        "interval": _ends(number),
        "a_n": a.n if a else None,
        "b_n": b.n if b else None,
        "size": " → ".join(dict.fromkeys(n.size for n in (a, b) if n and n.size)),
        "paired": delta.paired if delta is not None and number else None,
        "p_holm": number.p_holm if number else None,
        "verdict": verdict,
        "drop": delta.loss_level if delta is not None else "",
        "gain": delta.gain_level if delta is not None else "",
        "regression": verdict == "worse",
        "unfit": any(unfit(side, name) for side in (first, second)),
    }


def _verdict(delta: Change | None, a: Number | None, b: Number | None) -> str:
    if a is None and b is None:
        return "not compared: neither has it"
    if delta is None:
        return f"not compared: only {'the first' if b is None else 'the second'} has it"
    if delta.number is None:
        return f"not compared: {delta.why}"
    return {"same": "not significant", "moved": "changed"}.get(delta.verdict, delta.verdict)


def _ends(number: Number | None) -> list[float] | None:
    return [number.low, number.high] if number and number.low is not None and number.high is not None else None
