"""Red teaming by machine: attacks are searched under one grader, by rules or by a writer, and judged by another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import local_of
from charter.ground.judge.fitness import fitness, in_chunks
from charter.ground.measure.reporting import read_reported, record
from charter.ground.model.opening import checkpoint_folder
from charter.ground.moderation.classifiers.states import States
from charter.ground.settings.seed import derive_seed
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.records import dialogue_row
from charter.rooms.attack.alike import compare, held_out
from charter.rooms.attack.attackers import in_turns
from charter.rooms.attack.controls import composed, controls, controls_by_writer
from charter.rooms.attack.goals import Goals, read_easy, read_goals, twins_of
from charter.rooms.attack.judging import confirm, findings_of, sample_anew
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
from charter.rooms.attack.search import curve, search
from charter.rooms.attack.settings import WRITERS, Settings
from charter.rooms.attack.summary import write_up
from charter.rooms.attack.target import Target, Try
from charter.rooms.attack.trial import try_writer

Row = dict[str, Any]
BY_SEARCH = "search"
DIALOGUES, REVIEW, CURVE, REPORT = "dialogues.jsonl", "review.jsonl", "curve.jsonl", "attack.md"


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: dialogues.jsonl (confirmed attacks as prompts), review.jsonl (replies for people), attack.md,
    curve.jsonl, counts.json and the rows of all requests in samples/."""
    goals = read_goals(settings, inputs)
    control_goals = goals.even(settings.controls.goals)
    twins = twins_of(control_goals, inputs, derive_seed(settings.draw_seed, "twins")) if control_goals else []
    questions = read_easy(settings, inputs)
    target = Target(settings, inputs, out)
    attacks = settings.search.by in WRITERS
    trial = try_writer(settings, inputs, target, out) if attacks else []
    searched, written = (_by_writer if attacks else _search)(settings, goals, target, out)
    findings = findings_of(settings, searched)
    fresh = sample_anew(settings, findings, goals.seen, target, out)
    judged = confirm(settings, findings, fresh)
    compared = controls(settings, goals, twins, questions, target, out)
    if attacks:
        rows, answers = controls_by_writer(settings, goals, twins, questions, target, out)
        compared, written = compared + rows, written + answers
    grader = in_chunks(target.scorers["grader"], out, "fitness", "known replies")
    tables = {
        SEARCH: searched,
        FRESH: fresh,
        FINDINGS: judged,
        CONTROLS: compared,
        FITNESS: fitness(grader, read_jsonl(inputs.one("fitness").folder)).rows,
        UNSEEN: held_out(goals.unseen, goals.seen, judged),
    }
    if attacks:
        tables |= {WRITER: written, TRIAL: trial}
    if local_of(target.policy) is not None:
        reader = States.open(checkpoint_folder(inputs.one("policy")), out.device)
        tables[MEANING] = compare(reader, judged, goals.unseen, goals.seen)
    for name, rows in tables.items():
        out.write_jsonl(f"samples/{name}", rows, restricted=name != FITNESS)
    prompts = [dialogue_row(prompt_of(row)) for row in judged if row["confirmed"]]
    out.write_jsonl(DIALOGUES, prompts, restricted=True)
    out.write_jsonl(REVIEW, review_of(fresh), restricted=True)
    numbers = count(tables)
    out.counts(numbers)
    record(out, METRICS)
    points = curve(searched, settings.search.together)
    out.write_jsonl(CURVE, points)
    out.write_text(REPORT, write_up(read_reported(out.path), points, numbers))
    out.note(f"{numbers['confirmed']:.0f} of {numbers['findings']:.0f} found attacks are confirmed; see attack.md")


def _by_writer(settings: Settings, goals: Goals, target: Target, out: Workspace) -> tuple[list[Row], list[Row]]:
    return composed(settings, target, out, BY_SEARCH).run(in_turns(goals.seen, out.seed))


def _search(settings: Settings, goals: Goals, target: Target, out: Workspace) -> tuple[list[Row], list[Row]]:
    def send(tries: Sequence[Try], number: int) -> list[Row]:
        key, title = f"search-{number:04d}", f"search, round {number + 1}"
        return out.chunks(key, tries, len(tries), lambda part, _: target.send(part, "reward"), title)

    return search(settings.search, goals.seen, goals.seen_families, out.seed, send), []


def count(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Requests of the search to the model and to the writer, successes by its grader, found, distinct and confirmed
    attacks."""
    return {
        "queries": len(tables[SEARCH]),
        "asks": sum(row["answer"].startswith(f"{BY_SEARCH}/") for row in tables.get(WRITER, ())),
        "found": sum(row["found"] for row in tables[SEARCH]),
        "findings": len(tables[FINDINGS]),
        "distinct": sum(row["distinct"] for row in tables[FINDINGS]),
        "confirmed": sum(row["confirmed"] for row in tables[FINDINGS]),
    }
