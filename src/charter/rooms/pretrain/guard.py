"""Spikes by rule: which optimizer steps are skipped, when a run goes back, and when it gives up.

A step is a spike if its loss or gradient norm is not finite, or over a multiple of the usual value: the ninth decile of
the last steps, since texts of several kinds have losses of several heights. A spike is skipped and counted, but
remembered, so that frequent values become usual. After `patience` spikes in a row the run loads the weights of the last
resume state and continues after the spikes: text since that state is left out (Chowdhery 2022, section 5.1). After
`rollbacks` returns it stops. Nothing here depends on the clock, so a resumed run decides the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from charter.rooms.pretrain.order import Cursor
from charter.rooms.pretrain.settings import Guard


def ninth_decile(figures: Sequence[float]) -> float:
    """The ninth decile."""
    return sorted(figures)[int(0.9 * (len(figures) - 1))]


@dataclass(frozen=True, slots=True)
class Watch:
    """The rule's memory: losses and norms of the last steps, spikes in a row, spikes and returns in total."""

    losses: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()
    row: int = 0
    spikes: int = 0
    rollbacks: int = 0

    def spike(self, loss: float, norm: float, rule: Guard) -> str:
        """Why a step is a spike, "" if it is none."""
        for quantity, value, last, factor in (
            ("loss", loss, self.losses, rule.loss_factor),
            ("gradient norm", norm, self.norms, rule.norm_factor),
        ):
            if not math.isfinite(value):
                return f"{quantity} is {value}"
            if len(last) == rule.history and value > factor * ninth_decile(last):
                return f"{quantity} {value:.3g} is over {factor:g} times the usual {ninth_decile(last):.3g}"
        return ""

    def after_update(self, loss: float, norm: float, rule: Guard) -> Watch:
        """The memory after an optimizer update."""
        return replace(self._remember(loss, norm, rule), row=0)

    def after_spike(self, loss: float, norm: float, rule: Guard) -> Watch:
        """The memory after a spike."""
        return replace(self._remember(loss, norm, rule), row=self.row + 1, spikes=self.spikes + 1)

    def _remember(self, loss: float, norm: float, rule: Guard) -> Watch:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return self
        losses, norms = (*self.losses, loss)[-rule.history :], (*self.norms, norm)[-rule.history :]
        return replace(self, losses=losses, norms=norms)


@dataclass(frozen=True, slots=True)
class Place:
    """A run's position: finished steps, cursor in the data, tokens read, FLOPs so far, and the rule's memory."""

    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    tokens: int = 0
    compute: float = 0.0
    watch: Watch = field(default_factory=Watch)

    def after_step(
        self, cursor: Cursor, work: tuple[int, float], figures: tuple[float, float], spike: str, rule: Guard
    ) -> Place:
        """The position after one more step. `work`: its tokens and FLOPs; `figures`: its loss and norm; `spike`: why it
        was skipped, or ""."""
        watch = (self.watch.after_spike if spike else self.watch.after_update)(*figures, rule)
        tokens, compute = work
        return Place(self.step + 1, cursor, self.tokens + tokens, self.compute + compute, watch)

    def extra(self) -> dict[str, Any]:
        """As JSON, for a resume state."""
        watch = self.watch
        return {
            "data": [self.cursor.epoch, self.cursor.at, self.tokens, self.compute],
            "last": [list(watch.losses), list(watch.norms)],
            "spikes": [watch.row, watch.spikes, watch.rollbacks],
        }

    @classmethod
    def restore(cls, step: int, extra: Mapping[str, Any]) -> Place:
        """The position of a resume state; the beginning if `extra` is empty."""
        if not extra:
            return cls()
        (epoch, at, tokens, compute), (losses, norms) = extra["data"], extra["last"]
        row, spikes, rollbacks = extra["spikes"]
        watch = Watch(tuple(losses), tuple(norms), row, spikes, rollbacks)
        return cls(step, Cursor(epoch, at), tokens, compute, watch)


def line(place: Place, loss: float, norm: float, rate: float, spike: str) -> dict[str, Any]:
    """The log row of a step: its number, the tokens before it, and its figures, None if not finite."""
    figures = {"loss": loss, "grad_norm": norm}
    row: dict[str, Any] = {"step": place.step, "tokens": place.tokens, "epoch": place.cursor.epoch, "lr": rate}
    row |= {name: value if math.isfinite(value) else None for name, value in figures.items()}
    return row | ({"spike": spike} if spike else {})
