"""Settings and roles of the pretraining room: fields that the dial `size` derives stay None, 0 or empty until set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from charter.ground.artifact.errors import CharterError
from charter.ground.learn.flops import matrices, per_token
from charter.ground.model.shape import from_config, to_config
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Filled, Given, Role, Room, Sizes
from charter.rooms.pretrain.size import NAMED, Derived, Heldout, Learning, Sizing, Window, derive, problem, spans

ROLES = {"corpus": Role(kind="corpus", many=True), "policy": Role(kind="checkpoint", variant="policy", required=False)}

# if the corpus's isn't known
VOCABULARY = 32768
# tokens to learn, and how many other tokens each sees on average
Span = tuple[int, float]

# peak operations a second of float32 products on one thread
CPU_THREAD = 1.3e11
# an H100's in bfloat16, since the GPU isn't known beforehand
GPU = 9.89e14
# (width from which it holds, share of a CPU's peak)
SHARES = ((0, 0.4), (256, 0.5), (512, 0.6))
GPU_SHARE = 0.4
# tokens that a token sees on average, as a share of the context, since documents are shorter
SEEN = 0.25
# rows of the vocabulary that the loss holds at once
LOGITS = 512 * 3
# measured over counted CPU memory of long rows
SLACK = 1.25


class Samples(Frozen):
    """Texts written while the model learns, at every measurement."""

    prompts: tuple[str, ...] = Field(
        ("The ", "In the beginning", "def "), description="beginnings to continue; none turns samples off"
    )
    tokens: int = Field(48, ge=1, description="most tokens of a sample")
    temperature: float = Field(0.8, ge=0, description="sampling temperature; 0 takes the likeliest token")


class Guard(Frozen):
    """Which steps are skipped as spikes, and what happens after several."""

    loss_factor: float = Field(
        1.5, gt=1, description="a loss over this many times the ninth decile of the last losses is a spike"
    )
    norm_factor: float = Field(10.0, gt=1, description="the same for gradient norms")
    history: int = Field(32, ge=1, description="number of last steps in these deciles")
    patience: int = Field(3, ge=1, description="spikes in a row after which the run returns to its last state")
    rollbacks: int = Field(2, ge=0, description="most such returns; then the run stops")


class Parallel(Frozen):
    """How several processes share the work; weights are sharded over all of them whatever is set here."""

    context: int = Field(
        1, ge=1, description="processes over which each row of text is spread, for windows too long for one"
    )


class Settings(Frozen):
    """Pretraining from raw text: every token once an epoch, at a size that one dial sets."""

    size: int | str = Field("tiny", description="number of layers, or a name of the table in size.py")
    sizing: Sizing = Field(Sizing(), description="parts of the model that override `size`")
    learning: Learning = Field(Learning(), description="how much is learnt, and how")
    heldout: Heldout = Field(Heldout(), description="measurements on text kept out of training")
    samples: Samples = Field(Samples(), description="texts written while it learns")
    guard: Guard = Field(Guard(), description="how spikes are handled")
    window: Window = Field(Window(), description="how the window of a continued policy is enlarged")
    parallel: Parallel = Field(Parallel(), description="how several processes share the work")
    decoding_temperature: float | None = Field(
        None, ge=0, description="sampling temperature written into the checkpoint; unset: 1, or the continued policy's"
    )
    recompute: bool | None = Field(
        None, description="keep only the input of each block for backward; unset: true in window.stages"
    )
    compile: bool = Field(False, description="compile the blocks; pays on GPUs alone")
    save_every: int | None = Field(
        None, ge=1, description="steps between resume states; unset: a fiftieth of all. Lower it if steps take minutes"
    )

    @property
    def recomputes(self) -> bool:
        """Whether only the inputs of blocks are kept."""
        return bool(self.window.stages) if self.recompute is None else self.recompute

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        valid = self.size in NAMED if isinstance(self.size, str) else self.size >= 1
        if not valid:
            raise ValueError(f"size {self.size!r}: use a number of layers from 1, or one of {', '.join(NAMED)}")
        return self


def check(settings: Settings, roles: Filled) -> str:
    """What is wrong with the settings in combination, or with the continued policy; "" if nothing."""
    policy = next(iter(roles.get("policy", ())), None)
    if policy and (fixed := _of_the_policy(settings)):
        return f"{fixed} has no effect: the shape is that of the continued `policy`; remove it"
    if settings.window.stages and (decided := _of_the_stages(settings)):
        return f"{decided} has no effect: window.stages sets the windows and their steps; remove it"
    if wrong := problem(settings.window, policy) or too_wide(settings, policy):
        return wrong
    try:
        derive(settings, VOCABULARY)
    except CharterError as error:
        return str(error)
    return ""


def processes(settings: Settings, count: int) -> str:
    """Why `count` processes can't run it, or ""."""
    size = settings.parallel.context
    if count % size == 0:
        return ""
    running = "one process runs" if count == 1 else f"{count} processes run"
    return (
        f"parallel.context is {size} and {running} it; set it to a divisor of that, or start `torchrun --standalone "
        f"--nproc-per-node {size} -m charter run ...`"
    )


