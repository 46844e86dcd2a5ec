"""The product of learning: whole weights with merged adapters; the leading process writes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from charter.ground.artifact.workspace import Workspace
from charter.ground.learn.parallel import full, world
from charter.ground.model.checkpoint import save_policy, save_preference
from charter.ground.model.heads import ScoreHead
from charter.ground.model.lora import merge_lora
from charter.ground.model.transformer import Transformer
from charter.ground.text.tokenizer import Tokenizer


@contextmanager
def merge_adapters(model: Transformer) -> Iterator[Transformer]:
    """The model as it is saved, for measurements: whole weights, adapters merged into them. All processes must call it
    together."""
    with full(model) as merged:
        merge_lora(merged)
        yield merged


def save_learnt(model: Transformer, tokenizer: Tokenizer, out: Workspace) -> None:
    """Writes a policy as the product of a step; all processes must call it together."""
    with merge_adapters(model) as merged:
        if world().leads:
            save_policy(merged, tokenizer, out.path)


def save_learnt_scorer(
    model: Transformer, head: ScoreHead, tokenizer: Tokenizer, out: Workspace, label: str = "LABEL_0"
) -> None:
    """Writes a preference model (or by its label a rater) as the product of a step; all processes must call it
    together."""
    with merge_adapters(model) as merged, full(head) as whole_head:
        if world().leads:
            save_preference(merged, whole_head, tokenizer, out.path, label=label)
