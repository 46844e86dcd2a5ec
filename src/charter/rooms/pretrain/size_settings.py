"""Settings that the dial `size` fills in (`size.py`): None means derived."""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import Field

from charter.ground.settings.frozen import Frozen
from charter.rooms.pretrain.window_settings import Window


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

    every: int | None = Field(
        None, ge=1, description="steps between measurements; unset: a twentieth of the run"
    )
    tokens: int = Field(
        32768, ge=1, description="most tokens of each measurement; whole documents, drawn once"
    )
    final_tokens: int = Field(
        1_000_000, ge=1, description="most tokens of the last measurement, which the card cites"
    )


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
