"""Computes a report's tables, and the marks of its rows, again from the rows that it keeps.

It takes the sandbox's verdict on a program and the helper's choice of an option as they are kept. Everything else must
follow from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import Manifest
from charter.ground.judge import flags
from charter.ground.judge.fitness import HELPFUL_PAIRS
from charter.ground.measure.metrics import TRIPLES
from charter.ground.measure.reporting import read_reported, table_problems
from charter.ground.reports.signoff import SIGNOFF
from charter.rooms.evaluate.catalogue import METRICS as METRICS
from charter.rooms.evaluate.catalogue import TASKS
from charter.rooms.evaluate.claims import report_problems
from charter.rooms.evaluate.grouped import by_group
from charter.rooms.evaluate.security_register import signoff_rows
from charter.rooms.evaluate.task import CONTAMINATION, Marks
from charter.rooms.evaluate.tasks import attacks, behaviours, harm_scores, labelled, stated_shown, truthfulqa

OF_JUDGES = {TRIPLES: flags.TRIPLES, "fitness_reward.jsonl": flags.TRIPLES, HELPFUL_PAIRS: flags.RANKED}


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each number or mark that doesn't follow from the kept rows."""
    yield from table_problems(folder, METRICS)
    yield from report_problems(folder, manifest)
    yield from _group_problems(folder)
    yield from _retest_problems(folder, manifest)
    if (folder / SIGNOFF).exists() and read_objects(folder / SIGNOFF) != signoff_rows(read_reported(folder)):
        yield f"{SIGNOFF} isn't what the numbers of the report give; sign a copy, not the report's own"
    identity = read_object(folder / "report.json").get("identity") or {}

    def rule(file: str) -> flags.Rule | None:
        if file in OF_JUDGES:
            return flags.Rule(flags.flagger(OF_JUDGES[file]))
        if file == CONTAMINATION:
            return flags.Rule(overlap)
        task = TASKS.get(file.removesuffix(".jsonl"))
        facts = identity.get(task.name) or {} if task else {}
        marks = task.rule(facts) if task else None
        if task is None or marks is None:
            return None
        return flags.Rule(marks, facts.get("detectors") if task.detecting else None)

    yield from flags.check_marks(folder, rule)


def _group_problems(folder: Path) -> Iterator[str]:
    """A line for each file of scores by group that doesn't follow from the kept rows."""
    for task, scores, file in (
        (behaviours.TASK, behaviours.by_behaviour, behaviours.BY_NAME),
        (labelled.TASK, partial(by_group, columns=labelled.COLUMNS), labelled.BY_NAME),
        (harm_scores.TASK, partial(by_group, columns=harm_scores.COLUMNS), harm_scores.BY_PROMPT),
        (stated_shown.TASK, partial(by_group, columns=stated_shown.COLUMNS), stated_shown.BY_BEHAVIOUR),
        (truthfulqa.TASK, truthfulqa.by_category, truthfulqa.BY_CATEGORY),
    ):
        kept, samples = folder / file, folder / f"samples/{task.name}.jsonl"
        # reports from before there was one
        lenient = file == truthfulqa.BY_CATEGORY and not kept.exists()
        if not samples.exists() or lenient:
            continue
        if not kept.exists() or read_objects(kept) != scores(read_objects(samples)):
            yield f"{file} is missing, or isn't what the kept rows of {task.name} give"


def _retest_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line if what stands of attacks before and after doesn't follow from both reports' rows."""
    kept = folder / attacks.RETESTS
    baseline = next((p for p in manifest.parents if p.role == "baseline"), None)
    if not kept.exists() or baseline is None:
        return
    place = Path("samples") / f"{attacks.NAME}.jsonl"
    other = find_parent(run_of(folder), baseline)[1] / place
    before = read_objects(other) if other.exists() else []
    if read_objects(kept) != attacks.retests(before, read_objects(folder / place)):
        yield f"{attacks.RETESTS} isn't what the kept rows of both reports give"


def overlap(row: Marks) -> Marks:
    """Marks of a question in the contamination check: a hit if some source has it; only a checked one can be a hit."""
    return {"hit": bool(row["where"]) and row["checked"], "checked": bool(row["checked"])}
