"""The scorer: log-probabilities of continuations, everything they share computed once.

Items that begin alike (a few-shot prefix) share it, the continuations of an item share its prompt, and only the
rows that predict a continuation's token meet the vocabulary. The last token of a continuation is predicted and never
read: one-token choices cost no more than their prompt.

Letters: N predicted tokens, C of them in a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.engine import PromptTooLong
from charter.ground.generate.prefill import common_prefix
from charter.ground.learn.loss import CHUNK
from charter.ground.model.layout import Layout, Path
from charter.ground.model.linear import product
from charter.ground.model.transformer import Transformer
from charter.ground.text.packing import microbatches

ROW_TOKENS = 2048

Item = tuple[Sequence[int], Sequence[Sequence[int]]]
Token = tuple[float, bool]


def score(model: Transformer, items: Sequence[Item], row_tokens: int = ROW_TOKENS) -> list[list[list[float]]]:
    """For each (prompt, continuations): log-probability of every token of every continuation, in nats."""
    found = score_tokens(model, items, row_tokens)
    return [[[logprob for logprob, _ in tokens] for tokens in item] for item in found]


@torch.no_grad()
def score_tokens(
    model: Transformer, items: Sequence[Item], row_tokens: int = ROW_TOKENS
) -> list[list[list[Token]]]:
    """As `score`, and of every token whether it is the likeliest at its place: what greedy sampling would write.

    Raises CharterError for an empty prompt, and for a prompt and continuation that outgrow the context.
    """
    for place, (prompt, continuations) in enumerate(items):
        longest = len(prompt) + max((len(c) - 1 for c in continuations if c), default=0)
        if longest > model.shape.context:
            raise PromptTooLong(longest, model.shape.context, place)
        if not prompt:
            raise CharterError("scoring needs a prompt of one token at least")
    shared = common_prefix([prompt for prompt, _ in items])
    own = [len(prompt) - shared + sum(map(len, conts)) for prompt, conts in items]
    found: list[list[list[Token]]] = []
    for group in microbatches(own, max(256, row_tokens - shared)):
        found += _score_row(model, [items[i] for i in group], shared)
    return found


def _score_row(model: Transformer, items: Sequence[Item], shared: int) -> list[list[list[Token]]]:
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
            begin, read = len(ids), continuation[:-1]
            ids += read
            positions += range(len(prompt), len(prompt) + len(read))
            paths.append((*path, (begin, len(ids))) if read else path)
            predicts += [last, *range(begin, len(ids))][: len(continuation)]
            targets += continuation
    device = model.device
    layout = Layout(torch.tensor(positions, device=device), tuple(paths))
    hidden_TD, _ = model.prefill(torch.tensor(ids, device=device), layout)
    rows = torch.tensor(predicts, device=device)
    flat = iter(_tokens(hidden_TD[rows], model.head_weight(), torch.tensor(targets, device=device)))
    return [[[next(flat) for _ in c] for c in continuations] for _, continuations in items]


def _tokens(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> list[Token]:
    """Log-probability of each target in float32, and whether no token of the vocabulary is likelier."""
    found: list[Token] = []
    for hidden_CD, target_C in zip(torch.split(hidden_ND, CHUNK), torch.split(targets_N, CHUNK), strict=True):
        logits_CV = product(hidden_CD, weight_VD.to(hidden_CD.dtype)).float()
        picked_C = logits_CV.gather(1, target_C[:, None])[:, 0]
        log_probs_C = picked_C - torch.logsumexp(logits_CV, dim=-1)
        likeliest_C = logits_CV.argmax(-1) == target_C
        found += zip(log_probs_C.tolist(), likeliest_C.tolist(), strict=True)
    return found
