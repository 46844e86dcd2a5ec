"""Metrics of an artifact: computed from its kept rows, recorded with their tables, read and verified.

A room keeps the rows behind its metrics in samples/ and calls `record`. `tables.json` beside the rows then has each
metric's description (`metric.Metric`) and its table, so a card, a comparison and a gate read reports without knowing
rooms. `table_problems` recomputes them for `charter card verify`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import same
from charter.ground.artifact.workspace import MetricFacts, Workspace
from charter.ground.measure.derived import can_derive, derived_count, derived_interval, derived_value
from charter.ground.measure.intervals import interval
from charter.ground.measure.metric import VERSION, Metric, Term, default_label, within
from charter.ground.measure.score import Table
from charter.ground.measure.statistics import decode_statistic, encode_statistic

TABLES = "tables.json"
WORDS = ("label", "meaning")  # of a metric: new ones change no number
Metrics = Sequence[Metric]


@dataclass(frozen=True, slots=True)
class Score:
    """A number with its 95 % interval; `n` rows in `clusters` independent clusters."""

    metric: Metric
    value: float
    low: float | None
    high: float | None
    n: int
    clusters: int

    @property
    def name(self) -> str:
        """The metric's name."""
        return self.metric.name

    @property
    def facts(self) -> MetricFacts:
        """The manifest's fields besides name and value."""
        m = self.metric
        return MetricFacts(
            low=self.low,
            high=self.high,
            n=self.n,
            version=m.version,
            unit=m.unit or None,
            label=m.label or default_label(m.name),
            better=m.better,
            meaning=m.meaning,
            group=m.group or None,
        )


@dataclass(frozen=True, slots=True)
class Reported:
    """The metrics of an artifact, in their order, and the tables of those that have one."""

    metrics: Mapping[str, Metric]
    tables: Mapping[str, Table]

    @property
    def scores(self) -> list[Score]:
        """All values with their intervals."""
        return [score(metric, self.tables) for metric in self.metrics.values()]

    def files(self, name: str) -> tuple[str, ...]:
        """The files of kept rows behind a metric."""
        return tuple(dict.fromkeys(self.metrics[part].file for part in self.metrics[name].parts))


def score(metric: Metric, tables: Mapping[str, Table]) -> Score:
    """One score, its interval within the metric's limits. tables: of all metrics, by name. Raises KeyError if a table
    that it needs is missing."""
    if metric.terms:
        value, ends = derived_value(metric, tables), derived_interval(metric, tables)
        return Score(metric, value, *within(ends, metric.limits, value), *derived_count(metric, tables))
    table = tables[metric.name]
    ends = within(interval(table), metric.limits, table.value)
    return Score(metric, table.value, *ends, table.n, len(table.clusters))


def compute_metrics(folder: Path, metrics: Metrics) -> Reported:
    """Computes the metrics from the rows in `folder`/samples, without those that have nothing to count.

    Raises CharterError if rows are damaged or lack a field.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    tables: dict[str, Table] = {}
    for metric in metrics:
        path = folder / "samples" / metric.file
        if metric.table is None or not path.is_file():
            continue
        if metric.file not in rows:
            rows[metric.file] = read_objects(path)
        try:
            table = metric.table(rows[metric.file])
        except (KeyError, TypeError) as error:
            raise CharterError(f"{path}: no {metric.name} from these rows ({error!r}); they are damaged") from error
        if not math.isnan(table.value):
            tables[metric.name] = table
    complete = {m.name: m for m in metrics if can_derive(m, tables)}
    return Reported(complete, tables)


def record(out: Workspace, metrics: Metrics) -> None:
    """Records the metrics of a step's kept rows, and writes tables.json beside them."""
    reported = compute_metrics(out.path, metrics)
    write_tables(out.path, reported)
    for entry in reported.scores:
        out.metric(entry.name, entry.value, **entry.facts)


def write_tables(folder: Path, reported: Reported) -> None:
    """Writes tables.json: one metric per line; metrics with the same clusters share their names."""
    clusters: dict[tuple[str, ...], int] = {}
    lines = []
    for name, metric in reported.metrics.items():
        entry = {f.name: getattr(metric, f.name) for f in fields(metric) if f.name not in ("table", "terms")}
        entry = {key: value for key, value in entry.items() if value not in ("", None, False, {})}
        entry["label"] = metric.label or default_label(name)
        entry["unit"] = metric.unit
        if metric.terms:
            entry["terms"] = [[t.weight, t.parts, t.probit] for t in metric.terms]
        else:
            table = reported.tables[name]
            entry["n"], entry["statistic"] = table.n, encode_statistic(table.statistic)
            entry["clusters"] = clusters.setdefault(table.clusters, len(clusters))
            entry["sums"] = [[_short(x) for x in row] for row in table.sums.tolist()]
        lines.append(json.dumps(entry, ensure_ascii=False))
    listed = ",\n".join(json.dumps(names, ensure_ascii=False) for names in clusters)
    numbers = ",\n".join(lines)
    text = f'{{"measures": {VERSION},\n"clusters": [\n{listed}\n],\n"numbers": [\n{numbers}\n]}}\n'
    (folder / TABLES).write_text(text, "utf-8")


