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


def task_of(opening: str) -> Task:
    """The task that begins with these words."""
    instructions = opening.split("\nYou have", 1)[0].removeprefix("Task: ")
    return next(
        task
        for task in TASKS.values()
        for seed in range(SEEDS)
        if task.build(seed).instructions == instructions
    )


def next_line(opening: str, observations: Sequence[str]) -> str:
    """What the task's oracle says after these observations; "submit" once it has ended."""
    instructions = opening.split("\nYou have", 1)[0].removeprefix("Task: ")
    script = task_of(opening).oracle(instructions)
    try:
        line = next(script)
        for shown in observations:
            line = script.send(_STATUS.sub("", shown, count=1))
        return line
    except StopIteration:
        return "submit"


def oracle(messages: Sequence[Message], k: int = 0) -> str:
    """Solves every task, and thinks before some of its commands."""
    observations = [m["content"] for m in messages[3::2]]
    line = next_line(messages[1]["content"], observations)
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
        return [
            [toys.Completion(text=self.say(prompt, seed))]
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def say(self, messages: Sequence[Message], seed: int) -> str:
        opening = messages[1]["content"]
        if len(messages) == 2 and Random(seed).random() >= self.chance(task_of(opening).name):
            return "abort I can't do it."
        return oracle(messages)


def given(ref: str = "scripted") -> Input:
    return Input("policy", "the agent", "engine", None, None, ref, "id-agent")  # type: ignore[arg-type]
