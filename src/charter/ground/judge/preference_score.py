"""Preference-model scores: one scalar at a reply's last real token. The prompt is computed once for all replies.

Letters: T tokens of a row, R replies in it, D width.

Source: Bai 2022a (2204.05862) section 2.3 and appendix A.2: the model reads the whole dialogue and scores the final
reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from charter.ground.learn.step import autocast
from charter.ground.model.checkpoint import load_preference
from charter.ground.model.heads import ScoreHead
from charter.ground.model.layout import Layout, join, tree
from charter.ground.model.transformer import Transformer
from charter.ground.text.dialogue import Message
from charter.ground.text.packing import microbatches
from charter.ground.text.template import Template

ROW_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Item:
    """Token ids of a prompt and of its replies, each with its end-of-turn token; `shortened` if they exceeded the
    context."""

    prompt: list[int]
    replies: list[list[int]]
    shortened: bool = False

    @property
    def tokens(self) -> int:
        return len(self.prompt) + sum(map(len, self.replies))


PADDING_ITEM = Item([0], [[0]])  # read if other processes have more microbatches than this one


def encode_item(template: Template, messages: Sequence[Message], replies: Sequence[str], context: int) -> Item:
    """An item within `context` tokens: replies lose their last tokens before the end token, then the prompt loses its
    oldest tokens."""
    encoded = [template.encode_reply(messages, reply) for reply in replies]
    cut = [ids if len(ids) < context else [*ids[: context - 2], ids[-1]] for _, ids in encoded]
    prompt, room = encoded[0][0], context - max(map(len, cut))
    shortened = len(prompt) > room or any(len(ids) >= context for _, ids in encoded)
    return Item(prompt[-room:], cut, shortened)


def row_of(items: Sequence[Item], device: str) -> tuple[Tensor, Layout, Tensor]:
    """Flat row of items: ids [T], layout, and the index of each reply's last token [R], item by item."""
    ids: list[int] = []
    last: list[int] = []
    for item in items:
        ids += item.prompt
        for reply in item.replies:
            ids += reply
            last.append(len(ids) - 1)
    layout = join([tree(len(item.prompt), [len(r) for r in item.replies]) for item in items])
    return torch.tensor(ids, device=device), layout.to(device), torch.tensor(last, device=device)


def forward_scores(model: Transformer, head: ScoreHead, items: Sequence[Item], device: str) -> Tensor:
    """Scores [R] of all replies of the items, differentiable."""
    ids_T, layout, last_R = row_of(items, device)
    scores_R: Tensor = head(model.hidden(ids_T, layout)[last_R])
    return scores_R


class PreferenceModel:
    """A preference checkpoint that scores replies in batches, in `precision`."""

    def __init__(
        self, model: Transformer, head: ScoreHead, template: Template, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self.model, self.head, self.template = model, head, template
        self.device, self.precision = device, precision
        self.context = model.shape.context

    @classmethod
    def open(
        cls, folder: Path, device: str = "cpu", precision: str = "float32", variant: str = "preference"
    ) -> PreferenceModel:
        """Load a one-label classifier folder (ours, or a stock one of a supported family). A "rating" model loads and
        scores the same way; its scores are ratings of harm."""
        model, head, tokenizer = load_preference(folder, device, variant=variant)
        return cls(model, head, Template(tokenizer, tokenizer.template), device, precision)

    def score(self, items: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[list[float]]:
        """Score of each reply after its messages; in float32 batching changes a score by at most 1e-4."""
        encoded = [encode_item(self.template, m, replies, self.context) for m, replies in items]
        order = sorted(range(len(encoded)), key=lambda i: encoded[i].tokens)
        scores: list[list[float]] = [[] for _ in encoded]
        with torch.no_grad(), autocast(self.device, self.precision):
            for group in microbatches([encoded[i].tokens for i in order], ROW_TOKENS):
                members = [order[i] for i in group]
                scores_R = forward_scores(self.model, self.head, [encoded[i] for i in members], self.device)
                flat = scores_R.tolist()
                for i in members:
                    count = len(encoded[i].replies)
                    scores[i], flat = flat[:count], flat[count:]
        return scores
