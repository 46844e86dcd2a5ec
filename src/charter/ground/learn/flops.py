"""The work of learning: floating-point operations for a token, counted alike for every program.

    per token:  6 P + 12 L H d s     P weights that multiply (with the head, without the look-up of embeddings), L
                                     layers, H query heads of size d, s tokens that a token sees on average, itself
                                     included

A multiplication and an addition count as two; forward costs 2 for each weight and backward 4 (Kaplan 2020). The two
products of attention cost the same (Chowdhery 2022, appendix B), here only inside the causal mask. Model FLOPs
utilisation (MFU) is this work a second over the machine's peak; recomputed activations don't count.
"""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.model.shape import Shape


def multiplying(shape: Shape) -> int:
    """Weights that multiply a token: all matrices and the head; embeddings are looked up."""
    return matrices(shape) + shape.vocab_size * shape.hidden_size


def matrices(shape: Shape) -> int:
    """Weights of the matrices of all blocks."""
    d, queries, keys = shape.hidden_size, shape.num_heads, shape.num_kv_heads
    return shape.num_layers * (d * shape.head_dim * (2 * queries + 2 * keys) + 3 * d * shape.intermediate_size)


def per_token(shape: Shape, visible: float) -> float:
    """Operations to learn one token that sees `visible` tokens on average, itself included."""
    attention = 12.0 * shape.num_layers * shape.num_heads * shape.head_dim * visible
    return 6.0 * multiplying(shape) + attention


def work(shape: Shape, lengths: Sequence[int]) -> float:
    """Operations to learn documents of these lengths once: token i of a document sees i + 1."""
    tokens = sum(lengths)
    visible = sum(n * (n + 1) / 2 for n in lengths)
    return tokens * per_token(shape, visible / tokens) if tokens else 0.0
