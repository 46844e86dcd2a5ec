"""Settings and roles of the pretraining room: what the dial `size` derives stays None, 0 or empty until it is set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from charter.ground.artifact.errors import CharterError
from charter.ground.learn.flops import matrices, per_token
from charter.ground.model.shape import from_config, to_config
from charter.ground.settings.estimate import Estimate, Sizes
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.roles import Filled, Given, Role
from charter.ground.settings.room import Room
from charter.rooms.pretrain.size import NAMED, Derived, derive
from charter.rooms.pretrain.size_settings import Heldout, Learning, Sizing
from charter.rooms.pretrain.window_settings import Window, problem, spans

ROLES = {
    "corpus": Role(kind="corpus", many=True),
    "policy": Role(kind="checkpoint", variant="policy", required=False),
}

VOCABULARY = 32768  # if that of the corpus isn't known
Span = tuple[int, float]  # tokens to learn, and how many others each of them sees on average

CPU_THREAD = 1.3e11  # operations a second of float32 products at best, a thread
GPU = 9.89e14  # an H100's in bfloat16: which GPU it will be isn't known beforehand
SHARES = ((0, 0.4), (256, 0.5), (512, 0.6))  # of the peak, from a width on, on a CPU
GPU_SHARE = 0.4
SEEN = 0.25  # tokens that a token sees on average, as a share of the context: documents are shorter than it
LOGITS = 512 * 3  # rows of the vocabulary that the loss holds at once
SLACK = 1.25  # what long rows take of a CPU's memory, measured, over what is counted


class Samples(Frozen):
    """Texts written while the model learns, at every measurement."""

    prompts: tuple[str, ...] = Field(
        ("The ", "In the beginning", "def "), description="beginnings to continue; none turns samples off"
    )
    tokens: int = Field(48, ge=1, description="most tokens of a sample")
    temperature: float = Field(0.8, ge=0, description="0 takes the likeliest token; a seed a prompt")


class Guard(Frozen):
    """Which steps count as spikes, are not taken, and what happens after several."""

    loss_factor: float = Field(
        1.5, gt=1, description="times the ninth decile of the losses of the last steps"
    )
    norm_factor: float = Field(10.0, gt=1, description="times that of their gradient norms")
    history: int = Field(32, ge=1, description="how many steps are the last")
    patience: int = Field(
        3, ge=1, description="spikes in a row after which the run goes back to its last state"
    )
    rollbacks: int = Field(2, ge=0, description="times that it may go back; then it stops")


class Parallel(Frozen):
    """How several processes share the work; weights are sharded over all of them whatever is set here."""

    context: int = Field(
        1, ge=1, description="processes over which each row of text is spread, for windows too long for one"
    )


class Settings(Frozen):
    """Pretraining from raw text: every token once an epoch, at a size that one dial sets."""

    size: int | str = Field("tiny", description="number of layers, or a name of the table in size.py")
    sizing: Sizing = Field(Sizing(), description="parts of the model that shall not follow from `size`")
    learning: Learning = Field(Learning(), description="how much is learnt, and how")
    heldout: Heldout = Field(Heldout(), description="measurements on text kept out of training")
    samples: Samples = Field(Samples(), description="texts written while it learns")
    guard: Guard = Field(Guard(), description="what is done about spikes")
    window: Window = Field(Window(), description="how the window of a policy that goes on is enlarged")
    parallel: Parallel = Field(Parallel(), description="how several processes share the work")
    decoding_temperature: float | None = Field(
        None,
        ge=0,
        description="at which the model says it is sampled; unset: 1, or as the policy that goes on",
    )
    recompute: bool | None = Field(
        None, description="keep only the input of each block for backward; unset: in window.stages"
    )
    compile: bool = Field(False, description="compile the blocks; pays on GPUs alone")
    save_every: int | None = Field(
        None,
        ge=1,
        description="steps between resume states; a fiftieth of all. Lower it where steps take minutes",
    )

    @property
    def recomputes(self) -> bool:
        """Whether only the inputs of blocks are kept."""
        return bool(self.window.stages) if self.recompute is None else self.recompute

    @model_validator(mode="after")
    def _known_size(self) -> Self:
        known = self.size in NAMED if isinstance(self.size, str) else self.size >= 1
        if not known:
            raise ValueError(
                f"size {self.size!r}: use a number of layers from 1, or one of {', '.join(NAMED)}"
            )
        return self


def check(settings: Settings, roles: Filled) -> str:
    """What is wrong with the parts of the model, taken together or where a policy goes on."""
    policy = next(iter(roles.get("policy", ())), None)
    if policy and (fixed := _of_the_policy(settings)):
        return f"{fixed} has no effect: the shape is that of `policy`, which goes on; remove it"
    if settings.window.stages and (given := _of_the_stages(settings)):
        return (
            f"{given} has no effect: window.stages says which windows are learnt and for how long; remove it"
        )
    if wrong := problem(settings.window, policy) or too_wide(settings, policy):
        return wrong
    try:
        derive(settings, VOCABULARY)
    except CharterError as error:
        return str(error)
    return ""


def processes(settings: Settings, count: int) -> str:
    """Why so many processes can't run it, or ""."""
    size = settings.parallel.context
    if count % size == 0:
        return ""
    found = "one process runs" if count == 1 else f"{count} processes run"
    return (
        f"parallel.context is {size} and {found} it; set it to a divisor of that, or start `torchrun --standalone "
        f"--nproc-per-node {size} -m charter run ...`"
    )


