"""The learner: one optimizer step after another, each one line of the log.

Everything here is a function of settings, seed and corpus: a run that was stopped anywhere ends in the same bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.workspace import Workspace
from charter.ground.learn import flops
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.context_parallel import team
from charter.ground.learn.parallel import Work, distribute
from charter.ground.learn.schedule import trapezoid
from charter.ground.learn.step import advance, clip_gradients
from charter.ground.measure.counts import bits_per_byte
from charter.ground.settings.seed import derive_seed
from charter.rooms.pretrain.compiled import compile_blocks
from charter.rooms.pretrain.guard import Place, line
from charter.rooms.pretrain.heldout import drawn, measure
from charter.rooms.pretrain.learning import accumulate, optimizer_of
from charter.rooms.pretrain.order import Pieces
from charter.rooms.pretrain.settings import Settings
from charter.rooms.pretrain.start import Start
from charter.rooms.pretrain.window import Windows
from charter.rooms.pretrain.writing import sample_prompts, write_samples


class Learner:
    """What stays from step to step: the model spread over the processes, its optimizer, windows and resume states."""

    def __init__(self, begun: Start, settings: Settings, out: Workspace) -> None:
        self.begun, self.settings, self.out = begun, settings, out
        model, plan = begun.model, begun.plan
        self.prompts = sample_prompts(begun, settings.samples)
        self.windows, self.work = Windows(begun, settings.window), Work()
        self.order = derive_seed(out.seed, "order")
        self.often = drawn(Pieces(begun.heldout, plan.context, begun.boundary), settings.heldout.tokens)
        model.recompute = settings.recomputes
        self.team = team(settings.parallel.context)
        distribute(model, precision=out.precision)
        if settings.compile:
            compile_blocks(model)
        self.optimizer = optimizer_of(model, plan, settings.learning)
        self.saver = Saver(out.state, {"model": model}, self.optimizer, plan.save_every)

    def restored(self) -> Place:
        """Where the last resume state stands; of a new run the beginning, whose state is written first."""
        place = Place.restored(*self.saver.load())
        if place.step == 0:
            self.saver.save(0, place.extra())  # there is always a state to go back to
        self.out.log_truncate(place.step)
        return place

    def step(self, place: Place) -> tuple[Place, dict[str, Any], list[int]]:
        """The place behind one optimizer step, its line of the log, and the lengths of the texts that it read."""
        plan, guard = self.begun.plan, self.settings.guard
        train = self.windows.enter(place.step).train
        batch, cursor = train.take(place.cursor, plan.batch_tokens, self.order)
        lengths = [piece.length for piece in batch]
        microbatch, precision = plan.microbatch_tokens, self.out.precision
        loss, read = accumulate(self.begun.model, train, batch, microbatch, precision, self.team)
        norm = clip_gradients(self.optimizer, self.settings.learning.clip)
        share = trapezoid(place.step, plan.steps, plan.warmup, plan.decay)
        if not (spike := place.watch.spike(loss, norm, guard)):
            advance(self.optimizer, share)
        self.optimizer.zero_grad(set_to_none=True)
        row = line(place, loss, norm, share * plan.matrix_lr, spike) | self.work.add(read)
        done = sum(lengths), flops.work(plan.shape, lengths)
        place = place.behind(cursor, done, (loss, norm), spike, guard)
        return (self.back(place, spike) if place.watch.row == guard.patience else place), row, lengths

    def keep(self, place: Place, row: dict[str, Any]) -> None:
        """What follows a step: held-out text is measured and texts are written when it is time, the line is logged,
        and the state is saved unless the step was a spike."""
        begun, plan = self.begun, self.begun.plan
        if place.step % plan.evaluate_every == 0 or place.step == plan.steps:
            heldout = self.windows.enter(place.step - 1).heldout
            rows = measure(begun.model, heldout, self.often, plan.microbatch_tokens, self.out)
            row["bits_per_byte"] = bits_per_byte(rows).value
            write_samples(begun, self.prompts, self.settings.samples, place.step, self.out)
        self.out.log(**row)
        if not place.watch.row:
            self.saver.maybe(place.step, place.extra())

    def back(self, place: Place, spike: str) -> Place:
        """Weights and moments of the last resume state; the run goes on behind the spikes. Raises CharterError where it
        went back as often as it may."""
        rule = self.settings.guard
        if place.watch.rollbacks == rule.rollbacks:
            raise CharterError(
                f"{rule.patience} steps in a row up to step {place.step - 1} were spikes ({spike}), after "
                f"{rule.rollbacks} returns to an earlier state; lower learning.matrix_lr and learning.lr, or raise the "
                "factors of `guard`"
            )
        self.optimizer.state.clear()
        known = Place.restored(*self.saver.load()).watch
        watch = replace(known, row=0, spikes=place.watch.spikes, rollbacks=place.watch.rollbacks + 1)
        return replace(place, watch=watch)
