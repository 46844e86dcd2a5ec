"""The critic: values of the states before reply tokens, by a head on the policy's trunk or on its own.

On the shared trunk it computes values while the policy samples, without an extra pass. On its own trunk it reads each
round's replies after sampling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from charter.ground.learn.parallel import full
from charter.ground.learn.step import autocast
from charter.ground.model.branches import Batch
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.heads import ValueHead
from charter.ground.model.transformer import Transformer
from charter.rooms.rl.rollout import Episode, Microbatches, all_replies, by_reply
from charter.rooms.rl.settings import Value


@dataclass(frozen=True, slots=True)
class Critic:
    """The value function of a run. `trunk`: its own model, None if the head reads the policy's states."""

    head: ValueHead
    trunk: Transformer | None
    settings: Value
    microbatches: Microbatches

    @classmethod
    def open(cls, folder: Path, hidden_size: int, settings: Value, microbatches: Microbatches) -> Critic:
        """A new critic of a policy whose states are `hidden_size` wide; its own trunk starts as the policy does."""
        head = ValueHead(hidden_size).to(microbatches.device)
        trunk = load_policy(folder, microbatches.device)[0] if settings.trunk == "own" else None
        return cls(head, trunk, settings, microbatches)

    @contextmanager
    def whole(self) -> Iterator[Critic]:
        """The critic with all its weights gathered in this process."""
        with full(self.head) as head, full(self.trunk) if self.trunk else nullcontext() as trunk:
            yield replace(self, head=head, trunk=trunk)

    def of_states(self, hidden_ND: Tensor) -> Tensor:
        """Values [N] of states of the head's trunk."""
        values_N: Tensor = self.head(hidden_ND)
        return values_N

    def values(self, batch: Batch, hidden_ND: Tensor) -> Tensor:
        """Values [N] of a batch whose policy states are `hidden_ND`."""
        return self.of_states(hidden_ND) if self.trunk is None else self._own_values(self.trunk, batch)

    def fill_values(self, episodes: Sequence[Episode]) -> None:
        """Fill in the replies' values by its own trunk; on the shared trunk sampling has set them already."""
        if (trunk := self.trunk) is None:
            return
        values = self.microbatches.read(episodes, lambda batch, _: self._own_values(trunk, batch))
        for reply, reply_values in zip(all_replies(episodes), by_reply(values, episodes), strict=True):
            reply.values = reply_values

    def _own_values(self, trunk: Transformer, batch: Batch) -> Tensor:
        with autocast(self.microbatches.device, self.microbatches.precision):
            return self.of_states(trunk.hidden(batch.ids, batch.layout)[batch.predicts])
