"""Numbers of an artifact: from its kept rows, from its counts, or from the end of its log.

Numbers are computed again from the tables that a report keeps (`measure.reporting`). If a manifest contradicts them,
no card is made. `charter card verify` asks the room whether the tables follow from the kept rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import last_logged, read_log, read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.manifest import Metric as Recorded
from charter.ground.artifact.recount import COUNTS, read_counts, same
from charter.ground.measure.intervals import interval
from charter.ground.measure.metric import VERSION, Metric
from charter.ground.measure.reporting import TABLES, Reported, Score, measures_version, read_reported
from charter.ground.measure.score import Table
from charter.ground.reports.number import COUNT, Number, Source, unit_of_count

LOG, REPORT = "log.jsonl", "report.json"
# The key of the graders' gate in an identity; it is not a task.
JUDGING = "fitness"


@dataclass(frozen=True)
class Artifact:
    """A finished artifact and its numbers.

    `name` begins the keys of its numbers. It is the step, with the start of the id if the card holds another artifact
    of that step. A report on a stage may have other reports on the same model `beside` it; their numbers belong to the
    stage too.
    """

    step: str
    path: Path
    manifest: Manifest
    label: str
    name: str
    beside: tuple[Artifact, ...] = ()

    @cached_property
    def compared(self) -> dict[Any, Any]:
        """Its changes to other artifacts that `changes` has computed."""
        return {}

    @cached_property
    def reported(self) -> Reported:
        """The contents of its tables.json. Raises CharterError if another version of the measures made it."""
        if why := explain_outdated(self.path, self.manifest):
            raise CharterError(f"{self.manifest.step}: {why}; run the step again, or use the charter that made it")
        return read_reported(self.path)

    @cached_property
    def own(self) -> dict[str, Number]:
        """All numbers of its manifest that have a source. Raises CharterError if the manifest contradicts a table."""
        numbers = {score.name: self._make_number(score) for score in self.reported.scores}
        counts = read_counts(self.path)
        for metric in self.manifest.metrics:
            name, value = metric.name, metric.value
            if name in numbers:
                if not same(value, numbers[name].value):
                    raise CharterError(
                        f"{self.manifest.step}: the manifest says {name} = {value}, its table gives "
                        f"{numbers[name].value}; run the step again"
                    )
            elif name in counts and same(value, counts[name]):
                numbers[name] = self._make_count(metric, COUNTS, metric.n)
            elif same(value, last_logged(self.path, name)):
                numbers[name] = self._make_count(metric, LOG, None)
        return numbers

    @cached_property
    def numbers(self) -> dict[str, Number]:
        """Its own numbers and those of the reports beside it. Raises CharterError if two reports have the same
        metric."""
        numbers = dict(self.own)
        for report in self.beside:
            if duplicate := next((n for n in numbers.keys() & report.own.keys() if numbers[n].metric), None):
                raise CharterError(
                    f"{self.of(duplicate).step} and {report.step} are on one model and both have {duplicate}; "
                    "leave one of them out, or the task out of one"
                )
            numbers = {**report.own, **numbers}
        return numbers

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics of its numbers, in the order of its own report and of those beside it."""
        metrics = dict(self.reported.metrics)
        for report in self.beside:
            metrics |= report.metrics
        return metrics

    def metric(self, name: str) -> Metric | None:
        """The metric of a number; None for a count or a number that it lacks."""
        number = self.numbers.get(name)
        return number.metric if number else None

    def find_identities(self, name: str) -> dict[str, Mapping[str, Any]]:
        """Task -> identity of the tasks behind a number, from the report that has the number."""
        report = self.of(name)
        parts = report.reported.metrics[name].parts if name in report.reported.metrics else ()
        tasks = dict.fromkeys(report.reported.metrics[part].task for part in parts)
        identity = report.report.get("identity") or {}
        if not report.report and tasks:
            # a room without report.json: all of its settings, and all inputs but the model under test
            inputs = {role: ids for role, ids in report.manifest.inputs.items() if role != "policy"}
            return {report.manifest.room: {**report.manifest.resolved, "inputs": inputs}}
        return {task: identity.get(task) or {} for task in tasks if task}

    def of(self, name: str) -> Artifact:
        """The report that a number of this stage comes from."""
        return next((report for report in (self, *self.beside) if name in report.own), self)

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Tables behind the numbers, for differences."""
        tables = dict(self.reported.tables)
        for report in self.beside:
            tables |= report.tables
        return tables

    @cached_property
    def report(self) -> dict[str, Any]:
        """report.json of a report; empty for other kinds."""
        return read_report(self.path)

    def rows(self, file: str) -> list[dict[str, Any]]:
        """Kept rows of one file of the artifact; empty if there is no such file."""
        path = self.path / file
        return read_objects(path) if path.exists() else []

    def source(self, file: str) -> Source:
        return Source(self.step, self.manifest.id, file)

    def _make_number(self, score: Score) -> Number:
        files = (f"samples/{file}" for file in self.reported.files(score.name))
        return Number(
            f"{self.name}/{score.name}",
            score.name,
            _finite(score.value),
            score.low,
            score.high,
            score.n,
            score.clusters,
            score.metric.version,
            score.metric.unit,
            self.label,
            sources=tuple(map(self.source, files)),
            metric=score.metric,
        )

    def _make_count(self, metric: Recorded, file: str, n: int | None) -> Number:
        """A count, or a number from the end of a log."""
        value = _finite(metric.value)
        is_count = file == COUNTS and value is not None and value.is_integer()
        return Number(
            f"{self.name}/{metric.name}",
            metric.name,
            value,
            n=n,
            version=metric.version,
            unit=unit_of_count(metric.name, is_count),
            stage=self.label,
            sources=(self.source(file),),
        )

    def number(self, name: str, value: float | None, file: str, unit: str, **parts: Any) -> Number:
        """A number that no metric names, from one of its files; `parts` are further fields of Number."""
        fields = {"unit": unit, "stage": self.label, "sources": (self.source(file),)} | parts
        return Number(f"{self.name}/{name}", name, value, **fields)

    def count(self, name: str, value: float, file: str) -> Number:
        """A plain count of rows of a file."""
        return self.number(name, value, file, COUNT)

    def measure(self, name: str, table: Table, unit: str, file: str) -> Number:
        """A number, with its interval, over some of its rows; no metric names it."""
        low, high = interval(table)
        facts = {"low": low, "high": high, "n": table.n, "clusters": len(table.clusters), "version": VERSION}
        return self.number(name, table.value, file, unit, **facts)


def tasks_of(stage: Artifact) -> frozenset[str]:
    """The tasks of a stage's reports."""
    reports = (stage, *stage.beside)
    return frozenset(task for r in reports for task in r.report.get("identity") or {} if task != JUDGING)


