"""The loop of optimizer steps, if their number is known before the first: all that happens around a gradient.

A room's code shows its loop, and in it the gradient of a step and its line in the log:

    loop = Loop({"model": (model, settings.lr)}, settings, out)
    with loop.over("dpo", len(steps)) as remaining:
        for step in remaining:
            loss, tokens = ...                              # the gradient of a step, over all processes
            rates = loop.update(step, loss, names)
            loop.end(step, tokens, {"loss": loss, **rates}, loss=loss)

A stopped run continues after its last resume state, and writes the later log lines again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from torch import nn

from charter.ground.artifact.progress import Bar, SilentBar
from charter.ground.artifact.workspace import Workspace
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.optimizer import Kind, adamw, lr_share
from charter.ground.learn.parallel import Work, distribute
from charter.ground.learn.step import check_finite, update


class LoopSettings(Protocol):
    """The settings that a loop reads."""

    @property
    def lr(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def schedule(self) -> Kind: ...
    @property
    def clip(self) -> float: ...
    @property
    def save_every(self) -> int: ...


class Loop:
    """A training: modules spread over all processes, their optimizer and resume states. `done`: finished steps.

    From its construction on the weights are sharded: read them by `parallel.full`. `state`: the folder of resume
    states, by default that of the workspace. `before`: the steps of earlier trainings in the same log.
    """

    def __init__(
        self,
        learners: Mapping[str, tuple[nn.Module, float]],
        settings: LoopSettings,
        out: Workspace,
        weight_decay: float = 0.0,
        state: Path | None = None,
        before: int = 0,
    ) -> None:
        """`learners`: each module by its name, with its peak learning rate."""
        self._settings, self._out, self._before, self._work = settings, out, before, Work()
        self._bar: Bar = SilentBar()
        self._steps = 0
        modules = {name: module for name, (module, _) in learners.items()}
        distribute(*modules.values(), precision=out.precision)
        self._optimizer = adamw([(m.parameters(), peak) for m, peak in learners.values()], weight_decay)
        self._saver = Saver(state or out.state, modules, self._optimizer, settings.save_every)
        self.done, _ = self._saver.load()
        out.log_truncate(before + self.done)

    @contextmanager
    def over(self, title: str, steps: int) -> Iterator[range]:
        """The numbers of the remaining steps, out of `steps`, with a progress bar."""
        self._steps = steps
        with self._out.progress(title, steps, self.done) as self._bar:
            yield range(self.done, steps)
        self._work.say(self._out)

    def update(self, step: int, loss: float, names: Sequence[str]) -> dict[str, float]:
        """Updates the weights by the gradient of a step; returns its learning rate and the norm of its gradient. If the
        loss or the norm is not finite, it raises CharterError with the step and the names of its documents."""
        check_finite(loss, "loss", self._before + step, names)
        share = lr_share(step, self._steps, self._settings.warmup, self._settings.schedule)
        norm = update(self._optimizer, share, self._settings.clip)
        check_finite(norm, "gradient norm", self._before + step, names)
        return {"lr": share * self._settings.lr, "grad_norm": norm}

    def end(self, step: int, tokens: int, row: Mapping[str, object], **shown: float) -> None:
        """Ends a step in which this process read `tokens`: writes its line of the log, its resume state if it is time,
        and the values beside the bar."""
        self._out.log(step=self._before + step, **row, **self._work.add(tokens))
        self._saver.maybe(step + 1)
        self._bar.advance(1, **shown)
