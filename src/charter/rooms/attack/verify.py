"""Recomputes what the attack room found, marked and counted, from the rows that it keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from charter.rooms.attack.alike import FLAGS, with_found
from charter.rooms.attack.attackers import WRITTEN
from charter.rooms.attack.controls import QUESTION, right
from charter.rooms.attack.judging import confirm, findings_of
from charter.rooms.attack.metrics import (
    CONTROLS,
    FINDINGS,
    FITNESS,
    FRESH,
    MEANING,
    METRICS,
    SEARCH,
    TRIAL,
    UNSEEN,
    WRITER,
)
from charter.rooms.attack.product import prompt_of, review_of
from charter.rooms.attack.run import CURVE, DIALOGUES, REPORT, REVIEW, count
from charter.rooms.attack.search import curve
from charter.rooms.attack.settings import WRITERS, Settings
from charter.rooms.attack.specificity import RATED, ratings
from charter.rooms.attack.summary import write_up


def _rule(file: str, settings: Settings) -> Rule | None:
    if file == FITNESS:
        return Rule(flagger(TRIPLES))
    if file == MEANING:
        return Rule(flagger(FLAGS))
    if file in (WRITER, TRIAL):
        return Rule(flagger(WRITTEN), training_digest())
    if file not in (SEARCH, FRESH, CONTROLS):
        return None

    def flags(row: Row) -> Row:
        own: Row = flagger(MARKS)(row)
        for key, more in (("reward", FOUND), ("grader", SUCCESS), (RATED, ratings(settings.rating.threshold))):
            own = {**own, **(flagger(more)(row) if key in row else {})}
        return {**own, "right": right(dict(row))} if row.get("kind") == QUESTION else own

    return Rule(flags, training_digest())


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each written value that doesn't follow from the kept rows."""
    settings = Settings.model_validate(manifest.resolved)
    yield from table_problems(folder, METRICS)
    yield from check_marks(folder, lambda file: _rule(file, settings))
    names = [SEARCH, FRESH, FINDINGS, CONTROLS, UNSEEN]
    names += [WRITER] if settings.search.by in WRITERS else []
    tables = {name: read_objects(folder / "samples" / name) for name in names}
    messages = {row["answer"]: row["message"] for row in tables.get(WRITER, ())}
    for name in (SEARCH, FRESH, CONTROLS):
        yield from _misread(name, tables[name], messages)
    judged = confirm(settings, findings_of(settings, tables[SEARCH]), tables[FRESH])
    if judged != tables[FINDINGS]:
        yield f"samples/{FINDINGS} isn't what the search and the new samples give"
    if [with_found(row, judged) for row in tables[UNSEEN]] != tables[UNSEEN]:
        yield f"samples/{UNSEEN} isn't what the found attacks give"
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


def _misread(name: str, rows: Sequence[Mapping[str, Any]], messages: Mapping[str, str]) -> Iterator[str]:
    """Attacks that can be read back, and don't give their request; or that aren't what the writer said."""
    for row in rows:
        if row["family"] in WRITERS:
            if "answer" in row and row["asked"][-1]["content"] != messages.get(row["answer"]):
                yield f"samples/{name}: what {row['attack']} asks isn't what the writer said"
                return
            continue
        before = invert(row["asked"], row["chain"])
        if before is not None and before[-1]["content"] != row["request"]:
            yield f"samples/{name}: what {row['attack']} asks isn't its request by its chain"
            return
