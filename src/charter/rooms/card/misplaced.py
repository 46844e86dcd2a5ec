"""Refuses artifacts in a role of the card that is not theirs."""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.artifact.errors import CharterError
from charter.ground.findings.selection import MITIGATIONS
from charter.ground.text.votes import VOTES
from charter.rooms.card.artifact import Artifact

# The variants of a report on a ladder of models, and of an autonomy audit.
LADDER, AUDIT = "ladder", "audit"
# The room whose steps a card takes under `attacks`, and what its search found, by the requests sent.
ATTACK, CURVE = "attack", "curve.jsonl"


def check_labels(stages: Sequence[Artifact]) -> None:
    """Raises CharterError if two stages share a name."""
    labels = [stage.label for stage in stages]
    if duplicate := next((n for n in labels if labels.count(n) > 1), None):
        raise CharterError(
            f"two reports have the stage {duplicate!r}; give each evaluate step its own `stage`; two on one model must "
            "have other tasks"
        )


def check_votes(votes: Sequence[Artifact]) -> None:
    """Raises CharterError for comparisons by an AI or from a data set: they are not votes between models."""
    if lacking := next((a for a in votes if not (a.path / VOTES).is_file()), None):
        raise CharterError(
            f"{lacking.step} has no {VOTES}; list steps of the arena or judge room, or exports of votes, under `votes`"
        )


def check_scaling(reports: Sequence[Artifact]) -> None:
    """Raises CharterError for a report of another room, which has no ladder."""
    if lacking := next((a for a in reports if a.manifest.variant != LADDER), None):
        raise CharterError(
            f"{lacking.step} is a report of the {lacking.manifest.room} room; list a step of the scaling room under "
            "`scaling`"
        )


def check_findings(artifacts: Sequence[Artifact]) -> None:
    """Raises CharterError for dialogues of another room, which have no log of mitigations."""
    if lacking := next((a for a in artifacts if not (a.path / MITIGATIONS).is_file()), None):
        raise CharterError(
            f"{lacking.step} has no {MITIGATIONS}; list a step of the intake room under `findings`"
        )


def check_attacks(artifacts: Sequence[Artifact]) -> None:
    """Raises CharterError for dialogues of another room, which attacked nothing."""
    if lacking := next((a for a in artifacts if a.manifest.room != ATTACK), None):
        raise CharterError(
            f"{lacking.step} is a step of the {lacking.manifest.room} room; list steps of the attack room under "
            "`attacks`"
        )


def check_verdicts(verdicts: Sequence[Artifact], audits: Sequence[Artifact]) -> None:
    """Raises CharterError for a verdict on an audit that is not among the card's inputs."""
    shown = {audit.manifest.id for audit in audits}
    if lacking := next((v for v in verdicts if not shown & set(v.manifest.inputs.get("report", ()))), None):
        raise CharterError(
            f"{lacking.step} is a verdict on an audit that this card lacks; list it under `audits`"
        )
