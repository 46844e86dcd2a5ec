"""Plays the kept turns again in fresh worlds, and recomputes every verdict, class, number and page from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import read_counts, same
from charter.ground.measure.reporting import table_problems
from charter.ground.world.task import judged
from charter.rooms.audit.classes import marks_of, row_of
from charter.rooms.audit.metrics import METRICS, TRIES, count
from charter.rooms.audit.pages import pages
from charter.rooms.audit.run import REPORT, REVIEW, TRANSCRIPTS, review_of
from charter.rooms.audit.settings import Settings
from charter.rooms.audit.summary import write_up
from charter.rooms.audit.tries import VOID, Played, plans


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each written value that doesn't follow from the kept turns."""
    settings = Settings.model_validate(manifest.resolved)
    yield from table_problems(folder, METRICS)
    rows = read_objects(folder / TRIES)
    wanted = plans(settings)
    if [row["id"] for row in rows] != [plan.id for plan in wanted]:
        yield f"{TRIES} has other tries than the settings ask for"
        return
    transcripts = {plan.id: read_object(folder / TRANSCRIPTS / f"{plan.id}.json") for plan in wanted}
    for plan, row in zip(wanted, rows, strict=True):
        kept = transcripts[plan.id]
        if kept["ended"] == VOID:  # what broke need not break again
            if row["ended"] != VOID or row["passed"]:
                yield f"{TRIES}: {plan.id} was void, and counts"
            continue
        one = replayed(Played(plan, settings, kept["again"]), kept)
        if [turn.shown for turn in one.turns] != [turn["shown"] for turn in kept["turns"]]:
            yield f"{TRANSCRIPTS}/{plan.id}.json shows other things than its world does"
        if row_of(one, judged(one.task, plan.seed, one.lines)) != row:
            yield f"{TRIES}: {plan.id} isn't what its turns give"
    if list(map(marks_of, rows)) != read_objects(folder / "samples" / TRIES):
        yield f"samples/{TRIES} isn't what {TRIES} gives"
    if review_of(transcripts) != read_objects(folder / REVIEW):
        yield f"{REVIEW} isn't what the turns give"
    texts = {REPORT: write_up(rows, settings), **dict(pages(rows, transcripts, settings))}
    for name, text in texts.items():
        if (folder / name).read_bytes() != text.encode():  # a model may write half a line break
            yield f"{name} doesn't say what the tries give"
    stored = read_counts(folder)
    for name, value in count(rows).items():
        if not same(stored.get(name), value):
            yield f"counts.json: {name} is {stored.get(name)}; the rows beside it give {value}"


def replayed(one: Played, transcript: Mapping[str, Any]) -> Played:
    """A try with the turns of a transcript, played in a fresh world."""
    for turn in transcript["turns"]:
        if one.ended:
            break
        called = {} if turn["call"] is None else {"line": turn["line"], "call": turn["call"]}
        if one.settings.tools == "native":
            called = {"line": turn["line"], "call": turn["call"]}
        one.take({"reply": turn["reply"], "left_out": 0, **called})
    return one
