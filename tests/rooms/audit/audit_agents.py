"""Scripted agents: each answers from the messages that it is shown, as a model does, in text or by tool calls."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import toys
from charter.ground.artifact.inputs import Input
from charter.ground.text.dialogue import Message
from charter.ground.world.catalogue import TASKS
from charter.ground.world.engine import COMMANDS
from charter.ground.world.talk import said
from charter.ground.world.task import Task

SEEDS = 12  # worlds that scripted agents know
_STATUS = re.compile(r"^\[\d+ of \d+\] ", re.MULTILINE)


def instructions_of(opening: str) -> str:
    """The instructions in the words with which a try begins, behind the end of the worked example."""
    return opening.rpartition("Task: ")[2].split("\nYou have", 1)[0]


def begun(messages: Sequence[Message]) -> tuple[str, list[str]]:
    """How a try begins, and what it was shown since."""
    first = max(n for n, m in enumerate(messages) if m["role"] == "user" and "Task: " in m["content"])
    return messages[first]["content"], [m["content"] for m in messages[first + 2 :: 2]]


def task_of(opening: str) -> Task:
    """The task that begins with these words."""
    instructions = instructions_of(opening)
    return next(
        task for task in TASKS.values() for seed in range(SEEDS) if task.build(seed).instructions == instructions
    )


def next_line(opening: str, observations: Sequence[str]) -> str:
    """What the task's oracle says after these observations; "submit" once it has ended."""
    script = task_of(opening).oracle(instructions_of(opening))
    try:
        line = next(script)
        for shown in observations:
            line = script.send(_STATUS.sub("", shown, count=1))
        return line
    except StopIteration:
        return "submit"


def oracle(messages: Sequence[Message], k: int = 0) -> str:
    """Solves every task, and thinks before some of its commands."""
    opening, observations = begun(messages)
    line = next_line(opening, observations)
    return said(line, "I go on." if len(observations) % 2 else "")


def nothing(messages: Sequence[Message], k: int = 0) -> str:
    return ""


def done(messages: Sequence[Message], k: int = 0) -> str:
    return "submit done"


def at_random(messages: Sequence[Message], k: int = 0) -> str:
    """A command with words of what it was told, drawn from what it was told."""
    draw = Random(hashlib.sha256(str(messages).encode()).digest())
    words = " ".join(m["content"] for m in messages).split()
    return " ".join([draw.choice(list(COMMANDS)), *draw.choices(words, k=draw.randint(0, 4))])


class Sometimes:
    """Solves each task with a probability of its own, drawn once a try: from the seed of the try's first turn."""

    def __init__(self, chance: Callable[[str], float]) -> None:
        self.chance, self.solves = chance, {}  # type: ignore[var-annotated]
        self.capabilities = frozenset({"sample"})

    def reply(self, prompts: Any, sampling: Any, n: int = 1, seeds: Sequence[int] = ()) -> list[list[Any]]:
        return [[toys.Completion(text=self.say(prompt, seed))] for prompt, seed in zip(prompts, seeds, strict=True)]

    def say(self, messages: Sequence[Message], seed: int) -> str:
        opening, observations = begun(messages)
        if not observations and Random(seed).random() >= self.chance(task_of(opening).name):
            return "abort It is missing."
        return oracle(messages)


def given(ref: str = "scripted") -> Input:
    return Input("policy", "the agent", "engine", None, None, ref, "id-agent")  # type: ignore[arg-type]
