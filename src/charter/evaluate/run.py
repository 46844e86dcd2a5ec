"""One report on one model: the card's protocols that a 135M model on two cores can be held to (spec: card 3.4, 3.5).

Every reply is kept with its scores; every number is taken from the kept rows by `measure.metrics`, so that it can
be recomputed by anyone who has the report.
"""

from __future__ import annotations

from typing import Any

from charter.evaluate import (
    acceptable_use,
    gates,
    harmlessness,
    helpfulness,
    hhh,
    lookalikes,
    loss,
    revisions,
)
from charter.evaluate.context import Context, open_context
from charter.evaluate.gates import named
from charter.evaluate.rater import judged
from charter.evaluate.settings import Settings
from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.detect import learnt_from, precision_recall
from charter.ground.measure.metrics import scores
from charter.ground.text.exhibits import read_labelled


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: report.json, samples/*.jsonl; review.jsonl of an assistant, thresholds.yaml of a screen."""
    report: dict[str, Any] = {"stage": settings.stage, "model": named(inputs, "policy")}
    if "assistant" in settings.tasks:
        report |= _assistant(settings, inputs, out)
    if "acceptable_use" in settings.tasks:
        report["acceptable_use"] = acceptable_use.evaluate(settings, inputs, out)
    out.write_json("report.json", report)
    for s in scores(out.path):
        out.metric(s.name, s.value, low=s.low, high=s.high, n=s.n, version=s.version, unit=s.unit or None)


def _assistant(settings: Settings, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """The replies of the model under test, graded and kept; returns what report.json says of them."""
    _check_baseline(settings, inputs)
    labelled = read_labelled(inputs.one("detectors").folder)
    context = open_context(settings, inputs, out)
    _check_sets(context)
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
    out.write_jsonl("samples/hhh.jsonl", hhh.rows(context))
    out.write_jsonl("samples/text.jsonl", loss.rows(context))
    if inputs.many("transcripts"):
        out.write_jsonl("samples/revisions.jsonl", revisions.rows(context))

    return {
        **graders,
        "rater": rater,
        "start": named(inputs, "start") if inputs.optional("start") else None,
        "identity": _identity(context, inputs),
        "detectors": precision_recall(labelled),
    }


def _check_baseline(settings: Settings, inputs: Inputs) -> None:
    """Wins compare scores, which mean something under one grader, and for replies asked for alike, alone."""
    baseline, grader = inputs.optional("baseline"), inputs.one("grader")
    if baseline is None:
        return
    report = read_object(baseline.folder / "report.json")
    other = (report.get("grader") or {}).get("id", "no grader")
    if other != grader.id:
        raise CharterError(
            f"the baseline {baseline.name} was graded by {other[:12]}, this report by {grader.id[:12]} "
            f"({grader.name}); evaluate the baseline with this grader, or leave `baseline` out"
        )
    identity = report.get("identity") or {}
    sets = sorted(entry["id"] for entry in identity.get("sets", {}).get("helpful", []))
    differs = [
        key
        for key in ("temperature", "max_tokens", "draw_seed")
        if identity.get(key) != getattr(settings, key)
    ]
    differs += ["helpful"] if sets != sorted(i.id for i in inputs.many("helpful")) else []
    if differs:
        raise CharterError(
            f"the baseline {baseline.name} was evaluated with another {' and '.join(differs)}; give both the same, or "
            "leave `baseline` out"
        )


def _check_sets(context: Context) -> None:
    """Reads every set once, so that what is wrong with one is said before anything is sampled."""
    for role in ("red_team", "lookalikes", "helpful"):
        context.prompts(role, getattr(context.settings.counts, role))
    hhh.items(context)
    loss.texts(context)
    revisions.transcripts(context)


def _identity(context: Context, inputs: Inputs) -> dict[str, Any]:
    """What must be equal for two scores to be compared: prompt sets, grader, sampling, shots, seed, and what
    words prompts and detects refusals."""
    settings = context.settings
    sets = {
        role: [{"ref": i.name, "id": i.id} for i in inputs.many(role)]
        for role in ("red_team", "lookalikes", "helpful", "hhh", "text", "fitness")
    }
    return {
        "sets": sets,
        "grader": inputs.one("grader").id,
        "counts": settings.counts.model_dump(),
        "samples": settings.samples,
        "other_samples": settings.other_samples,
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "hhh_shots": settings.hhh_shots,
        "draw_seed": settings.draw_seed,
        "template": context.template,
        "detectors": learnt_from(),
    }
