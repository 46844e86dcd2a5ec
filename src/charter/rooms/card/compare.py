"""Compares versions: paired differences, corrected for their number, with regressions named.

Two versions are runs, cards or reports. More of them, or the stages of one card, are each compared with the one
before. p-values come from exchanging the answers to prompts that changed (`measure.permutation`). Holm's method (1979)
corrects them over all changes of one call. Rows that can't be compared stay, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST, Manifest
from charter.ground.artifact.store import read_manifest
from charter.ground.measure.multiple_testing import holm
from charter.rooms.card.artifact import Artifact
from charter.rooms.card.changes import Change, change
from charter.rooms.card.gather import (
    as_stage,
    by_decoding,
    final_of,
    on_a_model,
    stages_of,
)
from charter.rooms.card.number import ALPHA, Number
from charter.rooms.card.sections import unfit

Row = dict[str, Any]
Key = TypeVar("Key")


def compare(a: Path, b: Path) -> list[Row]:
    """Rows of the final stages of two places, in the order of all metrics; b - a.

    A row: metric, a, a_interval, b, b_interval, difference, interval, paired (prompts that both answered), p_holm,
    verdict ("better", "worse", "changed", "not significant", or "not compared: ..." with the reason), regression,
    unfit (a grader that failed its fitness gate gave a or b). Raises CharterError if a place has no report, or several
    and no card that says which is final, or if another version of the measures made it.
    """
    return [rows[0] for rows in compare_stages([final_stage(a), final_stage(b)]).values()]


def track(places: Sequence[Path]) -> tuple[list[str], list[Row]]:
    """(versions, rows) of several places, or of the stages of one place's card, oldest first.

    A row: metric, values, intervals (one a version), steps (rows as `compare` gives them, each version against the
    nearest earlier one that has the metric), overall (from the first that has it to the last version), dropped (a step
    or the whole is a regression). Raises CharterError as `compare` does, and if one place has only one stage.
    """
    stages = _stages(places[0]) if len(places) == 1 else tuple(final_stage(place) for place in places)
    labels = [f"{place} ({stage.label})" for place, stage in zip(places, stages, strict=False)]
    if len(places) == 1:
        labels = [stage.label for stage in stages]
    if len(stages) < 2:
        raise CharterError(f"{places[0]} has one stage; name another run, card or report to compare it with")
    rows = []
    for name, comparisons in compare_stages(stages, overall=len(stages) > 2).items():
        steps, overall = comparisons[: len(stages) - 1], comparisons[-1]
        numbers = [stage.numbers.get(name) for stage in stages]
        rows.append(
            {
                "metric": name,
                "values": [n.value if n else None for n in numbers],
                "intervals": [_ends(n) for n in numbers],
                "steps": steps,
                "overall": overall,
                "dropped": any(row["regression"] for row in (*steps, overall)),
            }
        )
    return labels, rows


def compare_stages(stages: Sequence[Artifact], overall: bool = False) -> dict[str, list[Row]]:
    """Metric -> a row for each stage after the first, against the nearest earlier one that has the metric.

    With `overall`, one more row compares the first stage that has it with the last stage.
    """
    names = list(dict.fromkeys(name for stage in stages for name in stage.metrics))
    pairs = {name: _pairs(stages, name, overall) for name in names}
    changes = {(name, i): change(a, b, name) for name in names for i, (a, b) in enumerate(pairs[name])}
    adjusted = correct_p_values(changes)
    return {
        name: [
            _row(name, *pair, changes[name, i], adjusted.get((name, i))) for i, pair in enumerate(pairs[name])
        ]
        for name in names
    }


def _pairs(stages: Sequence[Artifact], name: str, overall: bool) -> list[tuple[Artifact, Artifact]]:
    """The pairs of stages that are compared for one metric, see `compare_stages`."""
    before = stages[0]
    pairs = []
    for first, second in pairwise(stages):
        before = first if name in first.numbers else before
        pairs.append((before, second))
    first = next(stage for stage in stages if name in stage.numbers)
    return pairs + ([(first, stages[-1])] if overall else [])


def final_stage(place: Path) -> Artifact:
    """The stage of a report folder, of a card (its last) or of a run directory (the last of its card)."""
    return _stages(place, last=True)[-1]


def _stages(place: Path, last: bool = False) -> tuple[Artifact, ...]:
    """The stages of a card, or only its `last`; a report is a stage by itself."""
    if place.is_file():
        place = place.parent
    if not (place / MANIFEST).is_file():
        return _of_run(place, last)
    manifest = read_manifest(place)
    if manifest.kind == "card":
        return (final_of(place, {}),) if last else stages_of(place, manifest, {})
    if manifest.kind != "report":
        raise CharterError(f"{place} is a {manifest.kind}; name a run directory, a card or a report")
    return (as_stage(manifest, place, manifest.step),)


def _of_run(run: Path, last: bool) -> tuple[Artifact, ...]:
    """The stages of a run: those of its newest card, else the one stage that its reports are on."""
    folders = sorted(p.parent for p in run.glob(f"*/{MANIFEST}") if not p.parent.name.startswith("."))
    manifests = {folder: read_manifest(folder) for folder in folders}
    cards = {folder: m for folder, m in manifests.items() if m.kind == "card"}
    older = {parent.id for m in cards.values() for parent in m.parents}
    newest = [folder for folder, m in cards.items() if m.id not in older]
    if newest:
        return _stages(_only(run, newest, "cards"), last)
    reports = {folder: m for folder, m in manifests.items() if on_a_model(m)}
    if not reports:
        raise CharterError(f"{run} has neither a card nor a report; run a recipe with an evaluate step")
    return (_join_reports(run, reports),)


def _join_reports(run: Path, reports: Mapping[Path, Manifest]) -> Artifact:
    """The one stage that the reports of a run are on."""
    stages, _ = by_decoding(
        [as_stage(manifest, folder, manifest.step) for folder, manifest in reports.items()]
    )
    if len(stages) != 1:
        _only(run, list(reports), "reports")
    return stages[0]


def _only(run: Path, folders: Sequence[Path], kinds: str) -> Path:
    if len(folders) > 1:
        raise CharterError(
            f"{run} has {len(folders)} {kinds}; name one: {', '.join(str(run / f.name) for f in folders)}"
        )
    return folders[0]


def correct_p_values(changes: Mapping[Key, Change | None]) -> dict[Key, float]:
    """p of each change that has one, corrected for the number of changes."""
    return holm({key: c.number.p for key, c in changes.items() if c and c.number and c.number.p is not None})


def _row(name: str, first: Artifact, second: Artifact, delta: Change | None, p: float | None) -> Row:
    a, b = first.numbers.get(name), second.numbers.get(name)
    number = delta.number if delta is not None else None
    verdict = _verdict(name, delta, p, a, b)
    return {
        "metric": name,
        "a": a.value if a else None,
        "a_interval": _ends(a),
        "b": b.value if b else None,
        "b_interval": _ends(b),
        "difference": number.value if number else None,
        "interval": _ends(number),
        "paired": delta.paired if delta is not None and number else None,
        "p_holm": p,
        "verdict": verdict,
        "regression": verdict == "worse",
        "unfit": any(side.numbers.get(name) and unfit(side, name) for side in (first, second)),
    }


def _verdict(name: str, delta: Change | None, p: float | None, a: Number | None, b: Number | None) -> str:
    if a is None and b is None:
        return "not compared: neither has it"
    if delta is None:
        return f"not compared: only {'the first' if b is None else 'the second'} has it"
    if delta.number is None:
        return f"not compared: {delta.why}"
    value = delta.number.value
    if p is None or p >= ALPHA or value is None or not delta.number.better:
        return "not significant"
    if delta.number.better == "neither":
        return "changed"
    return "better" if delta.gained else "worse"


def _ends(number: Number | None) -> list[float] | None:
    return (
        [number.low, number.high] if number and number.low is not None and number.high is not None else None
    )
