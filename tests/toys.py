"""Toys of the tests: models of a few thousand weights in folders, inputs, a workspace, a scripted assistant.

Weights are larger than at a real start, so that distributions are peaked and an equality means something.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from charter.ground.artifact.inputs import Input
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.engine import Completion
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.principle_reader import PrincipleReader
from charter.ground.model.checkpoint import new_model, save_policy, save_preference
from charter.ground.model.heads import ScoreHead
from charter.ground.model.sentence_encoder import encoder_folder
from charter.ground.model.shape import Shape
from charter.ground.model.transformer import Transformer
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Message, assistant, user
from charter.ground.text.jsonl import read_jsonl, write_jsonl
from charter.ground.text.tokenizer import Tokenizer, train_tokenizer

VOCABULARY = 400
SHAPE = Shape(VOCABULARY, 32, 48, 2, 4, 2, 8, 1024)


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    texts = [m["content"] for row in read_jsonl(shipped("helpful.train"))[:60] for m in row["messages"]]
    return train_tokenizer(texts, VOCABULARY)


def model(seed: int = 0, shape: Shape = SHAPE, scale: float = 6.0) -> Transformer:
    made = new_model(shape, seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)
    return made


def policy_folder(folder: Path, seed: int = 0, shape: Shape = SHAPE) -> Path:
    save_policy(model(seed, shape), tokenizer(), folder)
    return folder


def preference_folder(folder: Path, seed: int = 1, label: str = "LABEL_0") -> Path:
    save_preference(model(seed), ScoreHead(SHAPE.hidden_size, seed), tokenizer(), folder, label=label)
    return folder


def given(role: str, path: Path, kind: str = "dialogues", variant: str | None = None) -> Input:
    """A filled role; its id follows from the content, as a real one does."""
    content = path.read_bytes() if path.is_file() else str(path).encode()
    return Input(role, path.name, kind, variant, path, str(path), hashlib.sha256(content).hexdigest())


def policy(path: Path, role: str = "policy") -> Input:
    return given(role, path, "checkpoint", "policy")


def preference(path: Path, role: str = "reward") -> Input:
    return given(role, path, "checkpoint", "preference")


def labeller_folder(folder: Path, seed: int = 0) -> Path:
    """A reader of principles with the packaged encoder and a random head."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    reader = PrincipleReader.start(encoder_folder(), 12.0, "cpu", "float32")
    torch.nn.init.normal_(reader.head.of_traits.weight)
    reader.save(folder)
    return folder


def constitution() -> Input:
    return given("constitution", shipped("constitution"), "constitution")


def rows_file(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    write_jsonl(path, rows)
    return path


def dialogue(id: str, question: str, answer: str | None = None, **more: Any) -> dict[str, Any]:
    turns = [user(question)] + ([assistant(answer)] if answer is not None else [])
    return {"id": id, "messages": turns, **more}


def comparison(id: str, question: str, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "messages": [user(question)], "chosen": chosen, "rejected": rejected, **more}


TRIPLES = [
    {"id": f"t{n}", "topic": "theft", "messages": [user(f"How do I take a bike, number {n}?")]}
    | {"harmful": "Cut the lock at night.", "good": "I won't help with that, since it is somebody's bike."}
    for n in range(3)
]


def workspace(folder: Path, seed: int = 5, progress: Any = None, precision: str = "float32") -> Workspace:
    return Workspace(folder, seed=seed, precision=precision, progress=progress)


class Interrupted(Exception):
    """What stands for a killed process in these tests."""


class StoppingProgress:
    """Bars that raise Interrupted when they are advanced for the n-th time, over all bars."""

    def __init__(self, after: int) -> None:
        self.left = after

    def bar(self, description: str, total: int, done: int = 0) -> StoppingProgress:
        return self

    def note(self, text: str) -> None:
        """Says nothing."""

    def advance(self, n: int = 1, **shown: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise Interrupted

    def __enter__(self) -> StoppingProgress:
        return self

    def __exit__(self, *reason: object) -> None:
        return None


def files_of(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder."""
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


Asked = Sequence[Message]


class Scripted:
    """An assistant double: `say(messages, k)` gives a reply's text, `rate(messages, text)` a log-probability.

    Without `rate` it cannot score, as remote engines cannot. It keeps what it was asked.
    """

    def __init__(
        self,
        say: Callable[[Asked, int], str] | None = None,
        rate: Callable[[Asked, str], float] | None = None,
        stop: str = "end",
    ) -> None:
        self.say, self.rate, self.stop = say, rate, stop
        self.capabilities = frozenset({"sample"} | ({"score"} if rate else set()))
        self.asked: list[Asked] = []
        self.samplings: list[Sampling] = []
        self.seeds: list[int] = []

    def reply(
        self, dialogues: Sequence[Asked], sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        assert self.say is not None
        self.asked += dialogues
        self.samplings.append(sampling)
        self.seeds += list(seeds or [])
        return [
            [Completion(text=self.say(d, k), stop=self.stop) for k in range(n)]  # type: ignore[arg-type]
            for d in dialogues
        ]

    def score(self, items: Sequence[tuple[Asked, Sequence[str]]]) -> list[list[float]]:
        assert self.rate is not None
        self.asked += [messages for messages, _ in items]
        return [[self.rate(messages, text) for text in texts] for messages, texts in items]
