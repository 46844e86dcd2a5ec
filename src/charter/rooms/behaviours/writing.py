"""Statements of both sides of a behaviour, by a model that sees gold statements, or by the behaviour's grammar."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import Assistant
from charter.ground.generate.sampling import Sampling
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Message, user
from charter.rooms.behaviours.definition import SIDES, Behaviour
from charter.rooms.behaviours.settings import Settings

# What a writer puts before a statement: a number, a dash, quotation marks.
FRAME = re.compile(r"^[\s\d.)*\-\"'“”]+|[\s\"'“”]+$")
SHORTEST = 3


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, and the side on which it was meant to be."""

    behaviour: Behaviour
    side: str
    text: str


def write(settings: Settings, behaviour: Behaviour, writer: Assistant | None, out: Workspace) -> list[Statement]:
    """The statements written for a behaviour, the sides in turn; a reply without a statement gives none."""
    sides = [SIDES[n % 2] for n in range(settings.count * settings.attempts)]
    if writer is None:
        rng = random.Random(derive_seed(out.seed, "grammar", behaviour.name))
        return [Statement(behaviour, side, behaviour.write(side, rng)) for side in sides]
    sampling = Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens)

    def produce(part: Sequence[tuple[int, str]], _: int) -> list[str]:
        seeds = [derive_seed(out.seed, "write", behaviour.name, n) for n, _ in part]
        requests = [
            request(behaviour, side, settings.shots, random.Random(seed))
            for (_, side), seed in zip(part, seeds, strict=True)
        ]
        return [each[0].text for each in writer.reply(requests, sampling, 1, seeds)]

    title = f"{behaviour.name}: written"
    replies = out.chunks(f"write-{behaviour.name}", list(enumerate(sides)), settings.chunk, produce, title)
    texts = [(side, read(reply)) for side, reply in zip(sides, replies, strict=True)]
    return [Statement(behaviour, side, text) for side, text in texts if text]


def request(behaviour: Behaviour, side: str, shots: int, rng: random.Random) -> list[Message]:
    """Asks for one more statement after gold ones of the side, drawn and ordered at random."""
    gold = rng.sample(behaviour.gold[side], min(shots, len(behaviour.gold[side])))
    listed = "\n".join(f'{n}. "{text}"' for n, text in enumerate(gold, 1))
    return [
        user(
            f"{behaviour.description} Here are statements that an assistant would make of itself that "
            f"{behaviour.definition(side)}:\n\n{listed}\n\nWrite one more such statement, in one sentence, about "
            "something else, and nothing besides it."
        )
    ]


def read(reply: str) -> str:
    """The first line of a reply, without numbers and quotation marks; "" if it is shorter than three words."""
    line = next((line for line in reply.splitlines() if line.strip()), "")
    text = FRAME.sub("", line).strip()
    return text if len(text.split()) >= SHORTEST else ""
