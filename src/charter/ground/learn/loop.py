"""The optimizer steps of a learning whose steps are known before it begins: what all such loops do around a gradient.

A room keeps its loop in sight, and says in it what a step's gradient is and what the log says of it:

    loop = Loop({"model": (model, settings.lr)}, settings, out)
    with loop.over("dpo", len(steps)) as left:
        for step in left:
            loss, tokens = ...                              # the gradient of a step, over all processes
            rates = loop.update(step, loss, names)
            loop.end(step, tokens, {"loss": loss, **rates}, loss=loss)

A run that was stopped goes on behind its last resume state, and the log lines after that state are written again.
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
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.parallel import Work, distribute
from charter.ground.learn.schedule import Kind, lr_share
from charter.ground.learn.step import check_finite, update


class Pace(Protocol):
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
    """A learning: modules spread over all processes, their optimizer and resume states. `done` steps lie behind it.

    Weights are sharded once it is made: read them by `parallel.full`. `state` is where resume states lie, by default
    the workspace's own folder; `before` counts the steps in the log that another learning took before this one.
    """

    def __init__(
        self,
        learners: Mapping[str, tuple[nn.Module, float]],
        pace: Pace,
        out: Workspace,
        weight_decay: float = 0.0,
        state: Path | None = None,
        before: int = 0,
    ) -> None:
        """`learners`: each module by its name, with its peak learning rate."""
        self._pace, self._out, self._before, self._work = pace, out, before, Work()
        self._bar: Bar = SilentBar()
        self._steps = 0
        modules = {name: module for name, (module, _) in learners.items()}
        distribute(*modules.values(), precision=out.precision)
        self._optimizer = adamw([(m.parameters(), peak) for m, peak in learners.values()], weight_decay)
        self._saver = Saver(state or out.state, modules, self._optimizer, pace.save_every)
        self.done, _ = self._saver.load()
        out.log_truncate(before + self.done)

    @contextmanager
    def over(self, title: str, steps: int) -> Iterator[range]:
        """The numbers of the steps that are left of so many, behind a progress bar."""
        self._steps = steps
        with self._out.progress(title, steps, self.done) as self._bar:
            yield range(self.done, steps)
        self._work.say(self._out)

    def update(self, step: int, loss: float, names: Sequence[str]) -> dict[str, float]:
        """Moves the weights by the gradient of a step; returns its learning rate and the norm of its gradient. Raises
        CharterError, which names the step and what it read, if the loss or the norm is not finite."""
        check_finite(loss, "loss", self._before + step, names)
        share = lr_share(step, self._steps, self._pace.warmup, self._pace.schedule)
        norm = update(self._optimizer, share, self._pace.clip)
        check_finite(norm, "gradient norm", self._before + step, names)
        return {"lr": share * self._pace.lr, "grad_norm": norm}

    def end(self, step: int, tokens: int, row: Mapping[str, object], **shown: float) -> None:
        """Ends a step in which this process read so many tokens: its line of the log, its resume state if it is time,
        and what is shown beside the bar."""
        self._out.log(step=self._before + step, **row, **self._work.add(tokens))
        self._saver.maybe(step + 1)
        self._bar.advance(1, **shown)
