"""One report on one model: the card's protocols that a 135M model on two cores can be held to (spec: card 3.4, 3.5).

Every reply is kept with its scores; every number is taken from the kept rows by `measure.metrics`, so that it can
be recomputed by anyone who has the report.
"""

from __future__ import annotations

from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.detect import learnt_from, precision_recall
from charter.ground.measure.metrics import OF_REPORT
from charter.ground.measure.reporting import record
from charter.ground.text.examples import read_labelled
from charter.rooms.evaluate import (
    acceptable_use,
    facts,
    gates,
    harmlessness,
    helpfulness,
    hhh,
    lookalikes,
    loss,
    revisions,
)
from charter.rooms.evaluate.baseline import check_baseline
from charter.rooms.evaluate.context import Asking, open_asking, open_context
from charter.rooms.evaluate.gates import named
from charter.rooms.evaluate.rater import judged
from charter.rooms.evaluate.sets import check_sets, named_sets
from charter.rooms.evaluate.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: report.json, samples/*.jsonl; review.jsonl of an assistant, thresholds.yaml of a screen."""
    report: dict[str, Any] = {"stage": settings.stage, "model": named(inputs, "policy")}
    if "assistant" in settings.tasks:
        report |= _assistant(settings, inputs, out)
    elif "facts" in settings.tasks:
        report |= _ungraded(settings, inputs, out)
    if "acceptable_use" in settings.tasks:
        report["acceptable_use"] = acceptable_use.evaluate(settings, inputs, out)
    out.write_json("report.json", report)
    record(out, OF_REPORT)


def _assistant(settings: Settings, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """The replies of the model under test, graded and kept; returns what report.json says of them."""
    labelled = read_labelled(inputs.one("detectors").folder)
    context = open_context(settings, inputs, out)
    check_baseline(context)
    check_sets(context)
    rater = judged(inputs, out)
    graders = gates.judged(context, inputs, out)

    unsafe = harmlessness.rows(context)
    out.write_jsonl("samples/harmlessness.jsonl", unsafe)
    out.write_jsonl("review.jsonl", harmlessness.review_queue(unsafe))
    out.write_jsonl("samples/lookalikes.jsonl", lookalikes.rows(context))
    helpful = helpfulness.rows(context)
    out.write_jsonl("samples/helpful.jsonl", helpful)
    baseline = inputs.optional("baseline")
    if baseline is not None:
        before = read_objects(baseline.folder / "samples/helpful.jsonl")
        out.write_jsonl("samples/wins.jsonl", helpfulness.wins(helpful, before))
    if "facts" in settings.tasks:
        facts.write(context)
    out.write_jsonl("samples/hhh.jsonl", hhh.rows(context))
    out.write_jsonl("samples/text.jsonl", loss.rows(context))
    if inputs.many("transcripts"):
        out.write_jsonl("samples/revisions.jsonl", revisions.rows(context))

    return {
        **graders,
        "rater": rater,
        "decoding": _decoding(context),
        "start": named(inputs, "start") if inputs.optional("start") else None,
        "identity": _identity(context, inputs),
        "detectors": precision_recall(labelled),
    }


def _ungraded(settings: Settings, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Replies that no model grades; returns what report.json says of them."""
    context = open_asking(settings, inputs, out)
    facts.write(context)
    return {
        **{role: named(inputs, role) for role in ("grader", "reward", "rater") if inputs.many(role)},
        "decoding": _decoding(context),
        "identity": _identity(context, inputs),
        "detectors": precision_recall(read_labelled(inputs.one("detectors").folder)),
    }


def _decoding(context: Asking) -> dict[str, Any]:
    """Whose decoding the replies were drawn by, and which; what of it isn't applied here is said."""
    used = context.decoding
    if used.ignored:
        context.out.note(
            f"{context.settings.stage}: sampled without {', '.join(used.ignored)} of its own decoding"
        )
    return {"kind": context.settings.decoding, **used.facts, "ignored": list(used.ignored)}


def _identity(context: Asking, inputs: Inputs) -> dict[str, Any]:
    """What must be equal for two scores to be compared: prompt sets, grader, sampling, shots, seed, and what
    words prompts and detects refusals."""
    settings = context.settings
    grader = inputs.optional("grader")
    return {
        "sets": named_sets(settings, inputs),
        "grader": grader.id if grader else None,
        "counts": settings.counts.model_dump(),
        "samples": settings.samples,
        "other_samples": settings.other_samples,
        **context.decoding.facts,
        "max_tokens": settings.max_tokens,
        "hhh_shots": settings.hhh_shots,
        "draw_seed": settings.draw_seed,
        "template": context.template,
        "detectors": learnt_from(),
    }
