"""Votes between hidden models: of people, whose answers are read from a database, or of simulated raters."""

from __future__ import annotations

from charter.arena.settings import Settings
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: comparisons.jsonl and votes.jsonl."""
    raise CharterError("this room is being built")
