"""One dial: a depth, from which width, heads, context, batch, steps and rates of a pretraining run follow.

    width = 128 x layers                                     (Bai 2022a, section 3.1: 13M at 4 layers to 52B at 64)
    tokens = 20 a weight that multiplies                     (Hoffmann 2022)
    batch = 2^19 sqrt(tokens / 11.2e9), to a power of two    (critical batch ~ sqrt(tokens): Zhang 2024)

At the 128 rule a model for a laptop has two layers, too few to look anything up by; the named laptop sizes are
narrower for their depth. A setting overrides its derived value. `Window` enlarges a finished model's window in stages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field

from charter.ground.artifact.errors import CharterError
from charter.ground.learn.flops import multiplying
from charter.ground.model.shape import Shape
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Given

# tokens that a token of an unchanged document sees on average, about
REST_SEES = 500.0
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


class Stage(Frozen):
    """One window, and its number of steps."""

    window: int = Field(ge=16, description="most tokens read at once")
    steps: int = Field(
        ge=1,
        description="optimizer steps of about `batch_tokens`, at least one whole window with its share of documents",
    )


class Window(Frozen):
    """How the window of a policy is enlarged; without stages it stays unchanged."""

    stages: tuple[Stage, ...] = Field((), description="windows one after the other, each larger than the last")
    method: Literal["base", "yarn"] = Field(
        "base", description="base: RoPE's base grows with the window; yarn: Peng et al. 2023"
    )
    base: float | None = Field(None, gt=0, description="base of RoPE in all stages, instead of the rule's")
    long: float = Field(
        0.75,
        gt=0,
        le=1,
        description="share of a step's tokens in texts that fill the window; the rest is unchanged documents",
    )
    lookups: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of these texts into which meaningless facts and questions about them are written",
    )

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages."""
        return sum(stage.steps for stage in self.stages)


def spans(window: Window, batch_tokens: int) -> list[tuple[int, float]]:
    """(tokens learnt, tokens that each of them sees on average) of whole windows and of the rest, stage by stage."""
    rows: list[tuple[int, float]] = []
    for stage in window.stages:
        count, beside = share(window, stage.window, batch_tokens)
        rows.append((stage.steps * count * stage.window, stage.window / 2))
        rows.append((stage.steps * round(beside), REST_SEES))
    return rows


def share(how: Window, window: int, batch_tokens: int) -> tuple[int, float]:
    """(texts that fill the window, tokens of unchanged documents) of a step: at least one such text, and documents in
    proportion."""
    count = max(1, round(how.long * batch_tokens / window))
    return count, count * window * (1 - how.long) / how.long


def problem(window: Window, policy: Given | None) -> str:
    """What contradicts itself or the continued policy, or ""."""
    windows = [stage.window for stage in window.stages]
    if not windows and (idle := sorted(window.model_fields_set - {"stages"})):
        return f"window.{idle[0]} has no effect without window.stages; name the windows, or remove it"
    if windows and policy is None:
        return "window.stages enlarges the window of a model; name it under `policy`, or remove the stages"
    if windows != sorted(set(windows)):
        return f"window.stages has the windows {', '.join(map(str, windows))}; each must be larger than the last"
    if windows and policy and policy.context and windows[0] <= policy.context:
        return (
            f"window.stages begins at {windows[0]} tokens, and {policy.name} already reads {policy.context}; begin "
            "with more"
        )
    if window.base is not None and window.method == "yarn":
        return "window.base has no effect on method yarn, which keeps the base; remove one of them"
    return ""


class Sizing(Frozen):
    """Parts of the model; None means derived from `size`."""

    layers: int | None = Field(None, ge=1, description="blocks")
    width: int | None = Field(None, ge=8, description="size of the residual stream")
    heads: int | None = Field(None, ge=1, description="query heads")
    key_heads: int | None = Field(None, ge=1, description="key and value heads; a divisor of `heads`")
    head_size: int | None = Field(None, ge=2, multiple_of=2, description="size of a head")
    feed_forward: int | None = Field(None, ge=8, description="width inside SwiGLU; unset: 8/3 of the width")
    context: int | None = Field(None, ge=16, description="most tokens read at once")
    rope_base: float | None = Field(None, gt=0, description="base of the rotary position code")
    tied: bool | None = Field(None, description="whether the head is the embedding")


class Learning(Frozen):
    """How much is learnt, and how; None means derived from `size`."""

    tokens_per_weight: float = Field(
        20.0, gt=0, description="tokens learnt for each weight that multiplies; 20 uses compute best"
    )
    tokens: int | None = Field(None, ge=1, description="tokens learnt in total, instead of the ratio")
    steps: int | None = Field(None, ge=1, description="optimizer steps, instead of both")
    batch_tokens: int | None = Field(None, ge=16, description="tokens of an optimizer step")
    microbatch_tokens: int | None = Field(
        None, ge=16, description="most tokens in one forward pass; bounds memory, changes nothing learnt"
    )
    optimizer: Literal["muon", "adamw"] = Field("muon", description="optimizer of the blocks' matrices")
    matrix_lr: float | None = Field(None, gt=0, description="peak rate of the blocks' matrices")
    lr: float | None = Field(None, gt=0, description="peak rate of all other weights, under AdamW")
    weight_decay: float | None = Field(None, ge=0, description="decay of matrices, embeddings included")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0 turns clipping off")
    warmup: float = Field(0.02, ge=0, lt=1, description="share of the steps in which the rate rises")
    decay: float = Field(0.4, ge=0, le=1, description="share of the steps in which it falls to 0, at the end")


class Heldout(Frozen):
    """Bits per byte of text kept out of training."""

    every: int | None = Field(None, ge=1, description="steps between measurements; unset: a twentieth of the run")
    tokens: int = Field(32768, ge=1, description="most tokens of each measurement; whole documents, drawn once")
    final_tokens: int = Field(1_000_000, ge=1, description="most tokens of the last measurement, which the card cites")


class Dial(Protocol):
    """The settings from which a plan is derived."""

    @property
    def size(self) -> int | str: ...
    @property
    def sizing(self) -> Sizing: ...
    @property
    def learning(self) -> Learning: ...
    @property
    def heldout(self) -> Heldout: ...
    @property
    def window(self) -> Window: ...
    @property
    def save_every(self) -> int | None: ...


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
    keys = sizing.key_heads or heads // next(g for g in (group, group // 2, group // 4, 1) if g and heads % g == 0)
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
