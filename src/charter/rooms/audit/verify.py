"""Plays the kept turns again in fresh worlds, and recomputes every verdict, class, number and page from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import read_counts, same
from charter.ground.measure.reporting import table_problems
from charter.ground.world.engine import COMMANDS
from charter.ground.world.talk import Shape, messages, native_messages
from charter.ground.world.task import judged
from charter.rooms.audit.agent import AGAIN
from charter.rooms.audit.classes import marks_of, row_of
from charter.rooms.audit.metrics import METRICS, TRIES, count
from charter.rooms.audit.pages import pages
from charter.rooms.audit.run import REPORT, REVIEW, TRANSCRIPTS, review_of, transcript_of
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
        one = replayed(Played(plan, settings, kept["again"]), kept)
        if kept["ended"] == VOID:  # what broke need not break again
            if row["ended"] != VOID or row["passed"]:
                yield f"{TRIES}: {plan.id} was void, and counts"
            if kept["again"] < AGAIN:
                yield f"{TRIES}: {plan.id} is void, and was not begun {AGAIN} times anew"
            if one.ended != VOID and judged(one.task, plan.seed, one.lines).passed:
                yield f"{TRIES}: {plan.id} is void, and its turns pass"
            continue
        if [turn.shown for turn in one.turns] != [turn["shown"] for turn in kept["turns"]]:
            yield f"{TRANSCRIPTS}/{plan.id}.json shows other things than its world does"
        elif all(json.dumps(transcript_of(one, view)) != json.dumps(kept) for view in views(one)):
            yield f"{TRANSCRIPTS}/{plan.id}.json has other words than were told and said"
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
        native, call = one.settings.tools == "native", turn["call"]
        line = COMMANDS[call["name"]].line(call["values"]) if native and call else ""
        one.take({"reply": turn["reply"], "left_out": 0, **({"line": line, "call": call} if native else {})})
    return one


def views(one: Played) -> Iterator[list[Any]]:
    """All messages of a try, in the forms in which its model may have had them."""
    if one.settings.tools == "text":
        yield list(messages(one.opening, one.turns))
        return
    shapes: tuple[Shape, ...] = get_args(Shape)
    yield from (native_messages(one.opening, one.turns, shape) for shape in shapes)
