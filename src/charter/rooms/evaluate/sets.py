"""The prompt sets of a report: all are read before anything is sampled, and its identity names them."""

from __future__ import annotations

from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.rooms.evaluate import facts, hhh, loss, revisions
from charter.rooms.evaluate.context import Context
from charter.rooms.evaluate.settings import Settings

GRADED = ("red_team", "lookalikes", "helpful", "hhh", "text", "fitness")


def check_sets(context: Context) -> None:
    """Reads every set once, so that what is wrong with one is said before anything is sampled."""
    for role in ("red_team", "lookalikes", "helpful"):
        context.prompts(role, getattr(context.settings.counts, role))
    hhh.items(context)
    loss.texts(context)
    revisions.transcripts(context)
    if "facts" in context.settings.tasks:
        facts.questions(context)


def named_sets(settings: Settings, inputs: Inputs) -> dict[str, list[dict[str, Any]]]:
    """Reference and id of the files of each set that the tasks ask."""
    roles = (
        *(GRADED if "assistant" in settings.tasks else ()),
        *(facts.SETS if "facts" in settings.tasks else ()),
    )
    return {role: [{"ref": i.name, "id": i.id} for i in inputs.many(role)] for role in roles}
