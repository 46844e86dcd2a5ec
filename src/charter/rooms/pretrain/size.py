"""One dial: a depth, from which width, heads, context, batch, steps and rates of a pretraining run follow.

    width = 128 x layers                                     (Bai 2022a, section 3.1: 13M at 4 layers to 52B at 64)
    tokens = 20 a weight that multiplies                     (Hoffmann 2022)
    batch = 2^19 sqrt(tokens / 11.2e9), to a power of two    (critical batch ~ sqrt(tokens): Zhang 2024)

At the 128 rule a model for a laptop has two layers, too few to look anything up by; the named laptop sizes are
narrower for their depth. A setting overrides its derived value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from charter.ground.artifact.errors import CharterError
from charter.ground.learn.flops import multiplying
from charter.ground.model.shape import Shape
from charter.rooms.pretrain.size_settings import Dial, Learning, Sizing
from charter.rooms.pretrain.window_settings import spans

WIDTH_PER_LAYER = 128
# name -> (layers, width): the first three depart from the rule, the others are points of it
NAMED = {
    "tiny": (4, 128),
    "mini": (6, 256),
    "small": (8, 384),
    "medium": (10, 1280),
    "large": (16, 2048),
    "xl": (24, 3072),
}
# width from which a row of the table holds: head size, query heads a key head, context, base of RoPE
WIDTHS = (
    (0, 32, 2, 512, 10_000.0),
    (256, 64, 2, 1024, 10_000.0),
    (1024, 128, 2, 2048, 10_000.0),
    (2048, 128, 4, 4096, 100_000.0),
    (4096, 128, 8, 8192, 500_000.0),
)
# share of the peak rates if a finished model continues with a longer window
WINDOW_RATE = 0.1
# width from which the head has weights of its own
UNTIED_FROM = 2048
REFERENCE_BATCH, REFERENCE_TOKENS = 2.0**19, 11.2e9
BATCHES = (2**12, 2**22)
# positions at once; most machines hold this at 2 KB a position and layer
MICROBATCH = 2**13
# most resume states that a run writes
STATES = 50


@dataclass(frozen=True, slots=True)
class Derived:
    """Everything that the dial decides. Rates are peaks; warm-up, decay and `save_every` are optimizer steps."""

    shape: Shape
    context: int
    tokens: int
    batch_tokens: int
    microbatch_tokens: int
    steps: int
    warmup: int
    decay: int
    matrix_lr: float
    lr: float
    weight_decay: float
    evaluate_every: int
    save_every: int


def shape_of(sizing: Sizing, size: int | str, vocabulary: int) -> Shape:
    """The decoder of a size: of the Qwen3 family, whose norms of queries and keys keep attention stable (Dehghani
    2023). Raises CharterError for an unknown name, and for parts that don't fit together."""
    if isinstance(size, str) and size not in NAMED:
        raise CharterError(f"unknown size {size!r}; use a number of layers, or one of {', '.join(NAMED)}")
    layers, width = NAMED[size] if isinstance(size, str) else (size, WIDTH_PER_LAYER * size)
    layers = sizing.layers or layers
    width = sizing.width or width
    _, head, group, context, base = next(row for row in reversed(WIDTHS) if width >= row[0])
    head = sizing.head_size or head
    heads = sizing.heads or max(1, width // head)
    keys = sizing.key_heads or heads // next(
        g for g in (group, group // 2, group // 4, 1) if g and heads % g == 0
    )
    if heads % keys:
        raise CharterError(f"{heads} query heads can't share {keys} key heads; set `key_heads` to a divisor")
    return Shape(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=sizing.feed_forward or -(-8 * width // (3 * 64)) * 64,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=keys,
        head_dim=head,
        max_positions=sizing.context or context,
        rope_theta=sizing.rope_base or base,
        norm_eps=1e-6,
        qk_norm=True,
        tied=width < UNTIED_FROM if sizing.tied is None else sizing.tied,
        family="qwen3",
    )


def derive(settings: Dial, vocabulary: int, shape: Shape | None = None) -> Derived:
    """All numbers of a run; `shape`: that of the continued policy, if there is one."""
    learning = settings.learning
    shape = shape or shape_of(settings.sizing, settings.size, vocabulary)
    stages = settings.window.stages
    context = stages[-1].window if stages else settings.sizing.context or shape.context
    target_tokens = learning.tokens or math.ceil(learning.tokens_per_weight * multiplying(shape))
    batch = learning.batch_tokens or _batch(target_tokens)
    steps = settings.window.steps or learning.steps or max(1, round(target_tokens / batch))
    warmup = math.ceil(learning.warmup * steps)
    return Derived(
        shape=shape,
        context=context,
        tokens=sum(tokens for tokens, _ in spans(settings.window, batch)) or steps * batch,
        batch_tokens=batch,
        microbatch_tokens=learning.microbatch_tokens or min(batch, max(MICROBATCH, context)),
        steps=steps,
        warmup=min(warmup, steps - 1),
        decay=min(math.ceil(learning.decay * steps), steps),
        **_rates(learning, shape.hidden_size, WINDOW_RATE if stages else 1.0),
        evaluate_every=settings.heldout.every or max(1, steps // 20),
        save_every=settings.save_every or max(1, steps // STATES),
    )


def _batch(tokens: int) -> int:
    """Tokens of an optimizer step: the power of two nearest to the rule, within BATCHES."""
    power = round(math.log2(REFERENCE_BATCH * math.sqrt(tokens / REFERENCE_TOKENS)))
    return int(min(BATCHES[1], max(BATCHES[0], 2**power)))


def _rates(learning: Learning, width: int, share: float) -> dict[str, float]:
    """Muon's rate is the same at every width, since the size of its step is; AdamW's falls as 1 / width (Yang 2022),
    which at 768 is twice that of GPT-3's table and stable with norms of queries and keys. Beside Muon the rest learns
    at twice that rate. `share` scales these: a model whose rate has fallen to 0 forgets much under a full one
    (docs/experiments/pretraining.md, "Rate of a longer window")."""
    is_muon = learning.optimizer == "muon"
    adam = min(5e-3, 1.0 / width)
    decay = 0.01 if is_muon else 0.1
    return {
        "matrix_lr": learning.matrix_lr or share * (0.02 if is_muon else adam),
        "lr": learning.lr or share * (2 * adam if is_muon else adam),
        "weight_decay": decay if learning.weight_decay is None else learning.weight_decay,
    }
