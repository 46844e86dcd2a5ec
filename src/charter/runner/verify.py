"""Verifies a run: the card's checks, and each room's checks of its own numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from charter import building
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.progress import Progress
from charter.ground.artifact.store import read_manifest
from charter.ground.measure.metric import Measure
from charter.ground.measure.reporting import Metrics
from charter.runner.rooms import has_tool, load_module, room_tool

# Modules of a room.
VERIFY, REGENERATE, VERDICT = "verify", "regenerate", "verdict"


def verify(
    place: Path,
    deep: bool,
    regenerate: Callable[[Path, int], list[str]] | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """One line for each problem of a run directory or an artifact, and of its ancestors; [] if there is none. `deep`
    also samples replies again, by `regenerate` or by the rooms that made them. Raises CharterError if there is nothing
    to verify."""
    resample = regenerate or partial(_regenerate, progress=progress)
    problems: list[str] = room_tool("card", VERIFY).verify(place, deep, recompute, resample)
    return problems


def artifact_problems(folder: Path, manifest: Manifest) -> list[str]:
    """One line for each problem of one artifact."""
    problems: list[str] = room_tool("card", VERIFY).artifact_problems(folder, manifest, recompute)
    return problems


def recompute(folder: Path, manifest: Manifest) -> list[str]:
    """A line for each number that doesn't follow from the artifact's kept rows, by the room that made it; [] if the
    room has no such check, or no longer exists."""
    if manifest.kind == "release":
        return list(load_module("charter.release.artifact").problems(folder, manifest))
    if manifest.kind == "verdict":
        return list(room_tool("audit", VERDICT).problems(folder, manifest))
    if manifest.room not in building.ROOMS or manifest.kind == "card" or not has_tool(manifest.room, VERIFY):
        return []
    return list(room_tool(manifest.room, VERIFY).problems(folder, manifest))


def measures(manifest: Manifest) -> dict[str, Measure]:
    """The functions from kept rows to tables, by metric, of the room that made a report."""
    if manifest.room not in building.ROOMS or not has_tool(manifest.room, VERIFY):
        return {}
    metrics: Metrics = room_tool(manifest.room, VERIFY).METRICS
    return {metric.name: metric.table for metric in metrics if metric.table is not None}


def _regenerate(report: Path, count: int, progress: Progress | None) -> list[str]:
    """Draws samples of a report again, in the room that made it."""
    problems: list[str] = room_tool(read_manifest(report).room, REGENERATE).regenerate(report, count, progress=progress)
    return problems
