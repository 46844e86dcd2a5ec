"""Pretraining from raw text: cross-entropy of the next token, over every token of the corpus once an epoch."""

from __future__ import annotations

from dataclasses import asdict, replace

from charter.ground.artifact.curves import last_logged
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.learn import flops
from charter.ground.learn.product import save_learnt
from charter.rooms.pretrain.guard import Place
from charter.rooms.pretrain.heldout import describe_coverage, draw_documents, measure, report
from charter.rooms.pretrain.learner import Learner
from charter.rooms.pretrain.order import Pieces
from charter.rooms.pretrain.settings import Settings
from charter.rooms.pretrain.speed import Speed
from charter.rooms.pretrain.start import Start, open_start
from charter.rooms.pretrain.window import parts
from charter.rooms.pretrain.writing import announce, draw_curve


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a policy checkpoint, with its curve, held-out rows and the texts written during training."""
    start = open_start(settings, inputs, out)
    learner = Learner(start, settings, out)
    place = learner.restore()
    announce(start, out)
    speed = Speed(out, start.plan.shape, place.step)
    for name, first, end in parts(settings.window, start.plan.steps, place.step):
        with out.progress(name, end - first, place.step - first) as bar:
            while place.step < end:
                speed.begin()
                place, row, lengths = learner.step(place)
                bar_figures = speed.end(row["step"], lengths)
                learner.keep(place, row)
                bar.advance(1, loss=row["loss"], **bar_figures)
    learner.work.say(out)
    _finish(start, learner.windows.enter(start.plan.steps - 1).heldout, place, settings, out)


def _finish(start: Start, heldout: Pieces, place: Place, settings: Settings, out: Workspace) -> None:
    """Write the checkpoint, and measure once more over more text."""
    places = draw_documents(heldout, settings.heldout.final_tokens)
    rows = measure(start.model, heldout, places, start.plan.microbatch_tokens, out)
    save_learnt(start.model, start.tokenizer, out)
    counts: dict[str, float] = {
        "parameters": start.plan.shape.num_parameters,
        "steps": place.step,
        "weights": flops.multiplying(start.plan.shape),
        "tokens_learnt": place.tokens,
        "compute": place.compute,
        "epochs": place.tokens / start.epoch_tokens,
        "spikes": place.watch.spikes,
        "rollbacks": place.watch.rollbacks,
    }
    out.note(describe_coverage(rows, heldout))
    # bits per byte come first
    parts = report(rows, out)
    for name, value in counts.items():
        out.metric(name, value)
    out.write_json("counts.json", counts | parts)
    out.write_json("derived.json", asdict(replace(start.plan, shape=start.model.shape)))
    out.metric("loss", last_logged(out.path, "loss"), unit="nats/token")
    draw_curve(out)
