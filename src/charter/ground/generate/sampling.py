"""How a reply is sampled: temperature, top-k, top-p, stops, and the draw itself.

Letters: S requests in a batch, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from charter.ground.model.generation import MOST_TOP as MOST_TOP
from charter.ground.model.generation import Sampling as Sampling
from charter.ground.model.generation import sampling_at as sampling_at

FIRST = 256  # tokens that are sorted first; nearly every nucleus lies in them
LEAST = -87.0  # weights below e^-87 of the likeliest one are 0: sums of such numbers take seven times as long


def uniforms(seed: int, count: int) -> list[float]:
    """The uniform numbers behind one sample's tokens: they depend on its seed alone, never on its neighbours."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.rand(count, generator=generator, dtype=torch.float64).tolist())


def pick(logits_SV: Tensor, samplings: list[Sampling], uniform_S: list[float]) -> tuple[list[int], list[float]]:
    """Token and its log-probability for each row.

    The log-probability is that of the distribution sampled from before any top-k or top-p cut (temperature
    included; temperature 0 reports temperature 1), so that it equals what training computes. Drawing is by
    inverse cumulative distribution from one uniform number a row.
    """
    device = logits_SV.device
    temperature_S = torch.tensor([s.temperature or 1.0 for s in samplings], device=device)
    if bool((temperature_S != 1).any()):
        logits_SV = logits_SV / temperature_S[:, None]
    top_S = logits_SV.amax(-1)
    weights_SV = logits_SV - top_S[:, None]
    weights_SV = weights_SV.masked_fill_(weights_SV < LEAST, -math.inf).exp_()
    # Threads share the sum over a single row, which changes its rounding. Doubled, the row has the same bits as in a
    # batch.
    rows_SV = weights_SV.expand(2, -1) if len(samplings) == 1 else weights_SV
    log_z_S = top_S + rows_SV.sum(-1)[: len(samplings)].log()
    if all(sampling.temperature == 0 for sampling in samplings):
        drawn_S = logits_SV.argmax(-1)  # without the passes over the vocabulary that a draw takes
    else:
        drawn_S = _draw(logits_SV, weights_SV, samplings, uniform_S)
    log_probs_S = logits_SV.gather(1, drawn_S[:, None])[:, 0] - log_z_S
    return drawn_S.tolist(), log_probs_S.tolist()


def _draw(logits_SV: Tensor, weights_SV: Tensor, samplings: list[Sampling], uniform_S: list[float]) -> Tensor:
    """Token of each row: by inverse cumulative distribution, or the likeliest at temperature 0. Weights are
    probabilities times any number."""
    device = logits_SV.device
    limited = [i for i, s in enumerate(samplings) if s.top_k or s.top_p < 1]
    if limited:
        weights_SV[limited] = _cut(weights_SV[limited], [samplings[i] for i in limited])
    totals_SV = weights_SV.cumsum(-1)
    draw_S = torch.tensor(uniform_S, device=device, dtype=torch.float64).to(totals_SV.dtype) * totals_SV[:, -1]
    drawn_S = torch.searchsorted(totals_SV, draw_S[:, None], right=True)[:, 0]
    greedy_S = torch.tensor([s.temperature == 0 for s in samplings], device=device)
    if bool(greedy_S.any()):
        drawn_S = torch.where(greedy_S, logits_SV.argmax(-1), drawn_S)
    drawn_S = drawn_S.clamp_(max=logits_SV.shape[1] - 1)
    empty_S = weights_SV.gather(1, drawn_S[:, None])[:, 0] <= 0
    if bool(empty_S.any()):  # a draw at the edge of a run of zeros: take the likeliest token instead
        drawn_S = torch.where(empty_S & ~greedy_S, weights_SV.argmax(-1), drawn_S)
    return drawn_S


def likeliest(logits_SV: Tensor, samplings: list[Sampling]) -> list[list[tuple[int, float]]]:
    """For each row the likeliest tokens with their log-probabilities, as many as its `top_logprobs`, under the
    distribution whose log-probabilities `pick` returns; without tokens of probability 0."""
    tops: list[list[tuple[int, float]]] = [[] for _ in samplings]
    for row, sampling in enumerate(samplings):
        if sampling.top_logprobs:
            log_probs_V = torch.log_softmax(logits_SV[row] / (sampling.temperature or 1.0), -1)
            values, tokens = log_probs_V.topk(min(sampling.top_logprobs, len(log_probs_V)))
            pairs = zip(tokens.tolist(), values.tolist(), strict=True)
            tops[row] = [(token, value) for token, value in pairs if value > -math.inf]
    return tops


def _cut(weights_SV: Tensor, samplings: list[Sampling]) -> Tensor:
    """Set to 0 the weights that top-k and then top-p (nucleus, Holtzman 2019) exclude; the likeliest token stays.

    With q the shares among the k likeliest tokens, the nucleus is the fewest of them with Σ q >= top_p, as in
    transformers.
    """
    vocabulary = weights_SV.shape[1]
    top_k_S = torch.tensor([s.top_k or vocabulary for s in samplings], device=weights_SV.device)
    top_p_S = torch.tensor([s.top_p for s in samplings], device=weights_SV.device)
    kept_SV, inside_S = _among(weights_SV, min(FIRST, vocabulary), top_k_S, top_p_S)
    if not bool(inside_S.all()):
        beyond = (~inside_S).nonzero()[:, 0]
        kept_SV[beyond], _ = _among(weights_SV[beyond], vocabulary, top_k_S[beyond], top_p_S[beyond])
    return kept_SV


def _among(weights_SV: Tensor, count: int, top_k_S: Tensor, top_p_S: Tensor) -> tuple[Tensor, Tensor]:
    """The kept weights of the `count` likeliest tokens, zeros elsewhere, and for each row [S] whether they are all."""
    ordered, index = weights_SV.topk(count)
    ordered = ordered * (torch.arange(count, device=weights_SV.device) < top_k_S[:, None])
    held_S, limited_S = ordered.sum(-1), top_k_S <= count
    reach_S = top_p_S * torch.where(limited_S, held_S, weights_SV.sum(-1))
    keep = (ordered.cumsum(-1) - ordered < reach_S[:, None]) | (top_p_S[:, None] >= 1)
    keep[:, 0] = True
    kept_SV = torch.zeros_like(weights_SV).scatter_(1, index, ordered * keep)
    return kept_SV, limited_S | ((top_k_S >= weights_SV.shape[1]) & (held_S >= reach_S))
