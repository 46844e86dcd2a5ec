"""Labelled prompts out of several sets: each once, the held-out ones left out, and no copies of evaluation prompts.

A prompt's part follows from a hash of its words in small letters, h = first 8 bytes of sha256: test if h mod `test`
is 0, else dev if h mod `dev` is 0, else train. The same words fall into the same part in every set.

With `refusals` each unsafe prompt gets one of their replies, drawn at random: the targets of plain supervised
finetuning, the simplest thing that Constitutional AI must beat.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, prompt_of
from charter.ground.text.overlap import words
from charter.ground.text.records import read_dialogues
from charter.prompts.settings import Settings, Split

REASONS = ("topic", "long", "repeated", "copy", "held_out")
LABELS = {"unsafe": 1.0, "benign": 0.0}


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: dialogues.jsonl (prompts with `meta.p_refuse` 1 or 0 and their set as topic), counts.json."""
    apart, refusals = Apart(inputs, settings.overlap), _refusals(inputs)
    seen: set[str] = set()
    rows: list[dict[str, Any]] = []
    counts = Counter[str]()
    for label, p_refuse in LABELS.items():
        for source in inputs.many(label):
            kept = []
            for prompt in _prompts(source.folder):
                key = plain(prompt)
                reason = _reason(prompt, key, settings, seen, apart)
                if reason:
                    counts[f"dropped_{reason}"] += 1
                    continue
                seen.add(key)
                kept.append(prompt)
            if settings.keep in (label, "all"):
                rng = random.Random(derive_seed(settings.draw_seed, "prompts", label, source.name))
                if settings.limit and settings.limit < len(kept):
                    kept = [kept[at] for at in sorted(rng.sample(range(len(kept)), settings.limit))]
                counts[label] += len(kept)
                for prompt in kept:
                    row = _row(prompt, source.name, label, p_refuse, len(rows))
                    if refusals and label == "unsafe":
                        reply = random.Random(derive_seed(out.seed, "refusal", row["id"])).choice(refusals)
                        row |= {"learn_from": len(prompt.messages)}
                        row["messages"] = [*prompt.messages, {"role": "assistant", "content": reply}]
                    rows.append(row)
    if not rows:
        raise CharterError(
            f"no prompt is left of the {settings.split.part} part ({dict(counts)}); give more sets, or another part"
        )
    out.write_jsonl("dialogues.jsonl", rows)
    table = {key: counts[key] for key in (*LABELS, *(f"dropped_{reason}" for reason in REASONS))}
    out.write_json("counts.json", table)
    for name, value in table.items():
        out.metric(name, value)


def plain(prompt: Dialogue) -> str:
    """A prompt's words in small letters: what is compared."""
    return " ".join(prompt.messages[-1]["content"].lower().split())


def part_of(key: str, split: Split) -> str:
    """The part into which a prompt falls."""
    number = int(hashlib.sha256(key.encode()).hexdigest()[8:16], 16)
    if number % split.test == 0:
        return "test"
    return "dev" if number % split.dev == 0 else "train"


class Apart:
    """Prompts that must not come up again: whole, or a run of so many words of one."""

    def __init__(self, inputs: Inputs, overlap: int) -> None:
        self.overlap = overlap
        self.whole: set[str] = set()
        self.runs: set[tuple[str, ...]] = set()
        for source in inputs.many("apart"):
            for prompt in _prompts(source.folder):
                self.whole.add(plain(prompt))
                self.runs.update(self._runs(prompt))

    def holds(self, prompt: Dialogue, key: str) -> bool:
        """Whether a prompt, or a run of its words, stands here."""
        return key in self.whole or any(run in self.runs for run in self._runs(prompt))

    def _runs(self, prompt: Dialogue) -> Iterator[tuple[str, ...]]:
        if self.overlap:
            said = words(prompt.messages[-1]["content"])
            yield from (tuple(said[at : at + self.overlap]) for at in range(len(said) - self.overlap + 1))


def _refusals(inputs: Inputs) -> list[str]:
    source = inputs.optional("refusals")
    if source is None:
        return []
    return [d.messages[-1]["content"] for d in read_dialogues(source.folder, lessons=True)]


def _prompts(folder: Path) -> Iterator[Dialogue]:
    return map(prompt_of, read_dialogues(folder))


def _reason(prompt: Dialogue, key: str, settings: Settings, seen: set[str], apart: Apart) -> str:
    """Why a prompt is left out, or ""."""
    if prompt.topic in settings.without:
        return "topic"
    if len(key.split()) > settings.most_words:
        return "long"
    if key in seen:
        return "repeated"
    if apart.holds(prompt, key):
        return "copy"
    return "" if settings.split.part in ("all", part_of(key, settings.split)) else "held_out"


def _row(prompt: Dialogue, source: str, label: str, p_refuse: float, number: int) -> dict[str, Any]:
    name = source.rpartition(":")[2].rpartition("/")[2].partition(".")[0]
    return {
        "id": f"{name}-{number:05d}",
        "topic": name,
        "messages": list(prompt.messages),
        "meta": {"p_refuse": p_refuse, "label": label},
    }
