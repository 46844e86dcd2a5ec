"""A round of the policy's replies, their figures for PPO, and how models read them.

A round's reply tokens are laid end to end, [N], in the order of its episodes and of each episode's replies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeVar

import torch
from torch import Tensor

from charter.ground.learn.parallel import divide
from charter.ground.learn.step import autocast
from charter.ground.model.branches import Batch, branches
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.packing import microbatches
from charter.rooms.rl.prompts import Prompt

T = TypeVar("T")


@dataclass(slots=True)
class Reply:
    """One sampled reply: its tokens, the policy's log-probabilities while sampling, and the critic's values, if there
    is one.

    `scores`: raw, by the index of each preference model that judges it; `rules`: the rules' part of the reward;
    `earned`: the reward before the KL penalty. `sampled`: the server's log-probabilities, if a server wrote the reply;
    `log_probs` are then training's own.
    """

    ids: list[int]
    text: str
    stop: str
    log_probs: list[float]
    values: list[float]
    scores: dict[int, float] = field(default_factory=dict)
    heldout: float | None = None
    refused: bool = False
    rules: float = 0.0
    earned: float = 0.0
    sampled: list[float] = field(default_factory=list)

    @property
    def score(self) -> float | None:
        """Mean raw score of the models that judge it; None without one."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else None

    @property
    def from_server(self) -> bool:
        """Whether a server wrote it."""
        return bool(self.sampled)


@dataclass(slots=True)
class Episode:
    """A prompt, its ids, and its replies. `below`: states [tokens, D] after the policy's frozen layers, once a pass has
    computed them; None without such layers."""

    prompt: Prompt
    prompt_ids: list[int]
    replies: list[Reply] = field(default_factory=list)
    below: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def dialogue(self) -> Dialogue:
        """The dialogue of the prompt."""
        return self.prompt.dialogue

    @property
    def reply_tokens(self) -> int:
        """Tokens of all its replies."""
        return sum(len(r.ids) for r in self.replies)

    @property
    def tokens(self) -> int:
        """Tokens that a pass over the episode reads."""
        return len(self.prompt_ids) + self.reply_tokens


# read if other processes have more microbatches than this one
PADDING_EPISODE = Episode(Prompt(Dialogue("", ()), ""), [0])


def batch_of(episodes: Sequence[Episode], device: str) -> Batch:
    """Prompts once, replies as branches."""
    return branches([(e.prompt_ids, [r.ids for r in e.replies]) for e in episodes], device)


def groups(episodes: Sequence[Episode], most_tokens: int) -> list[list[Episode]]:
    """Episodes in microbatches of at most `most_tokens` tokens, in order."""
    numbered = microbatches([e.tokens for e in episodes], most_tokens)
    return [[episodes[i] for i in group] for group in numbered]


def all_replies(episodes: Sequence[Episode]) -> list[Reply]:
    """Replies in the order of their tokens in [N]."""
    return [reply for episode in episodes for reply in episode.replies]


def by_reply(flat: Sequence[T], episodes: Sequence[Episode]) -> list[list[T]]:
    """Values of a round's reply tokens [N], one row per reply."""
    lengths = [len(reply.ids) for reply in all_replies(episodes)]
    ends = accumulate(lengths)
    return [list(flat[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


@dataclass(frozen=True, slots=True)
class Microbatches:
    """How models read a round: on which device, in which precision, and at most how many tokens in one pass."""

    device: str
    precision: str
    most_tokens: int

    def read(self, episodes: Sequence[Episode], of_batch: Callable[[Batch, Sequence[Episode]], Tensor]) -> list[Any]:
        """One or several numbers for each reply token [N] of a round, without gradient; `of_batch` computes them for
        the episodes of a microbatch. Several processes each read a part of the episodes, then share the numbers."""
        rows = divide(episodes, lambda part: self._read(part, of_batch))
        return [value for row in rows for value in row]

    def _read(
        self, episodes: Sequence[Episode], of_batch: Callable[[Batch, Sequence[Episode]], Tensor]
    ) -> list[list[Any]]:
        """The numbers of this process, one row per episode."""
        rows: list[list[Any]] = []
        with torch.no_grad():
            for members in groups(episodes, self.most_tokens):
                with autocast(self.device, self.precision):
                    flat = of_batch(batch_of(members, self.device), members).tolist()
                ends = accumulate(e.reply_tokens for e in members)
                rows += [flat[end - e.reply_tokens : end] for end, e in zip(ends, members, strict=True)]
        return rows
