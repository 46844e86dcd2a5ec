"""What a step will cost, said beforehand: a room's settings.py may offer `estimate(settings, sizes)`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# parameters of the model that rates were measured with; the one that is assumed where none is known yet
MEASURED = 134_500_000
# a million parameters: with it the steps of recipes/tiny.yaml add up to the minutes that they take
_MOST = 30.0
# measured on a CPU that multiplies bfloat16
_BFLOAT16 = 1.5
# twice the threads are 1.6 times as fast, measured from one to two
_THREADS = 0.7


@dataclass(frozen=True)
class Sizes:
    """What is known of the inputs before a run: rows of each input of a role, in the recipe's order (of steps that
    haven't run: as many as they are expected to make; absent when one is unknown), parameters of the model in each
    role, processor threads, the device, the precision, and, where known, bytes of text in roles that take raw text,
    tokens of the vocabulary in roles that take corpora, and what config.json says of the model in each role."""

    each: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    threads: int = 1
    device: str = "cpu"
    precision: str = "float32"
    bytes: Mapping[str, int] = field(default_factory=dict)
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows of each role, summed over its inputs."""
        return {role: sum(counts) for role, counts in self.each.items()}

    def model(self, *roles: str) -> int:
        """Parameters of the model in the first of these roles that is known."""
        return next((self.parameters[role] for role in roles if role in self.parameters), MEASURED)

    def speed(self, parameters: int) -> float:
        """How fast a model computes here, as a multiple of a 135M model on two threads, where rates were measured.

        A small model gains less than its size says, as each operation has a cost of its own.
        """
        threads: float = (max(1, self.threads) / 2) ** _THREADS
        return min(_MOST, MEASURED / parameters) * threads * self.gain

    def moved(self, frozen_layers: int) -> float:
        """What learning takes while so many of the policy's lowest layers stay as they are, as a share of learning
        whole: a third is the pass forwards, and no gradient of theirs is computed."""
        layers = self.configs.get("policy", {}).get("num_hidden_layers", 0)
        return 1 - 2 / 3 * min(1.0, frozen_layers / layers) if layers else 1.0

    @property
    def gain(self) -> float:
        """How much faster than in float32 a CPU computes here."""
        return _BFLOAT16 if self.precision == "bfloat16" else 1.0


@dataclass(frozen=True)
class Estimate:
    """Minutes of work, peak memory and disk in GiB, rows made, parameters of a new model, tokens of a new vocabulary,
    and the config.json of a model made from nothing; None where it can't be told. `asks`: what people are waited for,
    "200 comparisons"; empty where none are."""

    minutes: float | None = None
    memory_gib: float | None = None
    disk_gib: float | None = None
    rows: int | None = None
    parameters: int | None = None
    vocabulary: int | None = None
    config: Mapping[str, Any] | None = None
    asks: str = ""
