"""The declaration of a room, at the end of its settings.py: its roles and what it costs. Reading it doesn't load torch.

Roles are the named inputs of a room, and which kinds of artifacts and sources may fill each. A settings.py may offer
`estimate(settings, sizes)`, the expected cost of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from charter.ground.artifact.kinds import Kind

DATA_KINDS = frozenset(
    {"dialogues", "comparisons", "text", "triples", "judgments", "templates", "corpus", "questions", "sources"}
)
MODELS = ("checkpoint", "assistant", "labeller")
# prompts: up to the last user turn. lessons: with a turn of the assistant's to learn from. transcripts: of critiques.
# choices: worked examples of a choice. rated: with a rating.
Rows = Literal["prompts", "lessons", "transcripts", "choices", "rated"]
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
S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class Role:
    """One named input of a room.

    `kind` is an artifact kind; or "assistant" (a policy checkpoint or a remote engine); or "labeller" (the same, or a
    labeller that was taught to read principles); or a kind of file:
    "text" (JSONL of id and text), "triples" (JSONL with harmful and good replies), "judgments" (JSONL with
    people's verdicts), "templates" (JSONL with questions about two persons), "questions" (a file or folder of any
    rows: the evaluation that reads them knows their columns), "sources" (a manifest of text sources, or a file or
    folder of raw text), "constitution" (YAML).
    `variant` narrows checkpoints to "policy", "preference", "rating" or "labeller". `default` is the reference if a
    recipe omits the role. `also`: another kind of artifact that may fill it, for its by-products. `rows`: what a role
    of dialogues reads its rows as, if not as any dialogue.
    """

    kind: str
    variant: str | None = None
    many: bool = False
    required: bool = True
    default: str | None = None
    also: str | None = None
    rows: Rows | None = None

    @property
    def holds_data(self) -> bool:
        """Whether the role takes rows or texts, not a model, a report or a constitution."""
        return self.kind in DATA_KINDS

    def wants(self) -> str:
        """The role in words, for messages."""
        if self.kind == "assistant":
            return "a policy checkpoint or a remote engine"
        if self.kind == "labeller":
            return "a policy checkpoint, a labeller or a remote engine"
        if self.kind == "corpus":
            return "a corpus, which a step of the room `corpus` makes from texts"
        return f"{self.kind} ({self.variant})" if self.variant else self.kind

    def accepts(self, kind: str, variant: str | None, artifact: bool = False) -> bool:
        """Whether an `artifact`, or else a source, of that kind may fill this role.

        A variant of None is unknown until the source is opened, and is accepted. So are "hub" for models and data,
        and "data" (a file with unrecognised rows) for data. Prompts are dialogues.
        """
        if artifact and self.also is not None and kind == self.also:
            return True
        if kind == "hub":
            return self.holds_data or self.kind in MODELS
        if self.kind == "questions":
            return kind in DATA_KINDS - {"sources"} | {"data", "prompts"}
        if self.kind == "sources":
            return kind in ("sources", "texts", "text", "data")
        if kind == "data":
            return self.kind not in (*MODELS, "constitution", "report", "card", "corpus")
        if self.kind in ("assistant", "labeller"):
            variants = (None, "policy", *(("labeller",) if self.kind == "labeller" else ()))
            return kind == "assistant" or (kind == "checkpoint" and variant in variants)
        if (self.kind, kind) in (("text", "corpus"), ("dialogues", "prompts")):
            return True
        return kind == self.kind and (self.variant is None or variant in (None, self.variant))


@dataclass(frozen=True)
class Given:
    """What a plan knows of one input: its name and, if known, the context of a model in tokens."""

    name: str
    context: int | None = None


# the inputs of each filled role, in the recipe's order
Filled = Mapping[str, Sequence[Given]]


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
        tokens = self.tokens.get(role, ())
        return tokens if len(tokens) == len(self.each.get(role, ())) else (ROW_TOKENS,) * len(self.each.get(role, ()))

    def mean_tokens(self, *roles: str) -> float:
        """Tokens of a row of several roles together."""
        counts = [n for role in roles for n in self.each.get(role, ())]
        lengths = [tokens for role in roles for tokens in self.row_tokens(role)]
        rows = sum(counts)
        return sum(n * tokens for n, tokens in zip(counts, lengths, strict=True)) / rows if rows else ROW_TOKENS

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


@dataclass(frozen=True)
class Room(Generic[S]):
    """A room: the kind of artifact that it makes, its settings, and the roles that a recipe fills.

    `variant`: of a checkpoint. `estimate`: time, memory and disk, if known. `check`: a contradiction between settings
    and roles, or "". `context`: the context of the new model in tokens, if it differs from the policy's. `uses`: the
    roles that these settings need, if not all; other roles need no source and take no default. `learns`: the room
    shares its optimizer steps among processes (`learn/parallel.py`). `processes`: why n processes can't run it, or "".
    `extra`: the extra of the package that it needs, or "" (`settings/extras.py`).
    `purpose`: the mark of its products (`settings/purpose.py`), inherited by what is made of them.
    `method`: what it does, as a phrase of a card. `against_harm`: what that does against harm or needless refusals, as
    a sentence. Manifests of its products have both. `name` and `package`: from `building.ROOMS`; the runner fills them
    in.
    """

    product: Kind
    settings: type[S]
    roles: Mapping[str, Role]
    variant: str | None = None
    estimate: Callable[[S, Sizes], Estimate] | None = None
    check: Callable[[S, Filled], str] | None = None
    context: Callable[[S, Filled], int | None] | None = None
    uses: Callable[[S], Collection[str]] | None = None
    processes: Callable[[S, int], str] | None = None
    learns: bool = False
    extra: str = ""
    purpose: str = ""
    method: str = ""
    against_harm: str = ""
    name: str = ""
    package: str = ""
