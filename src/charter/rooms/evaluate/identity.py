"""What must be equal if two scores are compared, and whether a report can be the baseline of another.

Wins compare scores, so both reports need one grader, the same prompts and the same sampling.
"""

from __future__ import annotations

from charter.ground.artifact.curves import read_object
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import digest_text
from charter.rooms.evaluate.asking import can_score
from charter.rooms.evaluate.task import Context, Row

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
    ours, theirs = identity(context), (report.get("identity") or {}).get("helpful") or {}
    if differs := [key for key in ALIKE if ours.get(key) != theirs.get(key)]:
        names = " and ".join("helpful" if key == "data" else key for key in differs)
        raise CharterError(
            f"the baseline {baseline.name} was evaluated with another {names}; give both the same, or leave "
            "`baseline` out"
        )


def identity(context: Context) -> Row:
    """The facts that must be equal if two scores of this task are compared."""
    protocol, takes = context.protocol, context.task.takes
    data = [{"ref": entry.name, "id": entry.id} for entry in context.inputs.many(context.task.data_role)]
    facts: Row = {
        "data": data[0] if len(data) == 1 else data,
        "limit": protocol.limit,
        "draw_seed": context.settings.draw_seed,
        "version": context.task.version,
    }
    if takes == ("limit",) and not context.task.group:
        return facts | context.facts
    if context.inputs.one("policy").variant == "labeller":
        return facts | {"scored": "replies"} | context.facts
    facts |= {"shots": protocol.shots, "form": protocol.form}
    scoring = not protocol.max_tokens and can_score(context)
    facts["scored"] = "options" if scoring else "samples"
    if not scoring:
        facts |= protocol.decoding.facts | {"samples": protocol.samples, "max_tokens": protocol.max_tokens}
    if protocol.form == "chat":
        local = context.models.of_policy
        facts["template"] = digest_text(local.template.jinja) if local else "remote"
    return facts | context.facts
