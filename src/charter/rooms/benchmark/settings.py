"""Settings and roles of the benchmark room."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

from pydantic import Field

from charter.ground.settings.estimate import Estimate, Sizes
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.roles import Role
from charter.ground.settings.room import Room

Task = Literal[
    "gsm8k",
    "mmlu_plain",
    "arc",
    "race",
    "quality",
    "position",
    "recall",
    "humaneval",
    "mmlu",
    "triviaqa",
    "translation",
    "bbq",
    "truthfulqa",
    "winogender",
    "occupations",
    "decisions",
]
TASKS: tuple[Task, ...] = get_args(Task)
Form = Literal["text", "chat"]
Decoding = Literal["own", "protocol"]

# Tasks that ask the same questions read them from one role.
DATA: dict[Task, str] = {**{task: str(task) for task in TASKS}, "mmlu_plain": "mmlu"}
SHIPPED = {"position": "quality", "recall": "quality"}  # long texts, for which its stories do
# Where the published sets lie under CHARTER_DATA.
STANDARD = {
    "gsm8k": "data:gsm8k",
    "mmlu": "data:mmlu",
    "arc": "data:arc_challenge",
    "race": "data:race_high",
    "quality": "data:quality",
    "position": "data:pretrain/us_presidential_addresses",
    "recall": "data:pretrain/pepys_diary",
    "humaneval": "data:humaneval",
    "triviaqa": "data:triviaqa",
    "translation": "data:ntrex",
    "bbq": "data:bbq",
    "truthfulqa": "data:truthfulqa",
    "winogender": "data:anthropic_evals/winogenerated_even",
    "occupations": "data:anthropic_evals/winogenerated_occupations",
}
ROLES = {
    "policy": Role(kind="assistant"),
    "helper": Role(kind="assistant", required=False),
    **{
        role: Role(kind="questions", default=f"shipped:{SHIPPED.get(role, role)}.heldout")
        for role in dict.fromkeys(DATA.values())
    },
}


class Change(Frozen):
    """What is done otherwise than the card does it, for one task; all of it is part of the score's identity."""

    limit: int | None = Field(None, ge=0, description="questions asked, drawn by seed; 0: all")
    shots: int | None = Field(None, ge=0, description="worked examples before each question")
    form: Form | None = Field(
        None, description="text: one running text; chat: turns of the model's chat template"
    )
    temperature: float | None = Field(None, ge=0, description="sampling temperature")
    samples: int | None = Field(None, ge=1, description="answers sampled per question")
    max_tokens: int | None = Field(None, ge=1, description="longest answer")


class Long(Frozen):
    """How far the tasks on long texts go; all of it is part of their scores' identity."""

    positions: int = Field(262_144, ge=256, description="most positions of a document whose loss is measured")
    joined: bool = Field(
        False, description="join documents in the order of their file, to texts as long as wanted"
    )
    lengths: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="tokens of the texts of recall; None: 512, 1024 ... that the context holds",
    )


class Settings(Frozen):
    """One report on one model: the card's capability and bias evaluations, each by the card's protocol."""

    stage: str = Field("model", description="what the card calls this model: start, taught, SL-CAI, RL ...")
    tasks: tuple[Task, ...] = Field(TASKS, min_length=1, description="evaluations, in this order")
    limit: int = Field(0, ge=0, description="questions asked per task, drawn by seed; 0: all")
    change: dict[Task, Change] = Field(
        {}, description="by task, what is done otherwise than the card does it"
    )
    decoding: Decoding = Field(
        "own",
        description="of free answers, where the task isn't greedy: own: the checkpoint's; protocol: the task's",
    )
    long: Long = Field(Long(), description="how far the tasks on long texts go")
    chunk: int = Field(64, ge=1, description="questions asked together and saved whole")
    workers: int = Field(2, ge=1, description="written programs run at a time (humaneval)")
    draw_seed: int = Field(0, ge=0, description="seed of draws and of sampling; the same for every stage")


# What a change to a task would not change: it must not enter the score's identity as if it did.
_SCORED: set[Task] = {"position", "winogender", "occupations", "decisions"}  # nothing is ever sampled
_CHOSEN: set[Task] = {"mmlu_plain", "arc", "race", "quality", "bbq"}  # one letter a question
NO_EFFECT: dict[str, set[Task]] = {
    "shots": {*TASKS} - _CHOSEN - {"mmlu", "triviaqa"} | {"bbq"},
    "form": _SCORED - {"decisions"},
    "samples": _SCORED | _CHOSEN,
    "temperature": _SCORED,
    "max_tokens": _SCORED,
}


def check(settings: Settings, roles: Collection[str]) -> str:
    """What contradicts itself, or ""."""
    twice = sorted({task for task in settings.tasks if settings.tasks.count(task) > 1})
    if twice:
        return f"tasks names {', '.join(twice)} twice; name each once"
    idle = sorted(settings.change.keys() - set(settings.tasks))
    if idle:
        return f"change names {', '.join(idle)}, which tasks leaves out; add it to tasks or remove the change"
    vain = [
        f"change.{task}.{name}"
        for task, change in settings.change.items()
        for name, tasks in NO_EFFECT.items()
        if task in tasks and getattr(change, name) is not None
    ]
    if vain:
        return f"{', '.join(vain)} would change nothing that is asked; remove it"
    return ""


# Tokens read and written per question, about: what a plan can know before it reads the questions.
COST: dict[Task, tuple[int, int]] = {
    "gsm8k": (120, 200),
    "mmlu_plain": (160, 0),
    "arc": (80, 0),
    "race": (450, 0),
    "quality": (2500, 0),
    "position": (4000, 0),
    "recall": (3000, 16),
    "humaneval": (250, 200),
    "mmlu": (160, 150),
    "triviaqa": (60, 32),
    "translation": (300, 200),  # three languages
    "bbq": (110, 0),
    "truthfulqa": (500, 60),
    "winogender": (50, 0),
    "occupations": (100, 0),
    "decisions": (400, 0),
}


CACHE_GIB, CACHE_BYTES = 4.0, 45  # keys and values of an engine: at most, and bytes a parameter


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at 300 sampled tokens/s and 900 read ones of a 135M model on two cores. Memory: what such a run was seen to
    take, weights and activations beside the keys and values of two engines (the model's and the helper's)."""
    parameters = sizes.model("policy")
    seconds = 0.0
    for task in settings.tasks:
        change = settings.change.get(task, Change())
        limit = settings.limit if change.limit is None else change.limit
        rows = sizes.rows.get(DATA[task], limit)
        read, written = COST[task]
        seconds += (min(rows, limit) if limit else rows) * (
            read / 900 + (change.samples or 1) * written / 300
        )
    cache = min(CACHE_GIB, CACHE_BYTES * parameters / 2**30)
    return Estimate(
        minutes=seconds / 60 / sizes.speed(parameters),
        memory_gib=14 * parameters / 2**30 + 2 * cache,
        disk_gib=0.01,
    )


ROOM = Room(product="report", settings=Settings, roles=ROLES, estimate=estimate, check=check)
