"""The expected cost of a step: a room's settings.py may offer `estimate(settings, sizes)`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# parameters of the model behind the measured rates, and of a model that is not known yet
MEASURED = 134_500_000
# largest speed-up, tuned so that the steps of recipes/tiny.yaml add up to their measured minutes
_MOST = 30.0
# measured on a CPU that multiplies bfloat16
_BFLOAT16 = 1.5
# tokens of a row if nothing is known of it; characters of English in a token; tokens that a chat template adds to a row
ROW_TOKENS, CHARACTERS, TEMPLATE_TOKENS = 90.0, 4.5, 30.0
# tokens that a 135M model learns from in a second, on two threads of the machine behind the measured rates
LEARNT = 250.0
# twice the threads are 1.6 times as fast, measured from one to two
THREADS = 0.7


@dataclass(frozen=True)
class Sizes:
    """What is known of the inputs before a run.

    `each`: rows of each input of a role, in the recipe's order (expected rows of steps that haven't run; absent if one
    is unknown). `parameters`: of the model in each role. If known, `bytes`: of text in roles that take raw text;
    `vocabulary`: tokens in roles that take corpora; `configs`: config.json of the model in each role. `machine`: the
    speed of a thread of this CPU, as a multiple of that behind the measured rates. `tokens`: of a row of each input, as
    `each`."""

    each: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    threads: int = 1
    device: str = "cpu"
    precision: str = "float32"
    bytes: Mapping[str, int] = field(default_factory=dict)
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    machine: float = 1.0
    tokens: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def row_tokens(self, role: str) -> tuple[float, ...]:
        """Tokens of a row of each input of a role."""
        known = self.tokens.get(role, ())
        return (
            known
            if len(known) == len(self.each.get(role, ()))
            else (ROW_TOKENS,) * len(self.each.get(role, ()))
        )

    def mean_tokens(self, *roles: str) -> float:
        """Tokens of a row of several roles together."""
        counts = [n for role in roles for n in self.each.get(role, ())]
        lengths = [tokens for role in roles for tokens in self.row_tokens(role)]
        rows = sum(counts)
        return (
            sum(n * tokens for n, tokens in zip(counts, lengths, strict=True)) / rows if rows else ROW_TOKENS
        )

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows of each role, summed over its inputs."""
        return {role: sum(counts) for role, counts in self.each.items()}

    def model(self, *roles: str) -> int:
        """Parameters of the model in the first known one of these roles."""
        return next((self.parameters[role] for role in roles if role in self.parameters), MEASURED)

    def speed(self, parameters: int) -> float:
        """The speed of a model here, as a multiple of a 135M model on two threads, which gave the measured rates.

        A small model gains less than its size suggests, because each operation has a fixed cost.
        """
        threads: float = (max(1, self.threads) / 2) ** THREADS
        return min(_MOST, MEASURED / parameters) * threads * self.gain

    def training_share(self, frozen_layers: int) -> float:
        """The cost of training with `frozen_layers` frozen, as a share of training all layers. The forward pass is a
        third, and frozen layers need no gradients."""
        layers = self.configs.get("policy", {}).get("num_hidden_layers", 0)
        return 1 - 2 / 3 * min(1.0, frozen_layers / layers) if layers else 1.0

    @property
    def gain(self) -> float:
        """The speed of the precision on this CPU, as a multiple of float32 on that behind the measured rates."""
        return self.machine * (_BFLOAT16 if self.precision == "bfloat16" else 1.0)


@dataclass(frozen=True)
class Estimate:
    """Minutes of work, peak memory and disk in GiB, rows made, parameters of a new model, tokens of a new vocabulary,
    and the config.json of a model made from scratch; None if unknown. `asks`: the answers needed from people, such as
    "200 comparisons"; empty if none. `row_tokens`: tokens of a made row."""

    minutes: float | None = None
    memory_gib: float | None = None
    disk_gib: float | None = None
    rows: int | None = None
    parameters: int | None = None
    vocabulary: int | None = None
    config: Mapping[str, Any] | None = None
    asks: str = ""
    row_tokens: float | None = None
