"""Runs on disk, read through the manifests of their steps: names, metrics with intervals, and files for pages.

A name comes from a listing of the folder, never from a path that somebody sends; a file from a step's manifest. Links
are not followed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST, Manifest
from charter.ground.artifact.store import read_manifest
from charter_service.web.refusal import NotFound

MOST_RUNS, MOST_STEPS = 500, 200
LARGEST = 64 * 2**20  # bytes of a file that a page sends
LARGEST_MANIFEST = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Step:
    """A finished step."""

    name: str
    manifest: Manifest

    def metrics(self) -> list[dict[str, Any]]:
        """Its metrics, with intervals where it has any."""
        names = ("name", "label", "value", "low", "high", "n", "unit", "better", "group", "meaning")
        return [{name: getattr(metric, name) for name in names} for metric in self.manifest.metrics]

    def pages(self) -> list[str]:
        """The files that a browser can show."""
        return [
            one.path
            for one in self.manifest.files
            if one.path.endswith((".html", ".md")) or one.path == "report.json"
        ]


@dataclass(frozen=True, slots=True)
class Run:
    """A run: its name, when it last changed, and its finished steps in the order of their work."""

    name: str
    changed: float
    steps: tuple[Step, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """What it holds, for caches."""
        return tuple(step.manifest.id for step in self.steps)


def list_names(folder: Path) -> list[tuple[str, float]]:
    """Names of runs and when each last changed, newest first; empty if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            found = [
                (one.name, one.stat(follow_symlinks=False).st_mtime)
                for one in entries
                if one.is_dir(follow_symlinks=False) and _shown(one.name) and _is_run(Path(one.path))
            ]
    except OSError:
        return []
    return sorted(found, key=lambda one: (-one[1], one[0]))[:MOST_RUNS]


def open_run(folder: Path, name: str) -> Run:
    """A run by its name. Raises NotFound."""
    changed = dict(list_names(folder)).get(name)
    if changed is None:
        raise NotFound(f"there is no run {name[:80]!r}; the page of evaluations lists all")
    steps = sorted(_steps(folder / name), key=lambda step: (step.manifest.timing.started, step.name))
    return Run(name, changed, tuple(steps))


def find_file(folder: Path, run: str, step: str, path: str) -> tuple[Path, bool]:
    """A file of a step that its manifest lists, and whether it holds harmful text. Raises NotFound."""
    unknown = NotFound("there is no such file in this run")
    found = next((one for one in open_run(folder, run).steps if one.name == step), None)
    if found is None or path not in {one.path for one in found.manifest.files}:
        raise unknown
    root = (folder / run / step).resolve()
    place = root / path
    if place.resolve() != place or not place.is_relative_to(root) or not place.is_file():
        raise unknown  # a link, or a path that leaves the folder
    if place.stat().st_size > LARGEST:
        raise NotFound(f"{path[:80]} has over {LARGEST // 2**20} MiB; read it on the server")
    return place, path in found.manifest.restricted


def _steps(run: Path) -> Iterator[Step]:
    with os.scandir(run) as entries:
        names = sorted(one.name for one in entries if one.is_dir(follow_symlinks=False) and _shown(one.name))
    for name in names[:MOST_STEPS]:
        manifest = run / name / MANIFEST
        try:
            if not manifest.is_symlink() and manifest.stat().st_size <= LARGEST_MANIFEST:
                yield Step(name, read_manifest(run / name))
        except (CharterError, OSError, RecursionError):
            continue  # unfinished, or not Charter's


def _is_run(place: Path) -> bool:
    return (place / "run.json").is_file()


def _shown(name: str) -> bool:
    return not name.startswith(".") and name.isprintable()


def read_json(text: str) -> Any:
    """What a command printed as JSON. Raises CharterError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CharterError("the command answered with something else than JSON") from None
