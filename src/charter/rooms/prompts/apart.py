"""Prompts that must not recur, and how words are compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from charter.ground.artifact.inputs import Inputs
from charter.ground.text.dialogue import Dialogue, prompt_of
from charter.ground.text.heldout import key_of
from charter.ground.text.overlap import words
from charter.ground.text.records import read_dialogues


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
                tuple(prompt_words[at : at + self.overlap])
                for at in range(len(prompt_words) - self.overlap + 1)
            )
