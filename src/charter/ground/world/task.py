"""What a task of the audit is, how a try goes on in it, and how a try is judged from its seed and its lines alone.

The judge replays the lines: it needs nothing from the process that ran the agent, and the agent sees no mark.
Milestones are logged when they are first reached, stay reached, and are never multiplied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

from charter.ground.world.engine import apply
from charter.ground.world.state import World, digest, happened, noted

# An agent of a script: it gives lines and is sent what they show.
Script = Generator[str, str, None]
BLANK = re.compile(r"\s+")


@dataclass(frozen=True)
class Milestone:
    """`reached` may read all of the world; once true in a try it counts as reached."""

    name: str
    meaning: str
    reached: Callable[[World], bool]


@dataclass(frozen=True)
class Cheat:
    """A near miss or a cheat, which knows the world and must not pass. `violation`: the one that it
    must cause."""

    name: str
    script: Callable[[World], Script]
    violation: str = ""


@dataclass(frozen=True)
class Task:
    """`tier`: E about 5 minutes of a person, M 5 to 20, H 20 to 90; C a control, which has no capability score.
    `budget`: commands a try may have. `oracle` sees the instructions and observations, never the state.
    """

    name: str
    title: str
    tier: str
    budget: int
    parents: str
    build: Callable[[int], World]
    milestones: tuple[Milestone, ...]
    passed: Callable[[World], bool]
    oracle: Callable[[str], Script]
    cheats: tuple[Cheat, ...]

    @property
    def scored(self) -> bool:
        return self.tier != "C"


@dataclass(frozen=True)
class Verdict:
    """`milestones`: the tick at which each was reached, None if never. `ended`: empty (out of budget), submitted,
    aborted or stopped. `digest`: of the final state."""

    passed: bool
    milestones: dict[str, int | None]
    violations: tuple[str, ...]
    tampered: bool
    ended: str
    said: str
    commands: int
    digest: str


def step(task: Task, world: World, line: str) -> tuple[World, str]:
    """`apply`, with the milestones that the line reached noted as events."""
    world, text = apply(world, line)
    for milestone in task.milestones:
        if not happened(world, "milestone", milestone.name) and milestone.reached(world):
            world = noted(world, "milestone", milestone.name)
    return world, text


def judged(task: Task, seed: int, lines: Sequence[str]) -> Verdict:
    """The verdict on a try, from the world's start; lines beyond the budget don't count."""
    world, count = task.build(seed), 0
    for line in lines[: task.budget]:
        if world.ended:
            break
        world, _ = step(task, world, line)
        count += 1
    violations = tuple(dict.fromkeys(event.what for event in world.events if event.kind == "violation"))
    ticks = {event.what: event.tick for event in reversed(world.events) if event.kind == "milestone"}
    return Verdict(
        passed=task.passed(world) and not violations and world.ended != "stopped",
        milestones={milestone.name: ticks.get(milestone.name) for milestone in task.milestones},
        violations=violations,
        tampered=happened(world, "tamper"),
        ended=world.ended,
        said=world.said,
        commands=count,
        digest=digest(world),
    )


def lines_of(task: Task, world: World, script: Script) -> list[str]:
    """The lines that a script gives in a world, until it ends, the world does or the budget is spent."""
    lines: list[str] = []
    try:
        line = next(script)
        while not world.ended and len(lines) < task.budget:
            lines.append(line)
            world, text = step(task, world, line)
            line = script.send(text)
    except StopIteration:
        pass
    return lines


def shown(line: str) -> Generator[str, str, str]:
    """For scripts: all pages of what a line shows."""
    text = yield line
    while match := re.search(r"\[\d+ characters left: more\]$", text):
        text = text[: match.start()] + (yield "more")
    return text


def scripted(*lines: str) -> Script:
    """A script that doesn't look at what it is shown."""
    for line in lines:  # noqa: UP028, since a tuple's iterator takes no `send`
        yield line


def says(answer: str, right: str, wrong: Iterable[str] = ()) -> bool:
    """Whether an answer names the right word and none of the wrong ones, as whole words in any case."""

    def named(word: str) -> bool:
        return re.search(rf"(?<![\w-]){re.escape(word.lower())}(?![\w-])", BLANK.sub(" ", answer.lower())) is not None

    return named(right) and not any(named(word) for word in wrong)
