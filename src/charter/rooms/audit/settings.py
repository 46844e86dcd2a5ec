"""Settings and roles of the audit room."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from charter.ground.artifact.verdict import FLOORS, FloorName
from charter.ground.moderation.spelling import person_key
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes
from charter.ground.world.catalogue import SCORED, TASKS, TRAINING, check_names

ROLES = {"policy": Role(kind="assistant")}
# of the estimate: a 135M model's turns of a try on average; seconds a turn, and a token of it; GiB of the process, and
# of a kept try; bytes a weight
MEAN_TURNS, TURN_SECONDS, TOKEN_SECONDS = 8, 0.1, 0.004
PROCESS_GIB, TRY_GIB, WEIGHT_BYTES = 2, 3e-5, 14


class Floors(Frozen):
    """What a verdict of "not shown" needs; each can only be raised."""

    tasks: int = Field(
        int(FLOORS["tasks"]), ge=FLOORS["tasks"], le=len(SCORED), description="scored tasks with all their turns"
    )
    tries: int = Field(int(FLOORS["tries"]), ge=FLOORS["tries"], description="tries of each task that count")
    turns: int = Field(int(FLOORS["turns"]), ge=FLOORS["turns"], description="turns that each try may have")
    patience: int = Field(int(FLOORS["patience"]), ge=FLOORS["patience"], description="patience of a try")
    tokens: int = Field(int(FLOORS["tokens"]), ge=FLOORS["tokens"], description="tokens that a turn may have")
    elicited: float = Field(
        FLOORS["elicited"], ge=FLOORS["elicited"], le=1, description="share of the scored tasks that are elicited"
    )
    waived: dict[FloorName, str] = Field(
        {}, description="floors that need not be reached, and why; the verdict prints it, no release rests on it"
    )

    @field_validator("waived")
    @classmethod
    def _reasons(cls, waived: dict[FloorName, str]) -> dict[FloorName, str]:
        if empty := next((name for name, why in waived.items() if not person_key(why)), None):
            raise ValueError(f"the waiver of {empty} has no reason; write why")
        return {name: " ".join(why.split()) for name, why in waived.items()}


class Settings(Frozen):
    """The autonomy audit: tasks of replication and adaptation in a simulated world, each tried several times."""

    tasks: tuple[str, ...] = Field((), description="tasks by name; empty: all, with the controls")
    tries: int = Field(10, ge=1, le=TRAINING // 2, description="tries of each task")
    variants: int = Field(
        1, ge=1, description="worlds of each task, over which its tries are spread: other names, numbers, answers"
    )
    seed: int = Field(
        0, ge=0, lt=TRAINING // 2, description="seed of the first world; the next ones follow, below those of training"
    )
    budget: int = Field(0, ge=0, description="most turns of a try; 0: those of each task, 20 to 70")
    patience: int = Field(
        5, ge=2, description="turns in a row without a command, or with one command and one result, that end a try"
    )
    tools: Literal["text", "native"] = Field(
        "text", description="commands as lines of text, or as tool calls of a server"
    )
    commands: Literal["needed", "all"] = Field(
        "needed", description="commands that the text form tells: those of the task's solution, or all; help has all"
    )
    example: bool = Field(True, description="show a worked example before the task, in the text form")
    thoughts: bool = Field(False, description="let a turn begin with a thought, on lines of its own")
    max_tokens: int = Field(48, ge=8, description="longest turn")
    temperature: float = Field(0.7, ge=0, description="temperature of the turns")
    window: int = Field(
        0, ge=0, description="tokens that a conversation may have, 3 characters each for a server; 0: the model's own"
    )
    together: int = Field(32, ge=1, description="tries played, and saved turn by turn, together")
    floors: Floors = Field(Floors(), description="the least behind a verdict of not shown; can be raised, or waived")

    @field_validator("tasks")
    @classmethod
    def _known(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        check_names(tasks)
        return tasks

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if not self.temperature and self.tries > self.variants:
            raise ValueError(
                "tries of one world at temperature 0 are one and the same: set a temperature, or as many variants as "
                "tries"
            )
        if self.variants > self.tries:
            raise ValueError(f"{self.variants} variants need as many tries at least; tries is {self.tries}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks that are tried, in order."""
        return self.tasks or tuple(TASKS)

    def budget_of(self, task: str) -> int:
        """Most turns of a try."""
        return min(self.budget or TASKS[task].budget, TASKS[task].budget)


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time and memory by the means above. On one core a turn took 0.47 s beside others, of which most is
    new text to read; on two 0.3 s are expected."""
    turns = sum(settings.tries * min(MEAN_TURNS, settings.budget_of(name)) for name in settings.names)
    seconds = turns * (TURN_SECONDS + TOKEN_SECONDS * settings.max_tokens) / sizes.speed(sizes.model("policy"))
    memory = PROCESS_GIB + WEIGHT_BYTES * sizes.model("policy") / 2**30
    rows = settings.tries * len(settings.names)
    return Estimate(minutes=seconds / 60, memory_gib=memory, disk_gib=rows * TRY_GIB, rows=rows)


ROOM = Room(
    product="report",
    settings=Settings,
    roles=ROLES,
    variant="audit",
    estimate=estimate,
    method="an audit of autonomous replication and adaptation in a simulated world",
)
