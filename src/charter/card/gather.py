"""Reading what the steps of a run left behind: artifacts, their kept rows, and the numbers these give.

Numbers are computed anew from the kept rows. Where a manifest says otherwise, no card is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from charter.card.number import COUNT, Number, Source, is_count, metric_of, unit_of
from charter.ground.artifact.curves import last_logged, read_log, read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.lineage import run_of, walk
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.store import read_manifest
from charter.ground.constitution.constitution import CritiquePrinciple, load
from charter.ground.measure.metrics import VERSION, scores, tables
from charter.ground.measure.score import Table
from charter.ground.text.judgments import Judgment, read_judgments

TOLERANCE = 1e-9
COUNTS, LOG, REPORT = "counts.json", "log.jsonl", "report.json"
GAP_FILES = ("samples/harmlessness.jsonl", "samples/lookalikes.jsonl")


@dataclass(frozen=True)
class Artifact:
    """A finished artifact and what can be computed from it. `name` begins the keys of its numbers: its step, with the
    start of its id where the card holds another artifact of that step."""

    step: str
    path: Path
    manifest: Manifest
    label: str
    name: str

    @cached_property
    def numbers(self) -> dict[str, Number]:
        """All numbers of the manifest that have a source, and all that the kept rows give."""
        found = sourced(self.path, self.manifest)
        return {name: _number(self, name, *entry) for name, entry in found.items()}

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Tables behind the numbers, for differences."""
        return tables(self.path)

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


@dataclass(frozen=True)
class Run:
    """All that one card is made of; stages in order, the start first. `judged_in`: where the judgments stand."""

    stages: tuple[Artifact, ...]
    preferences: tuple[Artifact, ...]
    rl: Artifact | None
    transcripts: Artifact | None
    comparisons: Artifact | None
    judgments: tuple[Judgment, ...]
    judged_in: tuple[Source, ...]
    principles: dict[str, CritiquePrinciple]
    constitution: dict[str, str]
    lineage: tuple[Artifact, ...]

    @property
    def final(self) -> Artifact:
        return self.stages[-1]

    @property
    def start(self) -> Artifact:
        return self.stages[0]


def gather(inputs: Inputs) -> Run:
    """Reads all roles. Raises CharterError where a manifest and its kept rows disagree, or two stages share a
    name."""
    reports = inputs.many("reports")
    if not reports:
        raise CharterError(
            "a card needs at least one report: list them under `from: {reports: [...]}`, start first"
        )
    given = {role: inputs.many(role) for role in ("preference", "rl", "transcripts", "comparisons")}
    ancestry = _ancestry([*(i for found in given.values() for i in found), *reports])
    names = _names(ancestry, run_of(reports[-1].folder))
    stages = tuple(_artifact(i, names, stage=True) for i in reports)
    labels = [s.label for s in stages]
    if twice := next((n for n in labels if labels.count(n) > 1), None):
        raise CharterError(f"two reports have the stage {twice!r}; give each evaluate step its own `stage`")
    principles, constitution = _constitution(inputs.optional("constitution"))
    made = {role: tuple(_artifact(i, names) for i in found) for role, found in given.items()}
    one = {role: next(iter(made[role]), None) for role in ("rl", "transcripts", "comparisons")}
    known = {a.manifest.id: a for a in (*(a for found in made.values() for a in found), *stages)}
    return Run(
        stages=stages,
        preferences=made["preference"],
        judgments=tuple(read_judgments(*(i.folder for i in inputs.many("judgments")))),
        judged_in=tuple(Source("judgments", i.id, i.name) for i in inputs.many("judgments")),
        principles=principles,
        constitution=constitution,
        lineage=tuple(
            known.get(m.id) or Artifact(m.step, path, m, m.step, names[m.id]) for m, path in ancestry.values()
        ),
        **one,
    )


Ancestry = dict[str, tuple[Manifest, Path]]


def _ancestry(entries: Sequence[Input]) -> Ancestry:
    """All that a card is made of and their ancestors by id, ancestors first."""
    found: Ancestry = {}
    for entry in entries:
        for manifest, path in walk(entry.folder):
            found.setdefault(manifest.id, (manifest, path))
    return found


def _names(ancestry: Ancestry, home: Path) -> dict[str, str]:
    """Id -> name: the step's for the first artifact of a step, those of the run directory `home` before others."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for manifest, _ in sorted(ancestry.values(), key=lambda made: run_of(made[1]) != home):
        found[manifest.id] = manifest.step + (f"@{manifest.id[:8]}" if manifest.step in taken else "")
        taken.add(manifest.step)
    return found


def _artifact(entry: Input, names: dict[str, str], stage: bool = False) -> Artifact:
    manifest = read_manifest(entry.folder)
    if manifest.status != "done":
        raise CharterError(
            f"{entry.name} is {manifest.status}, not done; a card is made of finished artifacts"
        )
    label = str(manifest.resolved.get("stage") or manifest.step) if stage else manifest.step
    return Artifact(manifest.step, entry.folder, manifest, label, names[manifest.id])


def _constitution(entry: Input | None) -> tuple[dict[str, CritiquePrinciple], dict[str, str]]:
    if entry is None or entry.path is None:
        return {}, {}
    constitution = load(entry.path)
    facts = {
        "name": constitution.name,
        "version": str(constitution.version),
        "digest": entry.id[:12],
    }
    return {p.key: p for p in constitution.critiques}, facts


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
        files = GAP_FILES if s.name == "refusal_gap" else (f"samples/{_file(s.name)}",)
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


def _file(name: str) -> str:
    metric = metric_of(name)
    return metric.file if metric else ""


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


def read_counts(folder: Path) -> dict[str, float]:
    """counts.json of an artifact; empty where there is none. Raises CharterError where it is damaged."""
    path = folder / COUNTS
    counts = read_object(path) if path.exists() else {}
    for name, value in counts.items():
        if not isinstance(value, int | float):
            raise CharterError(f"{path}: {name} is {value!r}, expected a number; make its step again")
    return {name: float(value) for name, value in counts.items()}


def read_report(folder: Path) -> dict[str, Any]:
    """report.json of a report; empty for other kinds. Raises CharterError where it is damaged."""
    path = folder / REPORT
    report = read_object(path) if path.exists() else {}
    for name in ("model", "grader", "reward", "rater", "identity", "detectors"):
        if not isinstance(report.get(name) or {}, dict):
            raise CharterError(f"{path}: {name} is {report[name]!r}, expected an object; make its step again")
    return report


def same(first: float | None, second: float | None) -> bool:
    """Equal within 1e-9 of their size; two absent values are equal, NaN counts as absent."""
    a, b = (None if x is None or not math.isfinite(x) else x for x in (first, second))
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def log_rows(artifact: Artifact) -> list[dict[str, float]]:
    """The training curve of an artifact."""
    return read_log(artifact.path)
