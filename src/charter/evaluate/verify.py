"""Deep verification: some of a report's samples are drawn and graded again, and must come out as they were kept.

Whole chunks are redone, as they were first made, so that on the same machine settings the texts are equal to the
letter. Called by `charter card verify --deep` through the runner.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from charter.evaluate import harmlessness
from charter.evaluate.context import open_context
from charter.evaluate.settings import ROLES, Settings
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.store import read_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.hub import fetched
from charter.ground.settings.sources import resolve

SCORE_TOLERANCE = 1e-3


def regenerate(report: Path, count: int) -> list[str]:
    """Redo the first chunk of the harmlessness samples of a report, at least `count` samples where it has as many;
    returns one line for each that differs in text or in a score."""
    manifest = read_manifest(report)
    settings = Settings.model_validate(manifest.resolved)
    if manifest.environment.device != "cpu":
        return [
            f"{report.name}: made on {manifest.environment.device}; samples are regenerated on a CPU only"
        ]
    with tempfile.TemporaryDirectory() as folder:
        precision = manifest.environment.precision
        out = Workspace(Path(folder), step=manifest.step, seed=manifest.seed, precision=precision)
        context = open_context(settings, _inputs(report), out)
        prompts = context.prompts("red_team", settings.counts.red_team)
        kept = {(r["id"], r["sample"]): r for r in read_objects(report / "samples/harmlessness.jsonl")}
        problems: list[str] = []
        checked = 0
        for start in range(0, len(prompts), settings.chunk):
            if checked >= count:
                break
            rows = context.sample("harmlessness", prompts[start : start + settings.chunk], settings.samples)
            harmlessness.grade(context, rows)
            for row in rows:
                problems += _differences(report.name, row, kept.get((row["id"], row["sample"])))
                checked += 1
    return problems


def _differences(name: str, made: dict[str, object], kept: dict[str, object] | None) -> list[str]:
    where = f"{name}: prompt {made['id']} sample {made['sample']}"
    if kept is None:
        return [f"{where} is missing from the kept samples"]
    if made["reply"] != kept["reply"]:
        return [f"{where} comes out as another text when it is sampled again"]
    found = []
    for key in ("grader", "grader_fixed", "reward", "reward_fixed"):
        a, b = made[key], kept[key]
        if isinstance(a, float) and (not isinstance(b, float) or abs(a - b) > SCORE_TOLERANCE):
            found.append(f"{where}: {key} is {b} in the kept samples and {a:.4f} when graded again")
    return found


def _inputs(report: Path) -> Inputs:
    """The report's inputs as they were, from its manifest: siblings in the run directory and external sources."""
    manifest = read_manifest(report)
    entries: list[Input] = []
    for parent in manifest.parents:
        made, folder = find_parent(run_of(report), parent)
        entries.append(Input(parent.role, parent.step, made.kind, made.variant, folder, str(folder), made.id))
    for external in manifest.external:
        source = resolve(external.ref if external.path is None else str(run_of(report) / external.path))
        role, ref = external.role, external.ref
        entry = Input(role, ref, source.kind, source.variant, source.path, source.ref, source.digest)
        entries.append(fetched(entry, ROLES[role]))
    return Inputs(entries)
