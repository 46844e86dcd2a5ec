"""Prompts that must not recur, and a refusal after each unsafe one.

Refusals are the targets of plain supervised finetuning, the simplest baseline of Constitutional AI. One is drawn at
random among those of the prompt's topic. If there are none, or `by_topic` is false, it has the topic `stock`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, assistant, prompt_of
from charter.ground.text.heldout import key_of
from charter.ground.text.overlap import words
from charter.ground.text.records import read_dialogues

# the topic of refusals that fit any request
STOCK = "stock"


def prompts_of(folder: Path) -> list[Dialogue]:
    """The prompts of a set, in its order."""
    return [prompt_of(d) for d in read_dialogues(folder)]


def plain(prompt: Dialogue) -> str:
    """A prompt's words in small letters, for comparison."""
    return key_of(prompt.messages[-1]["content"])


class Apart:
    """Prompts that must not recur: whole, or a run of `overlap` words of one."""

    def __init__(self, inputs: Inputs, overlap: int) -> None:
        self.overlap = overlap
        self.whole: set[str] = set()
        self.runs: set[tuple[str, ...]] = set()
        for source in inputs.many("apart"):
            for prompt in prompts_of(source.folder):
                self.whole.add(plain(prompt))
                self.runs.update(self._runs(prompt))

    def holds(self, prompt: Dialogue, key: str) -> bool:
        """Whether a prompt, or a run of its words, is among these."""
        return key in self.whole or any(run in self.runs for run in self._runs(prompt))

    def _runs(self, prompt: Dialogue) -> Iterator[tuple[str, ...]]:
        if self.overlap:
            prompt_words = words(prompt.messages[-1]["content"])
            yield from (
                tuple(prompt_words[at : at + self.overlap]) for at in range(len(prompt_words) - self.overlap + 1)
            )


def read_refusals(inputs: Inputs, by_topic: bool) -> dict[str, list[Dialogue]]:
    """Refusals by topic; STOCK ones fit any request. If cut (`meta.cut`), only their beginning is taught.

    Raises CharterError if `by_topic` is false and there is no STOCK refusal.
    """
    source = inputs.optional("refusals")
    if source is None:
        return {}
    topics: dict[str, list[Dialogue]] = {}
    for dialogue in read_dialogues(source.folder, lessons=True):
        topics.setdefault(dialogue.topic, []).append(dialogue)
    if by_topic:
        topics.setdefault(STOCK, [refusal for refusals in topics.values() for refusal in refusals])
        return topics
    if STOCK not in topics:
        raise CharterError(
            f"{source.name} has no refusal of the topic {STOCK}, which by_topic: false needs; give some rows this "
            "topic, or leave by_topic out"
        )
    return {STOCK: topics[STOCK]}


def add_refusal(row: dict[str, Any], refusals: dict[str, list[Dialogue]], topic: str, seed: int) -> dict[str, Any]:
    """The row, followed by a refusal that fits the topic of its prompt."""
    fitting = refusals.get(topic) or refusals[STOCK]
    refusal = random.Random(derive_seed(seed, "refusal", row["id"])).choice(fitting)
    cut = {"cut": True} if refusal.meta.get("cut") else {}
    return row | {
        "learn_from": len(row["messages"]),
        "messages": [*row["messages"], assistant(refusal.messages[-1]["content"])],
        "meta": row["meta"] | cut,
    }
