"""Deep verification: asks some of a report's questions again and compares the new rows with the kept ones.

It opens the report's original inputs, if equal work gives equal results here. It asks whole chunks again, as the report
did, so that rows are equal to the letter under the same machine settings. Each call draws other chunks of a task.
`charter card verify --deep` calls it through the runner.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import Environment
from charter.ground.artifact.progress import Progress
from charter.ground.artifact.store import read_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.environment import difference, environment_of
from charter.ground.settings.execution import Execution
from charter.ground.settings.hub import fetch_input
from charter.ground.settings.room import Role
from charter.ground.settings.sources import is_remote, resolve_again
from charter.rooms.evaluate.marks import TOO_LONG
from charter.rooms.evaluate.models import EXAMINERS
from charter.rooms.evaluate.run import open_contexts
from charter.rooms.evaluate.settings import ROLES, Settings
from charter.rooms.evaluate.task import Context, Row, Rows

# Tolerance of scores and log-probabilities.
TOLERANCE = 1e-3
# Tasks whose thresholds depend on all rows.
WHOLE = frozenset({"acceptable_use"})


def explain_mismatch(recorded: Environment, run: Path) -> str | None:
    """Why samples from the recorded environment would differ here, and the remedy; None if they would be equal."""
    if recorded.device != "cpu":
        return f"made on {recorded.device}; samples are regenerated on a CPU only"
    mismatch = difference(recorded, environment_of(Execution("cpu", recorded.precision)))
    if mismatch is None:
        return None
    command = f"`{mismatch.variable}charter card verify {run} --deep`"
    advice = f"run {command}" if mismatch.variable else f"{mismatch.remedy}, then {command}"
    return f"samples can't be compared here: made with {mismatch.what} {mismatch.made}, here {mismatch.here}: {advice}"


def inputs_again(folder: Path, roles: Mapping[str, Role]) -> Inputs:
    """The original inputs of an artifact, from its manifest: siblings in the run directory and external sources."""
    manifest = read_manifest(folder)
    entries: list[Input] = []
    for parent in manifest.parents:
        product, place = find_parent(run_of(folder), parent)
        entries.append(Input(parent.role, parent.step, product.kind, product.variant, place, str(place), product.id))
    for external in manifest.external:
        source = resolve_again(external, run_of(folder))
        role, ref = external.role, external.ref
        entry = Input(role, ref, source.kind, source.variant, source.path, source.ref, source.digest)
        entries.append(fetch_input(entry, roles[role]))
    return Inputs(entries)


def regenerate(report: Path, count: int, seed: int | None = None, progress: Progress | None = None) -> list[str]:
    """Asks random chunks of each task again, until each has `count` new answers, or all. Returns one line for each row
    that differs, or one that says why rows can't be compared here and what to run.

    seed: of the draw of chunks; None draws others each time.
    """
    manifest = read_manifest(report)
    settings = Settings.model_validate(manifest.resolved)
    if any(
        source.role in ("policy", "helper", "judge", *EXAMINERS) and is_remote(source.ref)
        for source in manifest.external
    ):
        return [f"{report.name}: a server answered; it may answer otherwise now"]
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
                problems += [f"{report.name}: {line}" for line in _ask_again(context, report, count, rng)]
    return problems


def _ask_again(context: Context, report: Path, count: int, rng: random.Random) -> Iterator[str]:
    """Lines on rows that differ in some chunks of a task, missing rows, and rows of questions that nobody asked."""
    name, questions = context.task.name, context.task.questions(context)
    kept_rows: dict[str, Rows] = {}
    # id or item of a row -> item; a question may have several items
    answered: dict[str, str] = {}
    for row in read_objects(report / f"samples/{name}.jsonl"):
        kept_rows.setdefault(_item(row), []).append(row)
        answered |= {str(row["id"]): _item(row), _item(row): _item(row)}
    ids = {_name(question) for question in questions}
    if kept_rows:
        yield from (f"{name}: {row_id} is missing from the kept rows" for row_id in sorted(ids - answered.keys()))
    for item, rows in kept_rows.items():
        yield from (f"{name}: {item}{line}" for line in _check_count(rows, ids, context.protocol.samples))
    redone: dict[str, Rows] = {}
    for row in context.task.rows(context, _draw(context, questions, count, rng)):
        redone.setdefault(_item(row), []).append(json.loads(json.dumps(row)))
    for item, rows in redone.items():
        if item in kept_rows:
            yield from (f"{name}: {item}{line}" for line in _differences(rows, kept_rows[item]))


def _check_count(rows: Rows, ids: set[str], samples: int) -> Iterator[str]:
    """Lines on a wrong number of rows of an item."""
    if not {str(rows[0]["id"]), _item(rows[0])} & ids and rows[0].get("mode") != "helper":
        yield " is kept and is none of the task's questions"
        return
    numbers = sorted(row["sample"] for row in rows if "sample" in row)
    expected = 1 if any(row.get("stop") == TOO_LONG for row in rows) else samples
    if numbers and numbers != list(range(expected)):
        yield f" has the samples {', '.join(map(str, numbers))}; {expected} were asked for"


def _item(row: Row) -> str:
    return str(row.get("item", row["id"]))


def _name(question: Any) -> str:
    """The id of a question, a dialogue, a transcript or a named text."""
    if isinstance(question, dict):
        return str(question["id"])
    return str(question[0] if isinstance(question, tuple) else question.id)


def _draw(context: Context, questions: Sequence[Any], count: int, rng: random.Random) -> list[Any]:
    """The questions of the fewest random chunks with `count` answers, in their order; chunks stay whole."""
    size = context.chunk
    starts = list(range(0, len(questions), size))
    rng.shuffle(starts)
    picks: list[int] = []
    while starts and len(picks) * size * context.protocol.samples < max(1, count):
        picks.append(starts.pop())
    return [question for start in sorted(picks) for question in questions[start : start + size]]


def _differences(new_rows: Rows, kept_rows: Rows) -> Iterator[str]:
    """Lines on the rows of an item that differ from the kept ones."""
    if len(new_rows) != len(kept_rows):
        yield f" has {len(kept_rows)} kept rows and {len(new_rows)} when it is asked again"
        return
    for row, kept_row in zip(new_rows, kept_rows, strict=True):
        if same(row, kept_row):
            continue
        keys = [key for key in row.keys() | kept_row.keys() if not same(row.get(key), kept_row.get(key))]
        sample = f" sample {row['sample']}" if "sample" in row else ""
        if "reply" in keys:
            yield f"{sample}: its reply is another text when it is asked again"
            continue
        for key in sorted(keys):
            yield f"{sample}: {key} is {kept_row.get(key)} in the kept rows and {row.get(key)} when it is asked again"


def same(left: object, right: object) -> bool:
    """Whether two JSON values are equal, numbers up to rounding."""
    if isinstance(left, bool) or isinstance(right, bool) or isinstance(left, str):
        return left == right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=0, abs_tol=TOLERANCE)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, Sequence) and isinstance(right, Sequence):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right
