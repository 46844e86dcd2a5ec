"""The base of every class of settings: frozen, and strict about unknown names. Also parts that several rooms share."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _without_password(place: str) -> str:
    """Refuses a URL with a password, which manifests would publish."""
    if "://" in place and urlsplit(place).password:
        raise ValueError("the URL must not hold a password; give it by PGPASSWORD or a .pgpass file")
    return place


Database = Annotated[str, AfterValidator(_without_password)]  # URL or file of a database


class Frozen(BaseModel):
    """Settings that can't change and refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Lora(Frozen):
    """Low-rank adapters (Hu 2021): trained instead of the full weights, and merged into them on saving."""

    rank: int = Field(16, ge=1, description="rank of each adapter")
    alpha: float = Field(32.0, gt=0, description="scale; the adapter is multiplied by alpha / rank")


class Moved(Frozen):
    """The weights that a stage trains: all, those of the upper layers, or adapters."""

    lora: Lora | None = Field(None, description="train adapters only")
    frozen_layers: int = Field(
        0,
        ge=0,
        description="lowest layers that stay frozen, with the embeddings; half of all layers saves a third of the time",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.lora and self.frozen_layers:
            raise ValueError("lora freezes all layers already; leave out frozen_layers, or lora")
        return self


class Training(Moved):
    """Optimizer steps of supervised learning on dialogues, loss on the assistant's tokens only."""

    epochs: int = Field(1, ge=1, description="passes over the mixture")
    batch: int = Field(16, ge=1, description="dialogues per optimizer step")
    microbatch_tokens: int = Field(2048, ge=64, description="most tokens in one forward pass; bounds memory")
    context: int = Field(1024, ge=16, description="most tokens in a dialogue")
    lr: float = Field(2e-5, gt=0, description="peak learning rate")
    warmup: int = Field(4, ge=0, description="optimizer steps of linear warm-up")
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="decay after the warm-up")
    weight_decay: float = Field(0.0, ge=0, description="AdamW decay of matrices")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0 turns clipping off")
    save_every: int = Field(0, ge=0, description="steps between resume states; 0 saves every three minutes")
