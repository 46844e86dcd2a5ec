"""Two runs, cards or reports side by side: paired differences, corrected for their number, regressions named.

p-values come from exchanging the answers of prompts that changed (`measure.permutation`); they are corrected by Holm
1979 over all rows compared. Rows that can't be compared stay, with the reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from charter.card.changes import Change, change
from charter.card.gather import Artifact
from charter.card.number import ALPHA, Number, metric_of
from charter.card.sections import unfit
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest
from charter.ground.measure.metrics import GAP, METRICS

Row = dict[str, Any]


def compare(a: Path, b: Path) -> list[Row]:
    """Rows of the final reports of two places, in the order of METRICS; b - a.

    A row: metric, a, a_interval, b, b_interval, difference, interval, paired (prompts that both answered),
    p_holm, verdict ("better", "worse", "changed", "not significant", or "not compared: ..." with the reason),
    regression, unfit (a grader that failed its fitness gate gave a or b). Raises CharterError where a place has no
    report, or several and no card that says which is final, or where another version of the measures made it.
    """
    first, second = final_report(a), final_report(b)
    names = [m.name for m in (*METRICS, GAP) if m.name in first.numbers or m.name in second.numbers]
    changes = {name: change(first, second, name) for name in names}
    raw = {n: c.number.p for n, c in changes.items() if c and c.number and c.number.p is not None}
    adjusted = holm(raw)
    return [_row(name, first, second, changes[name], adjusted.get(name)) for name in names]


def final_report(place: Path) -> Artifact:
    """The report that stands for a report folder, a card (its last report) or a run directory (by its
    card)."""
    if place.is_file():
        place = place.parent
    if not (place / MANIFEST).is_file():
        return _of_run(place)
    manifest = read_manifest(place)
    if manifest.kind == "card":
        reports = [p for p in manifest.parents if p.role == "reports"]
        if not reports:
            raise CharterError(f"the card {place} names no report")
        manifest, place = find_parent(run_of(place), reports[-1])
    if manifest.kind != "report":
        raise CharterError(f"{place} is a {manifest.kind}; compare takes run directories, cards and reports")
    return Artifact(
        manifest.step, place, manifest, str(manifest.resolved.get("stage") or manifest.step), manifest.step
    )


def _of_run(run: Path) -> Artifact:
    folders = sorted(p.parent for p in run.glob(f"*/{MANIFEST}") if not p.parent.name.startswith("."))
    for kind in ("card", "report"):
        found = [f for f in folders if read_manifest(f).kind == kind]
        if len(found) == 1:
            return final_report(found[0])
        if found:
            raise CharterError(
                f"{run} has {len(found)} {kind}s; name one: {', '.join(f.name for f in found)}"
            )
    raise CharterError(f"{run} has neither a card nor a report; run a recipe with an evaluate step")


def holm(raw: dict[str, float]) -> dict[str, float]:
    """Holm's step-down correction: p-values that stay valid over all of them together."""
    found: dict[str, float] = {}
    highest = 0.0
    for place, (name, p) in enumerate(sorted(raw.items(), key=lambda entry: entry[1])):
        highest = max(highest, min(1.0, p * (len(raw) - place)))
        found[name] = highest
    return found


def _row(name: str, first: Artifact, second: Artifact, found: Change | None, p: float | None) -> Row:
    a, b = first.numbers.get(name), second.numbers.get(name)
    number = found.number if found is not None else None
    verdict = _verdict(name, found, p, a, b)
    return {
        "metric": name,
        "a": a.value if a else None,
        "a_interval": _ends(a),
        "b": b.value if b else None,
        "b_interval": _ends(b),
        "difference": number.value if number else None,
        "interval": _ends(number),
        "paired": found.paired if found is not None and number else None,
        "p_holm": p,
        "verdict": verdict,
        "regression": verdict == "worse",
        "unfit": any(side.numbers.get(name) and unfit(side, name) for side in (first, second)),
    }


def _verdict(name: str, found: Change | None, p: float | None, a: Number | None, b: Number | None) -> str:
    if found is None:
        return f"not compared: only {'the first' if b is None else 'the second'} has it"
    if found.number is None:
        return f"not compared: {found.why}"
    value, metric = found.number.value, metric_of(name)
    if p is None or p >= ALPHA or value is None or metric is None:
        return "not significant"
    if metric.better == "neither":
        return "changed"
    return "better" if (value > 0) == (metric.better == "higher") else "worse"


def _ends(number: Number | None) -> list[float] | None:
    return (
        [number.low, number.high] if number and number.low is not None and number.high is not None else None
    )
