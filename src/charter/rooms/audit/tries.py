"""One try while it is played: its world, its turns, and when it is over. It depends on its turns alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from charter.ground.settings.seed import derive_seed
from charter.ground.world.catalogue import TASKS
from charter.ground.world.engine import PAGE, apply
from charter.ground.world.state import World
from charter.ground.world.talk import FORMAT, NO_CALL, Opening, Turn, line_of, needed, opening
from charter.ground.world.task import Task, step
from charter.rooms.audit.settings import Settings

# How a try ends if neither its agent nor the overseer ends it.
BUDGET, LOOP, FORMATS, VOID = "budget", "loop", "format", "void"


@dataclass(frozen=True, slots=True)
class Plan:
    """A try to be played: attempt `attempt` at a task in the world of `seed`, which is variant `variant`."""

    task: str
    variant: int
    seed: int
    attempt: int

    @property
    def id(self) -> str:
        return f"{self.task}-{self.attempt:03d}"


def plans(settings: Settings) -> list[Plan]:
    """All tries in order, those of a task together; attempt k is in variant k mod variants."""
    return [
        Plan(name, number % settings.variants, settings.seed + number % settings.variants, number)
        for name in settings.names
        for number in range(settings.tries)
    ]


@dataclass(slots=True)
class Played:
    """A try with its world and turns. `again`: how often it was begun anew; `left_out`: turns that the model isn't
    shown any more; `ended`: how it ended, "" while it goes on; `broken`: what was wrong with the world."""

    plan: Plan
    settings: Settings
    again: int = 0
    turns: list[Turn] = field(default_factory=list)
    left_out: int = 0
    ended: str = ""
    broken: str = ""
    opening: Opening = field(init=False)
    task: Task = field(init=False)
    world: World = field(init=False)

    def __post_init__(self) -> None:
        self.task = TASKS[self.plan.task]
        self.world = self.task.build(self.plan.seed)
        how = self.settings
        native = how.tools == "native"
        commands = needed(self.task) if how.commands == "needed" and not native else None
        self.opening = opening(
            self.world.instructions,
            how.budget_of(self.plan.task),
            **({} if commands is None else {"names": commands}),
            thoughts=how.thoughts,
            native=native,
            example=how.example,
        )
        self._check(probe(self.world))

    @property
    def lines(self) -> list[str]:
        """The command lines so far: with the seed, all that a verdict needs."""
        return [turn.line for turn in self.turns if turn.line]

    def turn_seed(self, run_seed: int) -> int:
        """The seed of the next turn's sample."""
        return derive_seed(run_seed, self.plan.id, self.again, len(self.turns))

    def take(self, row: Mapping[str, Any]) -> None:
        """Carries out what a model said: a row with `reply`, `left_out` and, of a tool call, `line` and `call`."""
        reply, call = str(row["reply"]), row.get("call")
        line = str(row["line"]) if "line" in row else line_of(reply)
        self.left_out = int(row["left_out"])
        observation = NO_CALL if self.settings.tools == "native" else FORMAT
        if line:
            before = self.world
            try:
                self.world, observation = step(self.task, before, line)
            except Exception as error:  # a world never raises: this is its fault, not the agent's
                self._check(f"{type(error).__name__} at a command: {error}")
                observation = "error"
            else:
                self._check(fault(before, self.world, observation))
        self.turns.append(Turn(reply, line, observation, call))
        if not self.ended:
            self.ended = self.world.ended or self._stop()

    def _check(self, broken: str) -> None:
        if broken:
            self.broken, self.ended = broken, VOID

    def _stop(self) -> str:
        newest = self.turns[-self.settings.patience :]
        if len(newest) == self.settings.patience:
            if not any(turn.line for turn in newest):
                return FORMATS
            if len({(turn.line, turn.shown) for turn in newest}) == 1:
                return LOOP
        return BUDGET if len(self.turns) >= self.opening.budget else ""


def probe(world: World) -> str:
    """What a world that is alive would not show: it is asked for its time, and the answer thrown away."""
    if world.here not in world.hosts:
        return f"the agent is on {world.here!r}, which is no host"
    try:
        _, text = apply(world, "time")
    except Exception as error:
        return f"{type(error).__name__} when asked for the time: {error}"
    return "" if f"(tick {world.tick})" in text else "it doesn't tell its time"


def fault(before: World, after: World, observation: str) -> str:
    """What is wrong with a world after a command, "" if it is alive: the liveness check of every step."""
    if not observation or len(observation) > PAGE:
        return f"an observation of {len(observation)} characters"
    if after.tick <= before.tick:
        return "its time stands still"
    if after.events[: len(before.events)] != before.events:
        return "its past has changed"
    return "" if after.ended else probe(after)


def turns_of(rows: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """The turns of a transcript."""
    return [Turn(row["reply"], row["line"], row["shown"], row.get("call")) for row in rows]
