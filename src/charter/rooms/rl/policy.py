"""The policy: the trained model, its frozen start, and how both read the replies of a round.

With adapters the frozen start is the policy with its adapters off; otherwise it is a second copy of the weights.

The policy is sharded over the processes; each has a whole copy of the frozen start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.learn.loss import token_logprobs
from charter.ground.learn.parallel import full, world
from charter.ground.model.branches import Batch
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.lora import adapter_off, choose_weights
from charter.ground.model.transformer import Transformer, Trunk
from charter.ground.settings.frozen import Moved
from charter.ground.settings.seed import derive_seed
from charter.ground.text.template import Template
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.rl.rollout import Episode, Microbatches, all_replies

RATIO_TOLERANCE = 1e-3
# of bfloat16; a model of 135M shows 0.01 to 0.02
MEAN_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Policy:
    """The trained model. `reference`: its frozen start, None if that is the model without its adapters.
    `temperature`: of sampling, and of the log-probabilities."""

    model: Transformer
    reference: Transformer | None
    tokenizer: Tokenizer
    template: Template
    microbatches: Microbatches
    temperature: float
    frozen_layers: int = 0

    @classmethod
    def open(cls, folder: Path, moved: Moved, microbatches: Microbatches, temperature: float, seed: int) -> Policy:
        """Load a checkpoint. `moved` says which weights are trained; `seed` is the step's."""
        device = microbatches.device
        model, tokenizer = load_policy(folder, device)
        model.precision = microbatches.precision
        choose_weights(model, moved, derive_seed(seed, "adapters"))
        reference = None if moved.lora else load_policy(folder, device)[0].requires_grad_(False)
        template = Template(tokenizer, tokenizer.template)
        return cls(model, reference, tokenizer, template, microbatches, temperature, moved.frozen_layers)

    @contextmanager
    def whole(self) -> Iterator[Policy]:
        """The policy with all its weights gathered in this process, for sampling and reading."""
        with full(self.model) as model:
            yield replace(self, model=model)

    def states(self, model: Transformer, batch: Batch, episodes: Sequence[Episode]) -> Tensor:
        """States [N, D] of the policy or its reference that predict the reply tokens of a batch.

        The output of the frozen layers, which both share, is cached in the episodes. Only in a single process: of
        several, all must gather the weights of a layer, or none.
        """
        if not self.frozen_layers or not episodes or world().size > 1:
            return model.hidden(batch.ids, batch.layout)[batch.predicts]
        states_below = [e.below for e in episodes if e.below is not None]
        complete = len(states_below) == len(episodes)
        trunk = Trunk(self.frozen_layers, torch.cat(states_below) if complete else None)
        hidden_TD = model.hidden(batch.ids, batch.layout, trunk)
        if trunk.states is not None and not complete:
            parts = trunk.states.split_with_sizes([e.tokens for e in episodes])
            for episode, part in zip(episodes, parts, strict=True):
                episode.below = part
        return hidden_TD[batch.predicts]

    def of_states(self, model: Transformer, hidden_ND: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities [N] of a batch's reply tokens, and entropies [N] of their distributions."""
        return token_logprobs(hidden_ND, model.head_weight(), batch.targets, self.temperature)

    def logprobs(self, episodes: Sequence[Episode]) -> Tensor:
        """log pi of every reply token under the present weights, [N]."""
        return self._read(self.model, episodes)

    def reference_logprobs(self, episodes: Sequence[Episode]) -> Tensor:
        """log pi_0 of every reply token, [N]."""
        off = adapter_off(self.model) if self.reference is None else nullcontext()
        with off:
            return self._read(self.reference or self.model, episodes)

    def old_logprobs(self, episodes: Sequence[Episode]) -> Tensor:
        """log pi of every reply token before the round's updates, [N].

        In float32 they are sampling's own; for replies of a server, those computed here. In bfloat16 they are
        recomputed as training computes them: sampling rounds differently, which alone would move many ratios beyond
        the clip.
        """
        from_server = all_replies(episodes)[0].from_server
        if self.microbatches.precision == "float32" or from_server:
            return self._sampling_logprobs(episodes)
        return self.logprobs(episodes)

    def _read(self, model: Transformer, episodes: Sequence[Episode]) -> Tensor:
        def read(batch: Batch, members: Sequence[Episode]) -> Tensor:
            return self.of_states(model, self.states(model, batch, members), batch)[0]

        return torch.tensor(self.microbatches.read(episodes, read), device=self.microbatches.device)

    def _sampling_logprobs(self, episodes: Sequence[Episode]) -> Tensor:
        flat = [p for reply in all_replies(episodes) for p in reply.log_probs]
        return torch.tensor(flat, device=self.microbatches.device)

    def check_ratio_one(self, episodes: Sequence[Episode]) -> None:
        """Raise CharterError unless sampling and training agree on log-probabilities before the first update.

        In float32 every token must agree; in bfloat16, which sometimes rounds an unlikely token far off, the mean. A
        server's are checked in each round instead (`Sampler.sample`).
        """
        gaps_N = (self.logprobs(episodes) - self._sampling_logprobs(episodes)).abs()
        exact = self.microbatches.precision == "float32"
        gap = float(gaps_N.max() if exact else gaps_N.mean())
        limit = RATIO_TOLERANCE if exact else MEAN_TOLERANCE
        if gap > limit:
            scope = "on a token" if exact else "a token in the mean"
            raise CharterError(
                f"sampling and training disagree by {gap:.2g} nats {scope} (at most {limit:g} expected); "
                "the rollouts would be off-policy: please report this with the model's config.json"
            )
