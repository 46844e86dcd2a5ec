"""Recomputes what the attack room found, marked and counted, from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Row, read_counts, same
from charter.ground.attack.chains import invert
from charter.ground.judge.detect import training_digest
from charter.ground.judge.flags import TRIPLES, Rule, check_marks, flagger
from charter.ground.judge.success import FOUND, MARKS, SUCCESS
from charter.ground.measure.reporting import TABLES, read_reported, table_problems
from charter.ground.text.records import dialogue_row
from charter.rooms.attack.judging import QUESTION, confirm, findings_of, right
from charter.rooms.attack.metrics import CONTROLS, FINDINGS, FITNESS, FRESH, METRICS, SEARCH
from charter.rooms.attack.run import CURVE, DIALOGUES, REPORT, REVIEW, count, prompt_of, review_of
from charter.rooms.attack.search import curve
from charter.rooms.attack.settings import Settings
from charter.rooms.attack.summary import write_up


def _of_control(row: Row) -> Row:
    if row["kind"] == QUESTION:
        return {**flagger(MARKS)(row), "right": right(dict(row))}
    return flagger({**MARKS, **SUCCESS})(row)


_RULES: Mapping[str, Callable[[Row], Row]] = {
    SEARCH: flagger({**MARKS, **FOUND}),
    FRESH: flagger({**MARKS, **FOUND, **SUCCESS}),
    CONTROLS: _of_control,
}


def _rule(file: str) -> Rule | None:
    if file == FITNESS:
        return Rule(flagger(TRIPLES))
    return Rule(_RULES[file], training_digest()) if file in _RULES else None


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each written value that doesn't follow from the kept rows."""
    settings = Settings.model_validate(manifest.resolved)
    yield from table_problems(folder, METRICS)
    yield from check_marks(folder, _rule)
    tables = {name: read_objects(folder / "samples" / name) for name in (SEARCH, FRESH, FINDINGS, CONTROLS)}
    for name in (SEARCH, FRESH, CONTROLS):
        yield from _misread(name, tables[name])
    judged = confirm(settings, findings_of(settings, tables[SEARCH]), tables[FRESH])
    if judged != tables[FINDINGS]:
        yield f"samples/{FINDINGS} isn't what the search and the new samples give"
    prompts = [dialogue_row(prompt_of(row)) for row in tables[FINDINGS] if row["confirmed"]]
    if prompts != read_objects(folder / DIALOGUES):
        yield f"{DIALOGUES} isn't what the confirmed attacks give"
    if review_of(tables[FRESH]) != read_objects(folder / REVIEW):
        yield f"{REVIEW} isn't what the new samples give"
    points = curve(tables[SEARCH], settings.search.together)
    if points != read_objects(folder / CURVE):
        yield f"{CURVE} isn't what the search gives"
    text = write_up(read_reported(folder), points, count(tables))
    if text != (folder / REPORT).read_text("utf-8"):
        yield f"{REPORT} doesn't say what the rows and {TABLES} give"
    stored = read_counts(folder)
    for name, value in count(tables).items():
        if not same(stored.get(name), value):
            yield f"counts.json: {name} is {stored.get(name)}; the rows beside it give {value}"


def _misread(name: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Attacks that can be read back, and don't give their request."""
    for row in rows:
        before = invert(row["asked"], row["chain"])
        if before is not None and before[-1]["content"] != row["request"]:
            yield f"samples/{name}: what {row['attack']} asks isn't its request by its chain"
            return
