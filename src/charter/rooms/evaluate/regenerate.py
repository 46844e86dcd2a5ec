"""Deep verification: some of a report's questions are asked again, and their kept rows must come out the same.

Whole chunks are asked again, as they were first, so that on the same machine settings rows are equal to the letter;
which chunks of a task, is drawn anew each time. Called by `charter card verify --deep` through the runner.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.lineage import run_of
from charter.ground.artifact.progress import Progress
from charter.ground.artifact.store import read_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.remake import explain_mismatch, inputs_again
from charter.ground.settings.sources import is_remote
from charter.rooms.evaluate.context import Context, open_contexts
from charter.rooms.evaluate.marks import TOO_LONG
from charter.rooms.evaluate.settings import ROLES, Settings
from charter.rooms.evaluate.task import Row, Rows

TOLERANCE = 1e-3  # of scores and log-probabilities
WHOLE = frozenset({"acceptable_use"})  # whose thresholds depend on all rows


def regenerate(
    report: Path, count: int, seed: int | None = None, progress: Progress | None = None
) -> list[str]:
    """Ask chunks of each task again, drawn at random, until `count` answers of each (or all) are asked again. Returns
    one line for each row that differs, or one that says why none can be compared here and what to run.

    seed: of the draw of chunks; None draws others each time.
    """
    manifest = read_manifest(report)
    settings = Settings.model_validate(manifest.resolved)
    if any(source.role in ("policy", "helper") and is_remote(source.ref) for source in manifest.external):
        return [f"{report.name}: a server answered; it can't be held to answer so again"]
    if reason := explain_mismatch(manifest.environment, run_of(report)):
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
            if context.task.name not in WHOLE:
                problems += [f"{report.name}: {line}" for line in _again(context, report, count, rng)]
    return problems


def _again(context: Context, report: Path, count: int, rng: random.Random) -> Iterator[str]:
    """What differs in some chunks of a task, rows that are missing, and rows of questions that were never asked."""
    name, questions = context.task.name, context.task.questions(context)
    kept: dict[str, Rows] = {}
    answered: dict[str, str] = {}  # what a row names -> its item; an item may be one of several of a question
    for row in read_objects(report / f"samples/{name}.jsonl"):
        kept.setdefault(_item(row), []).append(row)
        answered |= {str(row["id"]): _item(row), _item(row): _item(row)}
    asked = {_name(question) for question in questions}
    if kept:
        yield from (f"{name}: {one} is missing from the kept rows" for one in sorted(asked - answered.keys()))
    for item, rows in kept.items():
        yield from (f"{name}: {item}{line}" for line in _miscounted(rows, asked, context.protocol.samples))
    redone: dict[str, Rows] = {}
    for row in context.task.rows(context, _drawn(context, questions, count, rng)):
        redone.setdefault(_item(row), []).append(json.loads(json.dumps(row)))
    for item, rows in redone.items():
        if item in kept:
            yield from (f"{name}: {item}{line}" for line in _differences(rows, kept[item]))


def _miscounted(rows: Rows, asked: set[str], samples: int) -> Iterator[str]:
    """What is wrong with the number of rows of an item."""
    if not {str(rows[0]["id"]), _item(rows[0])} & asked and rows[0].get("mode") != "helper":
        yield " is kept and was never asked for"
        return
    kept = sorted(row["sample"] for row in rows if "sample" in row)
    wanted = 1 if any(row.get("stop") == TOO_LONG for row in rows) else samples
    if kept and kept != list(range(wanted)):
        yield f" has the samples {', '.join(map(str, kept))}; {wanted} were asked for"


def _item(row: Row) -> str:
    return str(row.get("item", row["id"]))


def _name(question: Any) -> str:
    """The id of a question, a dialogue, a transcript or a named text."""
    if isinstance(question, dict):
        return str(question["id"])
    return str(question[0] if isinstance(question, tuple) else question.id)


def _drawn(context: Context, questions: Sequence[Any], count: int, rng: random.Random) -> list[Any]:
    """The questions of as few random chunks as hold `count` answers, in their order: chunks stay as they are."""
    size = context.chunk
    starts = list(range(0, len(questions), size))
    rng.shuffle(starts)
    chosen: list[int] = []
    while starts and len(chosen) * size * context.protocol.samples < max(1, count):
        chosen.append(starts.pop())
    return [question for start in sorted(chosen) for question in questions[start : start + size]]


def _differences(made: Rows, kept: Rows) -> Iterator[str]:
    """What of the rows of an item comes out otherwise."""
    if len(made) != len(kept):
        yield f" has {len(kept)} kept rows and {len(made)} when it is asked again"
        return
    for one, other in zip(made, kept, strict=True):
        if same(one, other):
            continue
        keys = [key for key in one.keys() | other.keys() if not same(one.get(key), other.get(key))]
        sample = f" sample {one['sample']}" if "sample" in one else ""
        if "reply" in keys:
            yield f"{sample}: its reply comes out as another text when it is asked again"
            continue
        for key in sorted(keys):
            yield f"{sample}: {key} is {other.get(key)} in the kept rows and {one.get(key)} when it is asked again"


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
