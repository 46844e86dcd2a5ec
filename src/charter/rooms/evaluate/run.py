"""One report on one model: each task of the card by its protocol, and the judges' own verdicts.

Every answer is kept with its marks. Every number comes from the kept rows, so that whoever has the report can compute
it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import own_decoding
from charter.ground.judge.detect import precision_recall
from charter.ground.measure.reporting import Reported, read_reported, record
from charter.ground.text.examples import read_labelled
from charter.rooms.evaluate.asking import check_form
from charter.rooms.evaluate.catalogue import METRICS
from charter.rooms.evaluate.contamination import check_questions, contamination
from charter.rooms.evaluate.corrections import missing_corrections
from charter.rooms.evaluate.gates import describe_model, describe_shown, examiner, judges
from charter.rooms.evaluate.identity import check_baseline, identity
from charter.rooms.evaluate.models import Models
from charter.rooms.evaluate.screening import Screening
from charter.rooms.evaluate.settings import Settings
from charter.rooms.evaluate.task import Context, Rows


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: report.json, tables.json, samples/<task>.jsonl; review.jsonl of flagged replies, thresholds.yaml of a
    screen."""
    contexts = open_contexts(settings, inputs, out)
    # errors in data show before hours of work
    questions = {c.task.name: c.task.questions(c) for c in contexts}
    for context in contexts:
        check_questions(context.task.name, questions[context.task.name])
        check_baseline(context)
        check_form(context)
    report = _heading(settings, inputs, contexts) | judges(contexts, inputs, out)
    # several tasks may add rows to one file
    beside: dict[str, Rows] = {}
    harmful = set[str]()
    for context in contexts:
        task = context.task
        rows = task.rows(context, questions[task.name])
        out.write_jsonl(f"samples/{task.name}.jsonl", rows, task.harmful)
        for file, more in task.beside(context, rows) if task.beside else ():
            beside.setdefault(file, []).extend(more)
            harmful |= {file} if task.harmful else set()
    for file, more in beside.items():
        out.write_jsonl(file, more, file in harmful)
    report |= examiner(contexts, inputs, out)
    if any(context.task.group for context in contexts):
        report["contamination"] = contamination(inputs.one("policy"), questions, out)
    report["identity"] |= {context.task.name: identity(context) for context in contexts}
    report["questions"] = {context.task.name: context.drawn for context in contexts if context.drawn}
    record(out, METRICS)
    reported = read_reported(out.path)
    note_missing_corrections(contexts, reported)
    for context in contexts:
        if context.task.after:
            context.task.after(context, reported)
    report |= {context.task.name: context.summary for context in contexts if context.summary}
    out.write_json("report.json", report)


def note_missing_corrections(contexts: Sequence[Context], reported: Reported) -> None:
    """Says in report.json why a task has no corrected rate."""
    for context in contexts:
        whys: dict[str, list[str]] = {}
        for metric, why in missing_corrections(reported, context.task.numbers):
            whys.setdefault(why, []).append(metric.name)
        for why, names in whys.items():
            context.absent(why, *names)


def _heading(settings: Settings, inputs: Inputs, contexts: list[Context]) -> dict[str, Any]:
    """What report.json says of the models and of the decoding."""
    heading: dict[str, Any] = {"stage": settings.stage, "model": describe_shown(settings, inputs), "identity": {}}
    if any(context.protocol.max_tokens for context in contexts):
        heading["decoding"] = _decoding(settings, contexts)
        heading["helper"] = describe_model(inputs, "helper" if inputs.optional("helper") else "policy")
    heading["judge"] = describe_model(inputs, "judge") if inputs.optional("judge") else None
    heading["start"] = describe_model(inputs, "start") if inputs.optional("start") else None
    labelled = inputs.optional("detectors")
    if labelled is not None and any(context.task.detecting for context in contexts):
        heading["detectors"] = precision_recall(read_labelled(labelled.folder))
    return heading


def _decoding(settings: Settings, contexts: list[Context]) -> dict[str, Any]:
    """The decoding of free answers, whose it is, and which of its fields aren't applied here."""
    if settings.decoding == "protocol":
        sampled = [context.protocol for context in contexts if context.protocol.max_tokens]
        free = next((protocol for protocol in sampled if protocol.temperature), sampled[0])
        return {"kind": "protocol", **free.decoding.facts, "ignored": []}
    decoding = own_decoding(contexts[0].models.policy)
    if decoding.ignored:
        contexts[0].out.note(f"{settings.stage}: sampled without {', '.join(decoding.ignored)} of its own decoding")
    return {"kind": "own", **decoding.facts, "ignored": list(decoding.ignored)}


def open_contexts(settings: Settings, inputs: Inputs, out: Workspace) -> list[Context]:
    """A context for every task of a report. Models are loaded at their first use."""
    models, screening = Models(inputs, out, settings.show), Screening(settings, inputs, out)
    contexts = []
    for task in settings.evaluations:
        if not task.role.required and not inputs.many(task.data_role):
            # such as revisions without transcripts
            continue
        change = settings.change_of(task.name)
        protocol = task.protocol.apply_change(settings.limit, change)
        if settings.decoding == "own" and protocol.max_tokens:
            protocol = protocol.use_decoding(own_decoding(models.policy), change)
        contexts.append(Context(settings, inputs, out, models, task, protocol, screening))
    return contexts
