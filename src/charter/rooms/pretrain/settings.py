"""Settings and roles of the pretraining room: what the dial `size` derives stays None, 0 or empty until it is set."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from charter.ground.artifact.errors import CharterError
from charter.ground.learn.flops import matrices
from charter.ground.model.shape import from_config, to_config
from charter.ground.settings.estimate import Estimate, Sizes
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.roles import Filled, Given, Role
from charter.ground.settings.room import Room
from charter.rooms.pretrain.cost import memory_bytes, minutes
from charter.rooms.pretrain.size import NAMED, derive
from charter.rooms.pretrain.window_settings import Window, problem, spans

ROLES = {
    "corpus": Role(kind="corpus", many=True),
    "policy": Role(kind="checkpoint", variant="policy", required=False),
}

VOCABULARY = 32768  # where that of the corpus isn't known


class Sizing(Frozen):
    """Parts of the model; what is None follows from `size`."""

    layers: int | None = Field(None, ge=1, description="blocks")
    width: int | None = Field(None, ge=8, description="size of the residual stream")
    heads: int | None = Field(None, ge=1, description="query heads")
    key_heads: int | None = Field(None, ge=1, description="key and value heads; a divisor of `heads`")
    head_size: int | None = Field(None, ge=2, multiple_of=2, description="size of a head")
    feed_forward: int | None = Field(None, ge=8, description="width inside SwiGLU; 8/3 of the width")
    context: int | None = Field(None, ge=16, description="most tokens read at once")
    rope_base: float | None = Field(None, gt=0, description="base of the rotary position code")
    tied: bool | None = Field(None, description="whether the head is the embedding")


class Learning(Frozen):
    """How much is learnt, and how; what is None follows from `size`."""

    tokens_per_weight: float = Field(
        20.0, gt=0, description="tokens learnt for each weight that multiplies: 20 spends compute best"
    )
    tokens: int | None = Field(None, ge=1, description="tokens learnt in all, instead of the ratio")
    steps: int | None = Field(None, ge=1, description="optimizer steps, instead of both")
    batch_tokens: int | None = Field(None, ge=16, description="tokens of an optimizer step")
    microbatch_tokens: int | None = Field(
        None, ge=16, description="most tokens in one forward pass; bounds memory, changes nothing learnt"
    )
    optimizer: Literal["muon", "adamw"] = Field("muon", description="what moves the blocks' matrices")
    matrix_lr: float | None = Field(None, gt=0, description="peak rate of the blocks' matrices")
    lr: float | None = Field(None, gt=0, description="peak rate of all else, which is AdamW's")
    weight_decay: float | None = Field(None, ge=0, description="decay of matrices, embeddings included")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0 turns clipping off")
    warmup: float = Field(0.02, ge=0, lt=1, description="share of the steps in which the rate rises")
    decay: float = Field(0.4, ge=0, le=1, description="share of the steps in which it falls to 0, at the end")


class Heldout(Frozen):
    """Bits per byte of text kept out of training."""

    every: int | None = Field(None, ge=1, description="steps between measurements; a twentieth of the run")
    tokens: int = Field(32768, ge=1, description="most tokens of each of these; whole documents, drawn once")
    final_tokens: int = Field(1_000_000, ge=1, description="most tokens of the last, which the card cites")


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
        minutes=minutes(plan, sizes, spans(settings.window, plan.batch_tokens)),
        memory_gib=memory_bytes(plan, moments, settings.recomputes, lean and sizes.device == "cpu") / 2**30,
        disk_gib=(weights + 2 * (weights + moments)) / 2**30,
        parameters=plan.shape.num_parameters,
        config=to_config(plan.shape),
    )


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
)
