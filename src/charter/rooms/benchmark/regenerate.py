"""Deep verification: some of a report's questions are asked again, and their kept rows must come out the same.

Whole chunks are asked again, as they were first, so that on the same machine settings rows are equal to the letter;
which chunk of a task, is drawn anew each time. Called by `charter card verify --deep` through the runner.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.lineage import run_of
from charter.ground.artifact.progress import Progress
from charter.ground.artifact.store import read_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.remake import elsewhere, inputs_again
from charter.ground.settings.sources import is_remote
from charter.rooms.benchmark.context import Context
from charter.rooms.benchmark.run import EVALUATIONS, open_contexts
from charter.rooms.benchmark.settings import ROLES, Settings

TOLERANCE = 1e-3  # of a log-probability
Row = dict[str, Any]


def regenerate(
    report: Path, count: int, seed: int | None = None, progress: Progress | None = None
) -> list[str]:
    """Ask a chunk of each task again. Returns one line for each row that differs, or one that says why none can be
    compared here and what to run.

    count: ignored, as a chunk is the least that can be compared. seed: of the draw of chunks; None draws others each
    time.
    """
    manifest = read_manifest(report)
    settings = Settings.model_validate(manifest.resolved)
    if any(source.role in ("policy", "helper") and is_remote(source.ref) for source in manifest.external):
        return [f"{report.name}: a server answered; it can't be held to answer so again"]
    if reason := elsewhere(manifest.environment, run_of(report)):
        return [f"{report.name}: {reason}"]
    rng = random.Random(seed)
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Workspace(
            Path(folder),
            step=manifest.step,
            seed=manifest.seed,
            precision=manifest.environment.precision,
            progress=progress,
        )
        for context in open_contexts(settings, inputs_again(report, ROLES), out):
            problems += [f"{report.name}: {line}" for line in _redo(context, report, rng)]
    return problems


def _redo(context: Context, report: Path, rng: random.Random) -> list[str]:
    """What differs in one chunk of a task, and rows that are missing."""
    module = EVALUATIONS[context.task]
    questions = module.questions(context)
    kept: dict[str, list[Row]] = {}
    there: set[str] = set()  # a row's item is a question, or one of several of the question that `id` names
    for row in read_objects(report / f"samples/{context.task}.jsonl"):
        kept.setdefault(row["item"], []).append(row)
        there |= {row["item"], row["id"]}
    missing = [
        f"{context.task}: {q.id} is missing from the kept rows" for q in questions if q.id not in there
    ]
    size = context.chunk
    at = rng.randrange(0, len(questions), size) if questions else 0
    made: dict[str, list[Row]] = {}
    for row in module.rows(context, questions[at : at + size]):
        made.setdefault(row["item"], []).append(json.loads(json.dumps(row)))
    for item, rows in made.items():
        if item in kept and not same(rows, kept[item]):
            missing.append(f"{context.task}: {item} comes out otherwise when it is asked again")
    return missing


def same(made: object, kept: object) -> bool:
    """Whether two JSON values are equal, numbers up to rounding."""
    if isinstance(made, bool) or isinstance(kept, bool) or isinstance(made, str):
        return made == kept
    if isinstance(made, int | float) and isinstance(kept, int | float):
        return math.isclose(made, kept, rel_tol=0, abs_tol=TOLERANCE)
    if isinstance(made, dict) and isinstance(kept, dict):
        return made.keys() == kept.keys() and all(same(made[k], kept[k]) for k in made)
    if isinstance(made, Sequence) and isinstance(kept, Sequence):
        return len(made) == len(kept) and all(map(same, made, kept))
    return made == kept
