"""A run directory in Python: its steps, their numbers, and each finished step's artifact."""

from __future__ import annotations

import os
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.problems import suggest
from charter.library.artifacts import Artifact, Card, artifact_of, metric_rows
from charter.library.rows import Rows, html_table
from charter.runner.show import StepView, view_run


class Run:
    """A run directory, read anew at each use. `path`: its folder. Raises CharterError if it holds no run."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        view_run(self.path)

    def __repr__(self) -> str:
        done_count = sum(view.status == "done" for view in self._views.values())
        return f"<Run {self.path}: {done_count} of {len(self._views)} steps done>"

    def __getitem__(self, name: str) -> Artifact:
        """The artifact of a finished step. Raises CharterError if there is no such step, or if it isn't finished."""
        views = self._views
        if name not in views:
            raise CharterError(f"{self.path} has no step {name!r}; {suggest(name, views)}")
        view = views[name]
        if view.manifest is None or view.status not in ("done", "outdated"):
            raise CharterError(f"step {name} of {self.path} is {view.status}; run its recipe until it is done")
        return artifact_of(view.path, view.manifest)

    @property
    def steps(self) -> Rows:
        """One row a step in the order in which they run: name, room, kind, id, path, status ("done", "started",
        "failed", "waiting", "outdated" or "pending"), parents (names of steps by role) and minutes that it took."""
        return Rows(
            {
                "name": view.name,
                "room": view.room,
                "kind": view.kind,
                "id": view.id,
                "path": view.path,
                "status": view.status,
                "parents": _parents(view),
                "minutes": view.manifest.timing.seconds / 60 if view.manifest else None,
            }
            for view in self._views.values()
        )

    def metrics(self) -> Rows:
        """The metrics of all steps, as `Artifact.metrics` has those of one; `step` tells them apart."""
        views = self._views.values()
        return Rows(row for view in views if view.manifest for row in metric_rows(view.manifest))

    @property
    def card(self) -> Card:
        """The card of the run; the last one of several. Raises CharterError if none is finished."""
        cards = [view for view in self._views.values() if view.kind == "card" and view.status == "done"]
        if not cards:
            raise CharterError(f"{self.path} has no finished card; run a recipe with a step of the room card")
        return Card(cards[-1].path, self[cards[-1].name].manifest)

    @property
    def _views(self) -> dict[str, StepView]:
        return {view.name: view for view in view_run(self.path)}

    def _repr_html_(self) -> str:
        columns = ("name", "room", "kind", "status", "minutes")
        return html_table(f"Run {self.path}", columns, [[row[key] for key in columns] for row in self.steps])


def _parents(view: StepView) -> dict[str, list[str]]:
    """Names of the parents in the same run, by role."""
    by_role: dict[str, list[str]] = {}
    for parent in view.parents:
        by_role.setdefault(parent.role, []).append(parent.step)
    return by_role
