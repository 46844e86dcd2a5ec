"""The rater's verdict as a report keeps it: on the conversations that the step which made it held out."""

from __future__ import annotations

from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.rater import KEPT, RaterVerdict


def judged(inputs: Inputs, out: Workspace) -> dict[str, Any] | None:
    """Name, id and verdict of the rater, whose held-out rows are kept as samples/rater.jsonl; None without one.

    Raises CharterError for a rater that comes without these rows.
    """
    source = inputs.optional("rater")
    if source is None:
        return None
    path = source.folder / KEPT
    if not path.is_file():
        raise CharterError(
            f"the rater {source.name} comes without {KEPT}, by which it is judged; give what a rating step made"
        )
    verdict = RaterVerdict(read_objects(path))
    out.write_jsonl("samples/rater.jsonl", verdict.rows)
    return {"name": source.name, "id": source.id, "fit": verdict.fit, "why": verdict.why}
