"""Pretraining from raw text: cross-entropy of the next token, over every token of the corpus once an epoch."""

from __future__ import annotations

from dataclasses import asdict, replace

from charter.ground.artifact.curves import last_logged
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.learn import flops
from charter.ground.learn.product import save_learnt
from charter.rooms.pretrain.guard import Place
from charter.rooms.pretrain.heldout import covered, drawn, measure, report
from charter.rooms.pretrain.learner import Learner
from charter.rooms.pretrain.order import Pieces
from charter.rooms.pretrain.settings import Settings
from charter.rooms.pretrain.speed import Speed
from charter.rooms.pretrain.start import Start, start
from charter.rooms.pretrain.window import parts
from charter.rooms.pretrain.writing import announce, draw_curve


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a policy checkpoint, with its curve, held-out rows and the texts written on the way."""
    begun = start(settings, inputs, out)
    learner = Learner(begun, settings, out)
    place = learner.restored()
    announce(begun, out)
    speed = Speed(out, begun.plan.shape, place.step)
    for name, first, end in parts(settings.window, begun.plan.steps, place.step):
        with out.progress(name, end - first, place.step - first) as bar:
            while place.step < end:
                speed.begin()
                place, row, lengths = learner.step(place)
                shown = speed.end(row["step"], lengths)
                learner.keep(place, row)
                bar.advance(1, loss=row["loss"], **shown)
    learner.work.say(out)
    _finish(begun, learner.windows.enter(begun.plan.steps - 1).heldout, place, settings, out)


def _finish(begun: Start, heldout: Pieces, place: Place, settings: Settings, out: Workspace) -> None:
    """The checkpoint, and the last measurement over more text."""
    chosen = drawn(heldout, settings.heldout.final_tokens)
    rows = measure(begun.model, heldout, chosen, begun.plan.microbatch_tokens, out)
    save_learnt(begun.model, begun.tokenizer, out)
    counts: dict[str, float] = {
        "parameters": begun.plan.shape.num_parameters,
        "steps": place.step,
        "weights": flops.multiplying(begun.plan.shape),
        "tokens_learnt": place.tokens,
        "compute": place.compute,
        "epochs": place.tokens / begun.epoch_tokens,
        "spikes": place.watch.spikes,
        "rollbacks": place.watch.rollbacks,
    }
    out.note(covered(rows, heldout))
    parts = report(rows, out)  # bits per byte are named first
    for name, value in counts.items():
        out.metric(name, value)
    out.write_json("counts.json", counts | parts)
    out.write_json("derived.json", asdict(replace(begun.plan, shape=begun.model.shape)))
    out.metric("loss", last_logged(out.path, "loss"), unit="nats/token")
    draw_curve(out)
