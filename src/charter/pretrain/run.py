"""Pretraining from raw text: cross-entropy of the next token, over every token of the corpus once an epoch.

One line of the log is one optimizer step. Everything here is a function of settings, seed and corpus: a run that was
stopped anywhere ends in the same bits.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import torch

from charter.ground.artifact.curves import last_logged
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.learn import flops
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.compiled import compile_blocks
from charter.ground.learn.context_parallel import team
from charter.ground.learn.parallel import Work, distribute, full
from charter.ground.learn.schedule import trapezoid
from charter.ground.learn.step import advance, clipped
from charter.ground.measure.counts import bits_per_byte
from charter.ground.model.checkpoint import save_policy
from charter.ground.settings.seed import derive_seed
from charter.pretrain.guard import Place, line
from charter.pretrain.heldout import covered, drawn, measure, report
from charter.pretrain.learning import accumulate, optimizer_of
from charter.pretrain.order import Pieces
from charter.pretrain.settings import Guard, Settings
from charter.pretrain.speed import Speed
from charter.pretrain.start import Start, start
from charter.pretrain.window import Windows, parts
from charter.pretrain.writing import announce, draw_curve, write_samples


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a policy checkpoint, with its curve, held-out rows and the texts written on the way."""
    begun = start(settings, inputs, out)
    model, plan, seed = begun.model, begun.plan, derive_seed(out.seed, "order")
    windows = Windows(begun, settings.window)
    often = drawn(Pieces(begun.heldout, plan.context, begun.boundary), settings.heldout.tokens)
    model.recompute = settings.recompute or bool(settings.window.stages)
    own = team(settings.parallel.context)
    distribute(model, precision=out.precision)
    if settings.compile:
        compile_blocks(model)
    optimizer = optimizer_of(model, plan, settings.learning)
    saver = Saver(out.state, {"model": model}, optimizer, plan.save_every)
    place = Place.restored(*saver.load())
    if place.step == 0:
        saver.save(0, place.extra())  # there is always a state to go back to
    out.log_truncate(place.step)
    announce(begun, out)
    speed, work = Speed(out, plan.shape, place.step), Work()
    for name, first, end in parts(settings.window, plan.steps, place.step):
        with out.progress(name, end - first, place.step - first) as bar:
            while place.step < end:
                speed.begin()
                train, heldout = windows.enter(place.step)
                batch, cursor = train.take(place.cursor, plan.batch_tokens, seed)
                lengths = [piece.length for piece in batch]
                loss, read = accumulate(model, train, batch, plan.microbatch_tokens, out.precision, own)
                norm = clipped(optimizer, settings.learning.clip)
                share = trapezoid(place.step, plan.steps, plan.warmup, plan.decay)
                if not (spike := place.watch.spike(loss, norm, settings.guard)):
                    advance(optimizer, share)
                optimizer.zero_grad(set_to_none=True)
                row = line(place, loss, norm, share * plan.matrix_lr, spike) | work.add(read)
                done = sum(lengths), flops.work(plan.shape, lengths)
                place = place.behind(cursor, done, (loss, norm), spike, settings.guard)
                if place.watch.row == settings.guard.patience:
                    place = _back(place, saver, optimizer, spike, settings.guard)
                shown = speed.end(row["step"], lengths)
                if place.step % plan.evaluate_every == 0 or place.step == plan.steps:
                    rows = measure(model, heldout, often, plan.microbatch_tokens, out)
                    row["bits_per_byte"] = bits_per_byte(rows).value
                    write_samples(model, begun.tokenizer, settings.samples, place.step, out)
                out.log(**row)
                if not place.watch.row:
                    saver.maybe(place.step, place.extra())
                bar.advance(1, loss=loss, **shown)
    work.say(out)
    _finish(begun, windows.enter(plan.steps - 1).heldout, place, settings, out)


def _back(place: Place, saver: Saver, optimizer: torch.optim.Optimizer, spike: str, rule: Guard) -> Place:
    """Weights and moments of the last resume state; the run goes on behind the spikes. Raises CharterError where it
    went back as often as it may."""
    if place.watch.rollbacks == rule.rollbacks:
        raise CharterError(
            f"{rule.patience} steps in a row up to step {place.step - 1} were spikes ({spike}), after "
            f"{rule.rollbacks} returns to an earlier state; lower learning.matrix_lr and learning.lr, or raise the "
            "factors of `guard`"
        )
    optimizer.state.clear()
    known = Place.restored(*saver.load()).watch
    watch = replace(known, row=0, spikes=place.watch.spikes, rollbacks=place.watch.rollbacks + 1)
    return replace(place, watch=watch)


def _finish(begun: Start, heldout: Pieces, place: Place, settings: Settings, out: Workspace) -> None:
    """The checkpoint, and the last measurement over more text."""
    chosen = drawn(heldout, settings.heldout.final_tokens)
    rows = measure(begun.model, heldout, chosen, begun.plan.microbatch_tokens, out)
    with full(begun.model) as whole:
        save_policy(whole, begun.tokenizer, out.path)
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