def context(settings: Settings, roles: Filled) -> int | None:
    """Tokens that the model reads at once; None where a policy goes on that doesn't tell."""
    if settings.window.stages:
        return settings.window.stages[-1].window
    policy = next(iter(roles.get("policy", ())), None)
    return policy.context if policy else derive(settings, VOCABULARY).context


def too_wide(settings: Settings, policy: Given | None) -> str:
    """Why a policy can't go on at this context, or ""."""
    wanted = settings.sizing.context
    if wanted is None or policy is None or policy.context is None or wanted <= policy.context:
        return ""
    known = f"{policy.name} reads {policy.context} tokens"
    return f"sizing.context is {wanted} and {known}; enlarge it by steps with `window`"


def _of_the_policy(settings: Settings) -> str:
    """A setting of the shape, which a policy that goes on brings along; "" where none is given."""
    parts = settings.sizing.model_dump(exclude={"context"}, exclude_none=True)
    named = ["size"] if "size" in settings.model_fields_set else []
    return next(iter([*named, *(f"sizing.{part}" for part in parts)]), "")


def _of_the_stages(settings: Settings) -> str:
    """A setting that the stages of a window decide; "" where none is given."""
    given = {"sizing": settings.sizing.model_fields_set, "learning": settings.learning.model_fields_set}
    decided = {"sizing": ("context",), "learning": ("steps", "tokens", "tokens_per_weight")}
    return next(
        (f"{part}.{name}" for part, names in decided.items() for name in names if name in given[part]), ""
    )


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """By the work of the run and the share of a machine's peak that was measured."""
    given = sizes.configs.get("policy")
    plan = derive(settings, sizes.vocabulary.get("corpus", VOCABULARY), from_config(given) if given else None)
    muon = settings.learning.optimizer == "muon"  # has one moment of the blocks' matrices, two of all else
    moments = 4 * (2 * plan.shape.num_parameters - (matrices(plan.shape) if muon else 0))
    weights, lean = 4 * plan.shape.num_parameters, bool(settings.window.stages) and settings.recomputes
    return Estimate(
        minutes=_minutes(plan, sizes, spans(settings.window, plan.batch_tokens)),
        memory_gib=_memory_bytes(plan, moments, settings.recomputes, lean and sizes.device == "cpu") / 2**30,
        disk_gib=(weights + 2 * (weights + moments)) / 2**30,
        parameters=plan.shape.num_parameters,
        config=to_config(plan.shape),
    )


def _minutes(plan: Derived, sizes: Sizes, filled: Sequence[Span]) -> float:
    """Of learning all tokens, without measurements on the way; `filled`: those of texts that fill a window."""
    shape = plan.shape
    if sizes.device.startswith("cuda"):
        rate = GPU * GPU_SHARE
    else:
        share = next(share for width, share in reversed(SHARES) if shape.hidden_size >= width)
        rate = CPU_THREAD * max(1, sizes.threads) * share * sizes.gain
    if filled:
        return sum(tokens * per_token(shape, seen) for tokens, seen in filled) / rate / 60
    return plan.tokens * per_token(shape, SEEN * plan.context) / rate / 60


def _memory_bytes(plan: Derived, optimizer_bytes: float, recompute: bool, lean: bool) -> float:
    """Weights, gradients, the optimizer's state, what is kept of a microbatch for backward, and the loss's logits.
    `lean`: of long rows on a CPU, as `ground/model/recomputing.py` counts it."""
    shape = plan.shape
    rows = max(plan.microbatch_tokens, plan.context)
    heads = (shape.num_heads + shape.num_kv_heads) * shape.head_dim
    kept = 5 * shape.hidden_size + 4 * heads + 3 * shape.intermediate_size  # floats a token and block
    blocks: float = shape.hidden_size * shape.num_layers + kept if recompute else kept * shape.num_layers
    if lean:
        query, key = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        blocks = shape.num_layers * (shape.hidden_size + query + shape.num_heads)
        blocks = SLACK * (blocks + 6 * shape.hidden_size + 4 * query + 4 * key)
    activations = 4 * rows * blocks
    return 8 * shape.num_parameters + optimizer_bytes + activations + 4 * LOGITS * shape.vocab_size


ROOM = Room(
    product="checkpoint",
    settings=Settings,
    roles=ROLES,
    variant="policy",
    estimate=estimate,
    check=check,
    context=context,
    processes=processes,
    learns=True,
    method="pretraining on raw text",
)