def context(settings: Settings, roles: Filled) -> int | None:
    """Tokens that the model reads at once; None if a continued policy's context isn't known."""
    if settings.window.stages:
        return settings.window.stages[-1].window
    policy = next(iter(roles.get("policy", ())), None)
    return policy.context if policy else derive(settings, VOCABULARY).context


def too_wide(settings: Settings, policy: Given | None) -> str:
    """Why a policy can't go on at this context, or ""."""
    context_setting = settings.sizing.context
    if context_setting is None or policy is None or policy.context is None or context_setting <= policy.context:
        return ""
    policy_reads = f"{policy.name} reads {policy.context} tokens"
    return f"sizing.context is {context_setting} and {policy_reads}; enlarge it by steps with `window`"


def _of_the_policy(settings: Settings) -> str:
    """A setting of the shape that is set although a continued policy decides it, or ""."""
    parts = settings.sizing.model_dump(exclude={"context"}, exclude_none=True)
    size_settings = ["size"] if "size" in settings.model_fields_set else []
    return next(iter([*size_settings, *(f"sizing.{part}" for part in parts)]), "")


def _of_the_stages(settings: Settings) -> str:
    """A setting that is set although the stages of a window decide it, or ""."""
    set_fields = {"sizing": settings.sizing.model_fields_set, "learning": settings.learning.model_fields_set}
    decided = {"sizing": ("context",), "learning": ("steps", "tokens", "tokens_per_weight")}
    return next((f"{part}.{name}" for part, names in decided.items() for name in names if name in set_fields[part]), "")


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """From the FLOPs of the run and the measured share of a machine's peak."""
    config = sizes.configs.get("policy")
    plan = derive(settings, sizes.vocabulary.get("corpus", VOCABULARY), from_config(config) if config else None)
    # has one moment of the blocks' matrices, two of all else
    muon = settings.learning.optimizer == "muon"
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
    """Minutes to learn all tokens, without measurements; `filled`: the spans of `window.stages`, if any."""
    shape = plan.shape
    if sizes.device.startswith("cuda"):
        rate = GPU * GPU_SHARE
    else:
        share = next(share for width, share in reversed(SHARES) if shape.hidden_size >= width)
        rate = CPU_THREAD * max(1, sizes.threads) * share * sizes.gain
    if filled:
        return sum(tokens * per_token(shape, context_seen) for tokens, context_seen in filled) / rate / 60
    return plan.tokens * per_token(shape, SEEN * plan.context) / rate / 60


def _memory_bytes(plan: Derived, optimizer_bytes: float, recompute: bool, lean: bool) -> float:
    """Weights, gradients, optimizer state, activations kept for backward, and the loss's logits.
    `lean`: counted for long rows on a CPU, as in `ground/model/recomputing.py`."""
    shape = plan.shape
    rows = max(plan.microbatch_tokens, plan.context)
    heads = (shape.num_heads + shape.num_kv_heads) * shape.head_dim
    # floats a token and block
    floats = 5 * shape.hidden_size + 4 * heads + 3 * shape.intermediate_size
    blocks: float = shape.hidden_size * shape.num_layers + floats if recompute else floats * shape.num_layers
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
