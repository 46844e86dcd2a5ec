"""Whether a report can be the baseline of another. Wins compare scores, so both reports need one grader, the same
prompts and the same sampling."""

from __future__ import annotations

from charter.ground.artifact.curves import read_object
from charter.ground.artifact.errors import CharterError
from charter.rooms.evaluate.context import Context

ALIKE = ("data", "temperature", "top_p", "top_k", "max_tokens", "draw_seed")


def check_baseline(context: Context) -> None:
    """Raises CharterError for a baseline with another grader, decoding, length, draw or set of helpful prompts."""
    inputs, baseline = context.inputs, context.inputs.optional("baseline")
    if baseline is None or context.task.name != "helpful":
        return
    report, grader = read_object(baseline.folder / "report.json"), inputs.one("grader")
    other = (report.get("grader") or {}).get("id", "no grader")
    if other != grader.id:
        raise CharterError(
            f"the baseline {baseline.name} was graded by {other[:12]}, this report by {grader.id[:12]} "
            f"({grader.name}); evaluate the baseline with this grader, or leave `baseline` out"
        )
    ours, theirs = context.identity(), (report.get("identity") or {}).get("helpful") or {}
    if differs := [key for key in ALIKE if ours.get(key) != theirs.get(key)]:
        names = " and ".join("helpful" if key == "data" else key for key in differs)
        raise CharterError(
            f"the baseline {baseline.name} was evaluated with another {names}; give both the same, or leave "
            "`baseline` out"
        )