def _short(value: float) -> float | int:
    """A whole number without its point."""
    return int(value) if value.is_integer() else value


def read_reported(folder: Path) -> Reported:
    """Reads an artifact's tables.json; empty if there is none. Raises CharterError if it is damaged."""
    path = folder / TABLES
    if not path.is_file():
        return Reported({}, {})
    stored = read_object(path)
    try:
        metrics: dict[str, Metric] = {}
        tables: dict[str, Table] = {}
        names = [tuple(map(str, names_of_table)) for names_of_table in stored["clusters"]]
        for entry in stored["numbers"]:
            metric = _metric(entry)
            metrics[metric.name] = metric
            if not metric.terms:
                clusters = names[entry["clusters"]]
                sums = np.array(entry["sums"], dtype=np.float64).reshape(len(clusters), -1)
                tables[metric.name] = Table(clusters, sums, int(entry["n"]), decode_statistic(entry["statistic"]))
        if lacking := next((m.name for m in metrics.values() if not all(p in tables for p in m.parts)), None):
            raise CharterError(f"{path}: {lacking} lacks a table that it needs; run its step again")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CharterError(f"{path}: it is damaged ({error!r}); run its step again") from error
    return Reported(metrics, tables)


def _metric(entry: Mapping[str, Any]) -> Metric:
    names = {f.name for f in fields(Metric)} - {"table", "terms"}
    terms = tuple(Term(weight, tuple(parts), probit) for weight, parts, probit in entry.get("terms", ()))
    facts: dict[str, Any] = {"file": "", "better": "neither", "meaning": ""}
    return Metric(**facts | {k: v for k, v in entry.items() if k in names}, table=None, terms=terms)


def measures_version(folder: Path) -> int | None:
    """The version of the measures behind an artifact's metrics; None if it has none."""
    path = folder / TABLES
    version = read_object(path).get("measures") if path.is_file() else None
    return version if isinstance(version, int) else None


def table_problems(folder: Path, metrics: Metrics) -> Iterator[str]:
    """A line for each metric of tables.json that doesn't follow from the kept rows by a room's own metrics."""
    report, recount = read_reported(folder), compute_metrics(folder, metrics)
    for name, metric in recount.metrics.items():
        if name not in report.metrics:
            yield f"{name} follows from the kept rows and is missing from {TABLES}"
        elif report.metrics[name].version != metric.version:
            yield (
                f"{name} is of version {report.metrics[name].version} and this charter has version {metric.version}; "
                "run the step again, or verify with the charter that made it"
            )
        elif differing := _first_difference(report.metrics[name], metric):
            yield f"{name}: its {differing} in {TABLES} is not the one of this charter"
        elif not metric.terms and (why := _table_difference(report.tables[name], recount.tables[name])):
            yield f"{name}: {TABLES} has {why} than the kept rows give"
    for name in report.metrics.keys() - recount.metrics.keys():
        yield f"{name} stands in {TABLES} and doesn't follow from the kept rows"


def _first_difference(reported: Metric, expected: Metric) -> str:
    """The first field in which two metrics differ; "" if none."""
    for f in fields(Metric):
        if f.compare and f.name not in WORDS and getattr(reported, f.name) != getattr(expected, f.name):
            return f.name
    return ""


def _table_difference(reported: Table, expected: Table) -> str:
    """What differs between two tables; "" if nothing does."""
    if reported.statistic != expected.statistic:
        return "another statistic"
    if reported.n != expected.n:
        return "another number of rows"
    if reported.clusters != expected.clusters:
        return "other clusters"
    equal = reported.sums.shape == expected.sums.shape and np.allclose(
        reported.sums, expected.sums, rtol=1e-9, atol=1e-9
    )
    return "" if equal else "other sums"


def metric_problems(manifest: Manifest, reported: Reported, others: Mapping[str, float | None]) -> Iterator[str]:
    """A line for each metric of a manifest that neither follows from a table nor is in `others`."""
    scores: Iterable[Score] = reported.scores
    by_name = {entry.name: entry for entry in scores}
    for metric in manifest.metrics:
        computed = by_name.get(metric.name)
        if computed is None:
            if metric.name not in others:
                yield f"{metric.name} = {metric.value} has no source: no table, no count, not the end of the log"
            elif not same(metric.value, others[metric.name]):
                yield f"{metric.name} is {metric.value}; counts.json or log.jsonl says {others[metric.name]}"
            continue
        for part in ("value", "low", "high"):
            recorded, expected = getattr(metric, part), getattr(computed, part)
            if part != "value":
                # an earlier charter recorded ends beyond the possible
                recorded, _ = within((recorded, None), computed.metric.limits, computed.value)
            if not same(recorded, expected):
                yield f"{metric.name}: {part} is {recorded} in the manifest; its table gives {expected}"
        if metric.n is not None and metric.n != computed.n:
            yield f"{metric.name}: n is {metric.n} in the manifest; there are {computed.n} kept rows"
    for name in sorted(by_name.keys() - {metric.name for metric in manifest.metrics}):
        yield f"{name} has a table and is missing from the manifest"
