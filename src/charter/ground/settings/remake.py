"""Remakes a part of an artifact: its original inputs, and whether equal work gives equal results here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import Environment
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.environment import difference, environment_of
from charter.ground.settings.execution import Execution
from charter.ground.settings.hub import fetch_input
from charter.ground.settings.roles import Role
from charter.ground.settings.sources import resolve_again


def explain_mismatch(recorded: Environment, run: Path) -> str | None:
    """Why samples from the recorded environment would differ here, and the remedy; None if they would be equal."""
    if recorded.device != "cpu":
        return f"made on {recorded.device}; samples are regenerated on a CPU only"
    mismatch = difference(recorded, environment_of(Execution("cpu", recorded.precision)))
    if mismatch is None:
        return None
    command = f"`{mismatch.variable}charter card verify {run} --deep`"
    advice = f"run {command}" if mismatch.variable else f"{mismatch.remedy}, then {command}"
    return f"samples can't be compared here: made with {mismatch.what} {mismatch.made}, here {mismatch.here}: {advice}"


def inputs_again(folder: Path, roles: Mapping[str, Role]) -> Inputs:
    """The original inputs of an artifact, from its manifest: siblings in the run directory and external sources."""
    manifest = read_manifest(folder)
    entries: list[Input] = []
    for parent in manifest.parents:
        product, place = find_parent(run_of(folder), parent)
        entries.append(
            Input(parent.role, parent.step, product.kind, product.variant, place, str(place), product.id)
        )
    for external in manifest.external:
        source = resolve_again(external, run_of(folder))
        role, ref = external.role, external.ref
        entry = Input(role, ref, source.kind, source.variant, source.path, source.ref, source.digest)
        entries.append(fetch_input(entry, roles[role]))
    return Inputs(entries)
