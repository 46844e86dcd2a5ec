"""Whether a report can be the baseline of another: wins compare scores, which mean something under one grader, and for
replies that were asked for alike, alone."""

from __future__ import annotations

from charter.evaluate.settings import Settings
from charter.ground.artifact.curves import read_object
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs


def check_baseline(settings: Settings, inputs: Inputs) -> None:
    """Raises CharterError for a baseline by another grader, sampling, length, draw or set of helpful prompts."""
    baseline, grader = inputs.optional("baseline"), inputs.one("grader")
    if baseline is None:
        return
    report = read_object(baseline.folder / "report.json")
    other = (report.get("grader") or {}).get("id", "no grader")
    if other != grader.id:
        raise CharterError(
            f"the baseline {baseline.name} was graded by {other[:12]}, this report by {grader.id[:12]} "
            f"({grader.name}); evaluate the baseline with this grader, or leave `baseline` out"
        )
    identity = report.get("identity") or {}
    sets = sorted(entry["id"] for entry in identity.get("sets", {}).get("helpful", []))
    differs = [
        key
        for key in ("temperature", "max_tokens", "draw_seed")
        if identity.get(key) != getattr(settings, key)
    ]
    differs += ["helpful"] if sets != sorted(i.id for i in inputs.many("helpful")) else []
    if differs:
        raise CharterError(
            f"the baseline {baseline.name} was evaluated with another {' and '.join(differs)}; give both the same, or "
            "leave `baseline` out"
        )
