"""Whether a report can be the baseline of another: wins compare scores, which mean something under one grader, and for
replies that were asked for and drawn alike, alone."""

from __future__ import annotations

from charter.ground.artifact.curves import read_object
from charter.ground.artifact.errors import CharterError
from charter.rooms.evaluate.context import Context


def check_baseline(context: Context) -> None:
    """Raises CharterError for a baseline by another grader, decoding, length, draw or set of helpful prompts."""
    settings, inputs = context.settings, context.inputs
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
    identity, drawn = report.get("identity") or {}, context.decoding.facts
    asked = {key: drawn.get(key) for key in ("temperature", "top_p", "top_k")}
    asked |= {key: getattr(settings, key) for key in ("max_tokens", "draw_seed")}
    differs = [key for key, value in asked.items() if identity.get(key) != value]
    sets = sorted(entry["id"] for entry in identity.get("sets", {}).get("helpful", []))
    differs += ["helpful"] if sets != sorted(i.id for i in inputs.many("helpful")) else []
    if differs:
        raise CharterError(
            f"the baseline {baseline.name} was evaluated with another {' and '.join(differs)}; give both the same, or "
            "leave `baseline` out"
        )
