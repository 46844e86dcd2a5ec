"""The line through two checkpoints: one model whose weights move along it, and the choice of a place on it.

Of the places that refuse few enough harmless prompts the one that refuses most other prompts is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.model.checkpoint import load_policy, named_tensors


class Line:
    """weights(s) = start + s * (policy - start), written into `model`, which has the policy's decoding."""

    def __init__(self, start: Path, policy: Path, device: str, precision: str) -> None:
        """Raises CharterError if the models differ in shape or tokenizer."""
        first, tokens = load_policy(start, device)
        self.model, self.tokenizer = load_policy(policy, device)
        if first.shape != self.model.shape:
            raise CharterError(
                f"start and policy have different shapes ({first.shape} and {self.model.shape}); a line goes through "
                "two checkpoints of one model: give the checkpoint that the policy was finetuned from as start"
            )
        if tokens.vocab_size != self.tokenizer.vocab_size:
            raise CharterError(
                f"start and policy have different tokenizers ({tokens.vocab_size} and {self.tokenizer.vocab_size} "
                "tokens); give the checkpoint that the policy was finetuned from as start"
            )
        self.model.precision = precision
        self._start = named_tensors(first)
        self._policy = {name: tensor.clone() for name, tensor in named_tensors(self.model).items()}

    def move(self, share: float) -> None:
        """Set the model's weights to a place on the line; 0 and 1 are the two checkpoints bit by bit."""
        with torch.no_grad():
            for name, tensor in named_tensors(self.model).items():
                tensor.copy_(_between(self._start[name], self._policy[name], share))


def _between(start: Tensor, policy: Tensor, share: float) -> Tensor:
    return policy if share == 1 else start + share * (policy - start)


@dataclass(frozen=True, slots=True)
class Place:
    """A share of the policy, and its refusal rates on harmless prompts and on the others."""

    share: float
    refused_prompts: float
    refused_harmless: float


def choose(places: Sequence[Place], most_refusal: float) -> Place:
    """The best place within the bound; if none is within, the one that refuses fewest harmless prompts.

    A tie goes to the place nearest to the start.
    """
    within = [place for place in places if place.refused_harmless <= most_refusal]
    if not within:
        least = min(place.refused_harmless for place in places)
        within = [place for place in places if place.refused_harmless == least]
    return max(within, key=lambda place: (place.refused_prompts, -place.share))
