"""What every class of settings is: frozen, and strict about unknown names."""

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Settings that can't change and refuse keys they don't know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Lora(Frozen):
    """Low-rank adapters (Hu 2021) trained instead of the full weights, and merged into them when saved."""

    rank: int = Field(16, ge=1, description="rank of each adapter")
    alpha: float = Field(32.0, gt=0, description="scale; the adapter is multiplied by alpha / rank")
