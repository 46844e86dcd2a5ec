"""A round of the policy's replies and everything PPO needs to know of them, laid end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from charter.ground.model.branches import Batch, branches
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.packing import microbatches
from charter.rooms.rl.prompts import Prompt


@dataclass(slots=True)
class Reply:
    """One sampled reply: its tokens, the policy's log-probabilities while sampling, and the critic's values, if there
    is one.

    `scores`: raw, by the number of each preference model that judges it; `rules`: what rules add; `earned`: all that it
    earns before the KL penalty. `sampled`: a server's log-probabilities, where one wrote it; `log_probs` are then
    training's own.
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


@dataclass(slots=True)
class Episode:
    """A prompt and its replies, which share it. `below`: states [tokens, D] behind the policy's frozen layers, once a
    pass has made them; None without such layers."""

    asked: Prompt
    prompt: list[int]
    replies: list[Reply] = field(default_factory=list)
    below: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def dialogue(self) -> Dialogue:
        return self.asked.dialogue

    @property
    def tokens(self) -> int:
        return len(self.prompt) + sum(len(r.ids) for r in self.replies)


NOTHING = Episode(
    Prompt(Dialogue("", ()), ""), [0]
)  # read where other processes have more microbatches than this one


def batch_of(episodes: Sequence[Episode], device: str) -> Batch:
    """Prompts once, replies as branches."""
    return branches([(e.prompt, [r.ids for r in e.replies]) for e in episodes], device)


def groups(episodes: Sequence[Episode], most_tokens: int) -> list[list[Episode]]:
    """Episodes in microbatches of at most `most_tokens` tokens, in order."""
    cut = microbatches([e.tokens for e in episodes], most_tokens)
    return [[episodes[i] for i in group] for group in cut]


def all_replies(episodes: Sequence[Episode]) -> list[Reply]:
    """Replies in the order of their tokens in [N]."""
    return [reply for episode in episodes for reply in episode.replies]