def metric_in(stages: Iterable[Artifact], name: str) -> Metric | None:
    """A metric as the first stage that has the number declares it."""
    return next((metric for stage in stages if (metric := stage.metric(name))), None)


def placed_in(stages: Iterable[Artifact], key: str) -> list[str]:
    """The metrics that declare a place in a table or a figure of the card, in its order."""
    places = {
        name: metric.places[key] for stage in stages for name, metric in stage.metrics.items() if key in metric.places
    }
    return sorted(places, key=places.__getitem__)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def explain_outdated(folder: Path, manifest: Manifest) -> str:
    """Why this charter can't read an artifact's numbers, or ""."""
    version = measures_version(folder)
    if version is not None and version != VERSION:
        return f"its numbers were made by version {version} of the measures, this charter has version {VERSION}"
    if version is None and any(metric.better for metric in manifest.metrics):
        return f"its numbers were made by an earlier charter, which kept no {TABLES}"
    return ""


def read_report(folder: Path) -> dict[str, Any]:
    """report.json of a report; empty for other kinds. Raises CharterError if it is damaged."""
    path = folder / REPORT
    report = read_object(path) if path.exists() else {}
    for name in ("model", "grader", "reward", "rater", "start", "identity", "decoding", "detectors"):
        if not isinstance(report.get(name) or {}, dict):
            raise CharterError(f"{path}: {name} is {report[name]!r}, expected an object; make its step again")
    return report


def log_rows(artifact: Artifact) -> list[dict[str, float]]:
    """The training curve of an artifact."""
    return read_log(artifact.path)
