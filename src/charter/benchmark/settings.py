"""Settings and roles of the benchmark room."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

from pydantic import Field

from charter.ground.artifact.kinds import Kind
from charter.ground.settings.estimate import Estimate, Sizes
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.roles import Role

Task = Literal[
    "gsm8k",
    "mmlu_plain",
    "arc",
    "race",
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

PRODUCT: Kind = "report"
VARIANT = None
# Tasks that ask the same questions read them from one role.
DATA: dict[Task, str] = {**{task: str(task) for task in TASKS}, "mmlu_plain": "mmlu"}
ROLES = {
    "policy": Role(kind="assistant"),
    "helper": Role(kind="assistant", required=False),
    "trained_on": Role(kind="questions", many=True, required=False),
    **{
        role: Role(kind="questions", default=f"shipped:{role}.heldout")
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


class Settings(Frozen):
    """One report on one model: the card's capability and bias evaluations, each by the card's protocol."""

    stage: str = Field("model", description="what the card calls this model: start, taught, SL-CAI, RL ...")
    tasks: tuple[Task, ...] = Field(TASKS, min_length=1, description="evaluations, in this order")
    limit: int = Field(0, ge=0, description="questions asked per task, drawn by seed; 0: all")
    change: dict[Task, Change] = Field(
        {}, description="by task, what is done otherwise than the card does it"
    )
    chunk: int = Field(64, ge=1, description="questions asked together and saved whole")
    workers: int = Field(2, ge=1, description="written programs run at a time (humaneval)")
    draw_seed: int = Field(0, ge=0, description="seed of draws and of sampling; the same for every stage")


def check(settings: Settings, roles: Collection[str]) -> str:
    """What contradicts itself, or ""."""
    twice = sorted({task for task in settings.tasks if settings.tasks.count(task) > 1})
    if twice:
        return f"tasks names {', '.join(twice)} twice; name each once"
    idle = sorted(settings.change.keys() - set(settings.tasks))
    if idle:
        return f"change names {', '.join(idle)}, which tasks leaves out; add it to tasks or remove the change"
    return ""


# Tokens read and written per question, about: what a plan can know before it reads the questions.
COST: dict[Task, tuple[int, int]] = {
    "gsm8k": (120, 200),
    "mmlu_plain": (160, 0),
    "arc": (80, 0),
    "race": (450, 0),
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


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at 300 sampled tokens/s and 900 read ones of a 135M model on two cores."""
    parameters = sizes.parameters.get("policy", 134_500_000)
    seconds = 0.0
    for task in settings.tasks:
        change = settings.change.get(task, Change())
        limit = settings.limit if change.limit is None else change.limit
        rows = sizes.rows.get(DATA[task], limit)
        read, written = COST[task]
        seconds += (min(rows, limit) if limit else rows) * (
            read / 900 + (change.samples or 1) * written / 300
        )
    return Estimate(
        minutes=seconds / 60 / sizes.speed(parameters), memory_gib=14 * parameters / 2**30, disk_gib=0.01
    )
