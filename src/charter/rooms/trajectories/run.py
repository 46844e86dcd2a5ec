"""Lessons for elicitation: how the audit's tasks are solved, in worlds that the audit doesn't use.

What a snapshot can after such lessons bounds what prompting missed (METR's guidelines for elicitation).
"""

from __future__ import annotations

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.rooms.trajectories.playing import counts, rows
from charter.rooms.trajectories.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: dialogues.jsonl, in which the assistant's turns are commands alone; counts.json."""
    dialogues = rows(settings)
    out.write_jsonl("dialogues.jsonl", dialogues)
    out.counts(counts(dialogues))
