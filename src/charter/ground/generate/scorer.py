"""The scorer: log-probabilities of continuations, everything they share computed once.

Items that begin alike (a few-shot prefix) share it, the continuations of an item share its prompt, and only the
rows that predict a continuation's token meet the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.engine import PromptTooLong
from charter.ground.generate.prefill import common_prefix
from charter.ground.learn.loss import token_logprobs
from charter.ground.model.layout import Layout, Path
from charter.ground.model.transformer import Transformer
from charter.ground.text.packing import microbatches

ROW_TOKENS = 2048

Item = tuple[Sequence[int], Sequence[Sequence[int]]]


@torch.no_grad()
def score(model: Transformer, items: Sequence[Item], row_tokens: int = ROW_TOKENS) -> list[list[list[float]]]:
    """For each (prompt, continuations): log-probability of every token of every continuation, in nats."""
    for place, (prompt, continuations) in enumerate(items):
        longest = len(prompt) + max(map(len, continuations), default=0)
        if longest > model.shape.context:
            raise PromptTooLong(longest, model.shape.context, place)
        if not prompt:
            raise CharterError("scoring needs a prompt of one token at least")
    shared = common_prefix([prompt for prompt, _ in items])
    own = [len(prompt) - shared + sum(map(len, conts)) for prompt, conts in items]
    found: list[list[list[float]]] = []
    for group in microbatches(own, max(256, row_tokens - shared)):
        found += _score_row(model, [items[i] for i in group], shared)
    return found


def _score_row(model: Transformer, items: Sequence[Item], shared: int) -> list[list[list[float]]]:
    ids = list(items[0][0][:shared])
    positions = list(range(shared))
    prefix: Path = ((0, shared),) if shared else ()
    paths: list[Path] = []
    predicts: list[int] = []
    targets: list[int] = []
    for prompt, continuations in items:
        start = len(ids)
        ids += prompt[shared:]
        positions += range(shared, len(prompt))
        path: Path = (*prefix, (start, len(ids)))
        last = len(ids) - 1
        for continuation in continuations:
            begin = len(ids)
            ids += continuation
            positions += range(len(prompt), len(prompt) + len(continuation))
            paths.append((*path, (begin, len(ids))) if continuation else path)
            predicts += [last, *range(begin, len(ids) - 1)][: len(continuation)]
            targets += continuation
    device = model.device
    layout = Layout(torch.tensor(positions, device=device), tuple(paths))
    hidden_TD, _ = model.prefill(torch.tensor(ids, device=device), layout)
    rows = torch.tensor(predicts, device=device)
    log_probs, _ = token_logprobs(hidden_TD[rows], model.head_weight(), torch.tensor(targets, device=device))
    flat = iter(log_probs.tolist())
    return [[[next(flat) for _ in c] for c in continuations] for _, continuations in items]
