"""Spikes by rule: which optimizer steps are not taken, when a run goes back, and when it gives up.

A step is a spike if its loss or the norm of its gradient is not finite, or over a multiple of what is usual: the ninth
decile of the last steps, since texts of several kinds have losses of several heights. It is not taken, and counted; but
remembered, so that what comes often becomes usual. After `patience` spikes in a row the weights are those of the last
resume state again and the run goes on behind the spikes: text between that state and here is left out (Chowdhery 2022,
section 5.1). After `rollbacks` of these it stops. Nothing here knows the clock, so that a resumed run decides the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from charter.rooms.pretrain.order import Cursor
from charter.rooms.pretrain.settings import Guard


def usual(known: Sequence[float]) -> float:
    """The ninth decile."""
    return sorted(known)[int(0.9 * (len(known) - 1))]


@dataclass(frozen=True, slots=True)
class Watch:
    """What the rule remembers: losses and norms of the last steps, spikes in a row, spikes and returns in all."""

    losses: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()
    row: int = 0
    spikes: int = 0
    rollbacks: int = 0

    def spike(self, loss: float, norm: float, rule: Guard) -> str:
        """Why a step is a spike, "" where it is none."""
        for what, value, known, factor in (
            ("loss", loss, self.losses, rule.loss_factor),
            ("gradient norm", norm, self.norms, rule.norm_factor),
        ):
            if not math.isfinite(value):
                return f"{what} is {value}"
            if len(known) == rule.history and value > factor * usual(known):
                return f"{what} {value:.3g} is over {factor:g} times the usual {usual(known):.3g}"
        return ""

    def taken(self, loss: float, norm: float, rule: Guard) -> Watch:
        """Behind a step that was taken."""
        return replace(self._seen(loss, norm, rule), row=0)

    def skipped(self, loss: float, norm: float, rule: Guard) -> Watch:
        """Behind a spike."""
        return replace(self._seen(loss, norm, rule), row=self.row + 1, spikes=self.spikes + 1)

    def _seen(self, loss: float, norm: float, rule: Guard) -> Watch:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return self
        losses, norms = (*self.losses, loss)[-rule.history :], (*self.norms, norm)[-rule.history :]
        return replace(self, losses=losses, norms=norms)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is: finished steps, its place in the data, tokens read and the FLOPs that this took, what the rule
    remembers."""

    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    tokens: int = 0
    compute: float = 0.0
    watch: Watch = field(default_factory=Watch)

    def behind(
        self, cursor: Cursor, read: tuple[int, float], figures: tuple[float, float], spike: str, rule: Guard
    ) -> Place:
        """Behind one more step that read so many tokens with so many FLOPs, whose loss and norm are `figures`;
        `spike`: why it wasn't taken."""
        watch = (self.watch.skipped if spike else self.watch.taken)(*figures, rule)
        tokens, compute = read
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
    def restored(cls, step: int, extra: Mapping[str, Any]) -> Place:
        """From a resume state; the beginning where there is none."""
        if not extra:
            return cls()
        (epoch, at, tokens, compute), (losses, norms) = extra["data"], extra["last"]
        row, spikes, rollbacks = extra["spikes"]
        watch = Watch(tuple(losses), tuple(norms), row, spikes, rollbacks)
        return cls(step, Cursor(epoch, at), tokens, compute, watch)


def line(place: Place, loss: float, norm: float, rate: float, spike: str) -> dict[str, Any]:
    """What the log says of a step: its number, the tokens before it, and its figures where they are numbers."""
    figures = {"loss": loss, "grad_norm": norm}
    row: dict[str, Any] = {
        "step": place.step,
        "tokens": place.tokens,
        "epoch": place.cursor.epoch,
        "lr": rate,
    }
    row |= {name: value if math.isfinite(value) else None for name, value in figures.items()}
    return row | ({"spike": spike} if spike else {})
