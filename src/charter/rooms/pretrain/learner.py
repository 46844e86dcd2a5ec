"""The learner: one optimizer step after another, each one line of the log.

Everything here is a function of settings, seed and corpus: a run stopped anywhere ends in the same bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.workspace import Workspace
from charter.ground.learn import flops
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.optimizer import trapezoid
from charter.ground.learn.parallel import Work, distribute
from charter.ground.learn.step import advance, clip_gradients
from charter.ground.measure.counts import bits_per_byte
from charter.ground.model.transformer import Transformer
from charter.ground.settings.seed import derive_seed
from charter.rooms.pretrain.context_parallel import team
from charter.rooms.pretrain.guard import Place, line
from charter.rooms.pretrain.heldout import draw_documents, measure
from charter.rooms.pretrain.learning import accumulate, optimizer_of
from charter.rooms.pretrain.order import Pieces
from charter.rooms.pretrain.settings import Settings
from charter.rooms.pretrain.start import Start
from charter.rooms.pretrain.window import Windows
from charter.rooms.pretrain.writing import sample_prompts, write_samples

HALVES = ("before", "after")


def compile_blocks(model: Transformer, backend: str = "inductor") -> None:
    """Compile the blocks of a model in place: norms, products, rotation and feed-forward as fused kernels, attention
    left as it is. Call it after sharding; later copies of the model would compute with this one's weights.

    A block is compiled in its two halves around attention, which depends on the layout of the row and would be
    recompiled for each. The halves are compiled once, for rows of any length and for all blocks (regional compilation).
    On GPUs this saves launches and passes over memory. On CPUs it doesn't speed up the products, which are nearly all
    of the work, and costs a minute at the start.
    """
    for block in model.blocks():
        for name in HALVES:
            half = getattr(block, name)
            setattr(block, name, torch.compile(half, dynamic=True, fullgraph=True, backend=backend))


class Learner:
    """The state kept over steps: the sharded model, its optimizer, windows and resume states."""

    def __init__(self, start: Start, settings: Settings, out: Workspace) -> None:
        self.start, self.settings, self.out = start, settings, out
        model, plan = start.model, start.plan
        self.prompts = sample_prompts(start, settings.samples)
        self.windows, self.work = Windows(start, settings.window), Work()
        self.order = derive_seed(out.seed, "order")
        self.often = draw_documents(Pieces(start.heldout, plan.context, start.boundary), settings.heldout.tokens)
        model.recompute = settings.recomputes
        self.team = team(settings.parallel.context)
        distribute(model, precision=out.precision)
        if settings.compile:
            compile_blocks(model)
        self.optimizer = optimizer_of(model, plan, settings.learning)
        self.saver = Saver(out.state, {"model": model}, self.optimizer, plan.save_every)

    def restore(self) -> Place:
        """The position of the last resume state. A new run begins at step 0 and first writes that state."""
        place = Place.restore(*self.saver.load())
        if place.step == 0:
            # there is always a state to return to
            self.saver.save(0, place.extra())
        self.out.log_truncate(place.step)
        return place

    def step(self, place: Place) -> tuple[Place, dict[str, Any], list[int]]:
        """Take one optimizer step; returns the position after it, its log row, and the lengths of its texts."""
        plan, guard = self.start.plan, self.settings.guard
        train = self.windows.enter(place.step).train
        batch, cursor = train.take(place.cursor, plan.batch_tokens, self.order)
        lengths = [piece.length for piece in batch]
        microbatch, precision = plan.microbatch_tokens, self.out.precision
        loss, own_tokens = accumulate(self.start.model, train, batch, microbatch, precision, self.team)
        norm = clip_gradients(self.optimizer, self.settings.learning.clip)
        share = trapezoid(place.step, plan.steps, plan.warmup, plan.decay)
        if not (spike := place.watch.spike(loss, norm, guard)):
            advance(self.optimizer, share)
        self.optimizer.zero_grad(set_to_none=True)
        row = line(place, loss, norm, share * plan.matrix_lr, spike) | self.work.add(own_tokens)
        work = sum(lengths), flops.work(plan.shape, lengths)
        place = place.after_step(cursor, work, (loss, norm), spike, guard)
        return (self.back(place, spike) if place.watch.row == guard.patience else place), row, lengths

    def keep(self, place: Place, row: dict[str, Any]) -> None:
        """Finish a step: measure held-out text and write samples if due, log the row, and save the state unless the
        step was a spike."""
        start, plan = self.start, self.start.plan
        if place.step % plan.evaluate_every == 0 or place.step == plan.steps:
            heldout = self.windows.enter(place.step - 1).heldout
            rows = measure(start.model, heldout, self.often, plan.microbatch_tokens, self.out)
            row["bits_per_byte"] = bits_per_byte(rows).value
            write_samples(start, self.prompts, self.settings.samples, place.step, self.out)
        self.out.log(**row)
        if not place.watch.row:
            self.saver.maybe(place.step, place.extra())

    def back(self, place: Place, spike: str) -> Place:
        """Load weights and moments of the last resume state; the run continues after the spikes. Raises CharterError if
        it went back `rollbacks` times already."""
        rule = self.settings.guard
        if place.watch.rollbacks == rule.rollbacks:
            raise CharterError(
                f"{rule.patience} steps in a row up to step {place.step - 1} were spikes ({spike}), after "
                f"{rule.rollbacks} returns to an earlier state; lower learning.matrix_lr and learning.lr, or raise the "
                "factors of `guard`"
            )
        self.optimizer.state.clear()
        saved_watch = Place.restore(*self.saver.load()).watch
        watch = replace(saved_watch, row=0, spikes=place.watch.spikes, rollbacks=place.watch.rollbacks + 1)
        return replace(place, watch=watch)
