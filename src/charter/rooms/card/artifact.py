"""What an artifact keeps and the numbers that follow: from kept rows, from counts, from the end of a log.

Numbers are computed anew from the kept rows. Where a manifest says otherwise, no card is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import last_logged, read_log, read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import COUNTS, read_counts, same
from charter.ground.measure.metrics import VERSION, files_of, scores, tables
from charter.ground.measure.score import Table
from charter.rooms.card.number import COUNT, Number, Source, is_count, metric_of, unit_of

LOG, REPORT = "log.jsonl", "report.json"
BENCHMARK = "benchmark"  # the room whose reports are on tasks


@dataclass(frozen=True)
class Artifact:
    """A finished artifact and what can be computed from it. `name` begins the keys of its numbers: its step, with the
    start of its id where the card holds another artifact of that step. A report on a stage of the model may have others
    on the same model `beside` it, whose numbers are then the stage's as well."""

    step: str
    path: Path
    manifest: Manifest
    label: str
    name: str
    beside: tuple[Artifact, ...] = ()

    @cached_property
    def own(self) -> dict[str, Number]:
        """All numbers of its manifest that have a source, and all that its kept rows give."""
        found = sourced(self.path, self.manifest)
        return {name: _number(self, name, *entry) for name, entry in found.items()}

    @cached_property
    def numbers(self) -> dict[str, Number]:
        """Its own numbers and those of the reports beside it. Raises CharterError where two give one metric."""
        found = dict(self.own)
        for other in self.beside:
            if twice := next((n for n in found.keys() & other.own.keys() if metric_of(n)), None):
                raise CharterError(
                    f"{self.of(twice).step} and {other.step} are on one model and both have {twice}; "
                    "leave one of them out, or the task out of one"
                )
            found = {**other.own, **found}
        return found

    def of(self, name: str) -> Artifact:
        """The one report that a number of this stage comes from."""
        return next((made for made in (self, *self.beside) if name in made.own), self)

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Tables behind the numbers, for differences."""
        found = tables(self.path)
        for other in self.beside:
            found |= other.tables
        return found

    @cached_property
    def report(self) -> dict[str, Any]:
        """report.json of a report, empty for other kinds."""
        return read_report(self.path)

    def rows(self, file: str) -> list[dict[str, Any]]:
        """Kept rows of one file of the artifact; an empty list where there is none."""
        path = self.path / file
        return read_objects(path) if path.exists() else []

    def source(self, file: str) -> Source:
        return Source(self.step, self.manifest.id, file)

    def count(self, name: str, value: float, file: str) -> Number:
        """A plain count of rows of a file."""
        return Number(
            f"{self.name}/{name}", name, value, unit=COUNT, stage=self.label, sources=(self.source(file),)
        )


Sourced = tuple[float | None, float | None, float | None, int | None, int | None, int, tuple[str, ...]]


def sourced(folder: Path, manifest: Manifest) -> dict[str, Sourced]:
    """(value, low, high, n, clusters, version, files) of each number that kept rows, log or counts of a
    folder give.

    Raises CharterError where the manifest says otherwise, or where another version of the measures made it.
    """
    if (version := other_version(manifest)) is not None:
        raise CharterError(
            f"{manifest.step}: its numbers were made by version {version} of the measures, this charter has "
            f"version {VERSION}; run the step again, or use the charter that made it"
        )
    found: dict[str, Sourced] = {}
    for s in scores(folder):
        files = tuple(f"samples/{file}" for file in files_of(s.name))
        found[s.name] = (s.value, s.low, s.high, s.n, s.clusters, s.version, files)
    counts = read_counts(folder)
    for metric in manifest.metrics:
        if metric.name in found:
            value = found[metric.name][0]
            if not same(metric.value, value):
                raise CharterError(
                    f"{manifest.step}: the manifest says {metric.name} = {metric.value}, its kept rows give "
                    f"{value}; "
                    "run the step again"
                )
        elif metric.name in counts and same(metric.value, counts[metric.name]):
            found[metric.name] = (metric.value, None, None, metric.n, None, metric.version, (COUNTS,))
        elif same(metric.value, last_logged(folder, metric.name)):
            found[metric.name] = (metric.value, None, None, None, None, metric.version, (LOG,))
    return found


def _number(artifact: Artifact, name: str, *entry: Any) -> Number:
    value, low, high, n, clusters, version, files = entry
    if value is not None and not math.isfinite(value):
        value = None
    whole = value is not None and float(value).is_integer()
    unit = COUNT if whole and files == (COUNTS,) and is_count(name) else unit_of(name)
    sources = tuple(artifact.source(f) for f in files)
    return Number(
        f"{artifact.name}/{name}",
        name,
        value,
        low,
        high,
        n,
        clusters,
        version,
        unit,
        artifact.label,
        False,
        sources,
    )


def other_version(manifest: Manifest) -> int | None:
    """The version of the measures behind a manifest's numbers, where it is not this charter's."""
    return next((m.version for m in manifest.metrics if metric_of(m.name) and m.version != VERSION), None)


def read_report(folder: Path) -> dict[str, Any]:
    """report.json of a report; empty for other kinds. Raises CharterError where it is damaged."""
    path = folder / REPORT
    report = read_object(path) if path.exists() else {}
    for name in ("model", "grader", "reward", "rater", "start", "identity", "decoding", "detectors"):
        if not isinstance(report.get(name) or {}, dict):
            raise CharterError(f"{path}: {name} is {report[name]!r}, expected an object; make its step again")
    return report


def log_rows(artifact: Artifact) -> list[dict[str, float]]:
    """The training curve of an artifact."""
    return read_log(artifact.path)
