"""The scorer: log-probabilities of continuations; shared parts are computed once.

Items that begin alike (questions behind one few-shot part or passage) are grouped and share that prefix, also beside
other items in one call. The continuations of an item share its prompt. The last token of a continuation predicts
nothing and is not read, so that single letters cost no token. Only rows that predict a token of a continuation are
multiplied with the vocabulary, once each.

Letters: T tokens of a row, R rows that predict, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.steps import Steps, drain
from charter.ground.generate.engine import PromptTooLong
from charter.ground.generate.prefill import prefix_groups, read_prefixes
from charter.ground.model.cache import Cache, Kept
from charter.ground.model.layout import Layout, Path, documents
from charter.ground.model.transformer import Transformer
from charter.ground.text.packing import microbatches

ROW_TOKENS = 2048
PIECE = 4096  # tokens of a long text read at once
HEAD_ROWS = 256  # multiplied with the vocabulary at once

Item = tuple[Sequence[int], Sequence[Sequence[int]]]
Task = tuple[int, int, int]  # an item, the tokens it shares, the prefix that holds them


Token = tuple[float, bool]  # its log-probability, and whether it is the likeliest at its place


def score(model: Transformer, items: Sequence[Item], row_tokens: int = ROW_TOKENS) -> list[list[list[float]]]:
    """For each (prompt, continuations): log-probability of every token of every continuation, in nats."""
    scores = score_tokens(model, items, row_tokens)
    return [[[logprob for logprob, _ in tokens] for tokens in item] for item in scores]


@torch.no_grad()
def score_tokens(model: Transformer, items: Sequence[Item], row_tokens: int = ROW_TOKENS) -> list[list[list[Token]]]:
    """As `score`, and for every token whether it is the likeliest at its place, as greedy sampling would write it.

    Give all items of a task at once: the more share a prefix, the less is computed. `row_tokens` bounds the memory: of
    the prefixes together, and of one row behind them (a longer text has its own row). Raises CharterError for an empty
    prompt, and PromptTooLong.
    """
    for place, (prompt, continuations) in enumerate(items):
        longest = len(prompt) + max((len(c) - 1 for c in continuations if c), default=0)
        if longest > model.shape.context:
            raise PromptTooLong(longest, model.shape.context, place)
        if not prompt:
            raise CharterError("scoring needs a prompt of one token at least")
    groups = prefix_groups([list(prompt) for prompt, _ in items])
    scores: list[list[list[Token]]] = [[] for _ in items]
    for together in microbatches([shared for shared, _ in groups], row_tokens):
        batch = [groups[i] for i in together]
        prefixes = read_prefixes(model, [items[members[0]][0][:shared] for shared, members in batch])
        tasks = [(i, shared, slot) for slot, (shared, members) in enumerate(batch) for i in members]
        for row in _rows([_own_tokens(items[i], shared) for i, shared, _ in tasks], row_tokens):
            _score_row(model, items, [tasks[n] for n in row], prefixes, scores)
    return scores


# a token's log-probability, and the likeliest tokens in its place with theirs
Scored = tuple[float, list[tuple[int, float]]]


def score_text(model: Transformer, ids: Sequence[int], top: int = 0, piece: int = PIECE) -> list[Scored]:
    """For each token of a text after the first: its log-probability, and the `top` likeliest tokens in its place with
    theirs. Raises PromptTooLong."""
    return drain(score_in_steps(model, ids, top, piece))


def score_in_steps(model: Transformer, ids: Sequence[int], top: int, piece: int) -> Steps[list[Scored]]:
    """As `score_text`, `piece` tokens a step."""
    if len(ids) > model.shape.context:
        raise PromptTooLong(len(ids), model.shape.context)
    whole_T = torch.tensor(ids, device=model.device)
    cache = Cache(model.shape, 1, len(ids), model.device, model.dtype) if len(ids) > piece else None
    scores: list[Scored] = []
    for at in range(0, len(ids), piece):
        if at:
            yield
        hidden_TD = _read(model, whole_T[at : at + piece], cache)
        rows = min(piece, len(ids) - 1 - at)  # the last token predicts nothing
        for start in range(0, rows, HEAD_ROWS):
            until = min(start + HEAD_ROWS, rows)
            scores += _likeliest(model, hidden_TD[start:until], whole_T[at + start + 1 : at + until + 1], top)
    return scores


@torch.no_grad()
def _read(model: Transformer, ids_T: Tensor, cache: Cache | None) -> Tensor:
    """Hidden states of a whole text, or of one that continues the cache and is then added to it."""
    layout = documents([len(ids_T)]).to(model.device)
    if cache is None:
        return model.prefill(ids_T, layout)[0]
    hidden_TD, row = model.extend(ids_T, layout, cache, [0])
    cache.write(0, row, 0, len(ids_T))
    return hidden_TD


@torch.no_grad()
def _likeliest(model: Transformer, hidden_RD: Tensor, targets_R: Tensor, top: int) -> list[Scored]:
    log_probs_RV = model.logits(hidden_RD).float().log_softmax(-1)
    values_R = log_probs_RV.gather(1, targets_R[:, None])[:, 0].tolist()
    best, tokens = log_probs_RV.topk(min(top, log_probs_RV.shape[1]), -1)
    tops = [list(zip(*pair, strict=True)) for pair in zip(tokens.tolist(), best.tolist(), strict=True)]
    return list(zip(values_R, tops, strict=True))


@torch.no_grad()
def score_document(model: Transformer, ids: Sequence[int], piece: int = PIECE) -> list[float]:
    """Log-probability of each token of a text after the first, equal to that of `score`, in nats.

    The text is read `piece` tokens at a time: only keys and values grow with its length. Raises PromptTooLong.
    """
    if len(ids) > model.shape.context:
        raise PromptTooLong(len(ids), model.shape.context)
    whole_T = torch.tensor(ids, device=model.device)
    cache = Cache(model.shape, 1, len(ids), model.device, model.dtype)
    log_probs: list[float] = []
    for at in range(0, len(ids) - 1, piece):
        ids_T, targets_T = whole_T[:-1][at : at + piece], whole_T[1:][at : at + piece]
        hidden_TD, row = model.extend(ids_T, documents([len(ids_T)]).to(model.device), cache, [0])
        cache.write(0, row, 0, len(ids_T))
        for part in range(0, len(ids_T), HEAD_ROWS):
            logits_RV = model.logits(hidden_TD[part : part + HEAD_ROWS]).float()
            targets_R = targets_T[part : part + HEAD_ROWS]
            picked_R = logits_RV.gather(1, targets_R[:, None])[:, 0]
            log_probs += (picked_R - logits_RV.logsumexp(-1)).tolist()
    return log_probs


def _own_tokens(item: Item, shared: int) -> int:
    """Tokens of an item that are read behind its shared prefix."""
    return len(item[0]) - shared + sum(max(0, len(continuation) - 1) for continuation in item[1])


def _rows(lengths: Sequence[int], most: int) -> list[list[int]]:
    """The items in as few rows of `most` tokens as possible, about equally full: a short row takes nearly as long."""
    total = sum(lengths)
    return microbatches(lengths, -(-total // -(-total // most))) if total else []


def _score_row(
    model: Transformer, items: Sequence[Item], tasks: Sequence[Task], prefixes: Kept, scores: list[list[list[Token]]]
) -> None:
    """Reads some items behind their prefixes in one row and puts their scores into `scores`."""
    ids: list[int] = []
    positions: list[int] = []
    paths: list[Path] = []
    slots: list[int] = []
    predicts: list[int] = []
    targets: list[int] = []
    for i, shared, slot in tasks:
        prompt, continuations = items[i]
        start, length = len(ids), len(prompt) - shared
        ids += prompt[shared:]
        positions += range(length)
        question = (start, len(ids))
        last = len(ids) - 1
        paths.append((question,))
        for continuation in continuations:
            begin = len(ids)
            ids += continuation[:-1]
            positions += range(length, length + len(ids) - begin)
            if len(continuation) > 1:
                paths.append((question, (begin, len(ids))))
            predicts += [last, *range(begin, len(ids))][: len(continuation)]
            targets += continuation
        slots += [slot] * (len(paths) - len(slots))
    layout = Layout(torch.tensor(positions, device=model.device), tuple(paths))
    hidden_TD, _ = model.extend(torch.tensor(ids, device=model.device), layout, prefixes, slots)
    flat = _tokens(model, hidden_TD, predicts, targets)
    for i, _, _ in tasks:
        scores[i] = [[next(flat) for _ in continuation] for continuation in items[i][1]]


def _tokens(model: Transformer, hidden_TD: Tensor, predicts: Sequence[int], targets: Sequence[int]) -> Iterator[Token]:
    """Each target at the row that predicts it. A row with several targets (letters) is computed once."""
    rows = sorted(set(predicts))
    scores: dict[tuple[int, int], Token] = {}
    for at in range(0, len(rows), HEAD_ROWS):
        logits_RV = model.logits(hidden_TD[rows[at : at + HEAD_ROWS]]).float()
        log_z_R = logits_RV.logsumexp(-1)
        place = {row: n for n, row in enumerate(rows[at : at + HEAD_ROWS])}
        pairs = [(row, target) for row, target in zip(predicts, targets, strict=True) if row in place]
        indexes = torch.tensor([[place[row], target] for row, target in pairs], device=hidden_TD.device)
        values = logits_RV[indexes[:, 0], indexes[:, 1]] - log_z_R[indexes[:, 0]]
        likeliest = logits_RV.argmax(-1)[indexes[:, 0]] == indexes[:, 1]
        scores.update(zip(pairs, zip(values.tolist(), likeliest.tolist(), strict=True), strict=True))
    return iter([scores[pair] for pair in zip(predicts, targets, strict=True)])
