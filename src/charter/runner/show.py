"""Reads a run directory back: every step with its status, metrics and lineage; views of manifests."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest, Metric
from charter.ground.artifact.store import read_manifest
from charter.runner.directory import RunDirectory
from charter.runner.names import RUN_FILE

NO_INTERVAL = (None, None, None)

# fewer rows than this stand for nothing
FEWEST = 10


class StepParent(NamedTuple):
    """A step of the same run that fills a role."""

    role: str
    step: str


@dataclass(frozen=True)
class StepView:
    """One step of a run; `manifest` is None before it started.

    Status is that of the manifest (done, started, failed, waiting), "outdated" if the artifact comes from other
    settings than the run's present recipe, or "pending".
    """

    name: str
    room: str
    kind: str
    id: str
    path: Path
    status: str
    parents: tuple[StepParent, ...]
    manifest: Manifest | None

    @property
    def metrics(self) -> list[Metric]:
        """The metrics so far; none before the step started."""
        return self.manifest.metrics if self.manifest else []


def view_run(run: Path) -> list[StepView]:
    """All steps of a run in order. Raises CharterError if run.json is missing or broken."""
    path = run / RUN_FILE
    try:
        content = json.loads(path.read_text("utf-8"))
        steps = [
            (str(s["name"]), str(s["room"]), str(s["kind"]), str(s["id"]), _parents(s["parents"]))
            for s in content["steps"]
        ]
    except FileNotFoundError:
        raise CharterError(f"{run} is not a run: it has no {RUN_FILE}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CharterError(f"{path} cannot be read: {error}; run the recipe again to rewrite it") from None
    directory = RunDirectory(run)
    return [_view(directory, *step) for step in steps]


def _parents(listed: list[list[str]]) -> tuple[StepParent, ...]:
    return tuple(StepParent(role, step) for role, step in listed)


def _view(
    directory: RunDirectory, name: str, room: str, kind: str, identity: str, parents: tuple[StepParent, ...]
) -> StepView:
    finished, partial = directory.artifact(name), directory.partial(name)
    artifact, unfinished = _manifest(finished), _manifest(partial)
    if artifact is not None and artifact.id == identity:
        return StepView(name, room, kind, identity, finished, artifact.status, parents, artifact)
    if unfinished is not None and unfinished.id == identity:
        return StepView(name, room, kind, identity, partial, unfinished.status, parents, unfinished)
    if artifact is not None:
        return StepView(name, room, kind, artifact.id, finished, "outdated", parents, artifact)
    return StepView(name, room, kind, identity, finished, "pending", parents, None)


def _manifest(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except CharterError:
        return None


def run_records(views: list[StepView]) -> list[dict[str, object]]:
    """The run as JSON: one object a step; `intervals` has [low, high, n] of the metrics that have any of them."""
    return [
        {
            "name": view.name,
            "room": view.room,
            "kind": view.kind,
            "id": view.id,
            "path": str(view.path),
            "status": view.status,
            "parents": [parent._asdict() for parent in view.parents],
            "metrics": {m.name: m.value for m in view.metrics},
            "intervals": {m.name: [m.low, m.high, m.n] for m in view.metrics if (m.low, m.high, m.n) != NO_INTERVAL},
        }
        for view in views
    ]
