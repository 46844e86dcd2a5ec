"""Labelled prompts out of several sets: each once, without held-out ones and copies of evaluation prompts.

A prompt's part follows from a hash of its words in small letters, h = first 8 bytes of sha256: test if h mod `test`
is 0, else dev if h mod `dev` is 0, else train. The same words fall into the same part in every set.

With `refusals` each unsafe prompt gets one of their replies, drawn at random among those of its own topic, or of the
topic `stock` if none has it: the targets of plain supervised finetuning, the simplest thing that Constitutional AI must
beat.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, assistant
from charter.ground.text.labels import EVEN, P_REFUSE, p_refuse
from charter.ground.text.records import read_dialogues
from charter.prompts.apart import Apart, plain, prompts_of
from charter.prompts.settings import Settings, Split

REASONS = ("topic", "long", "repeated", "copy", "held_out")
STOCK = "stock"  # the topic of refusals that fit any request
LABELS = {"unsafe": 1.0, "benign": 0.0}
Labelled = tuple[Dialogue, float]  # a prompt and the probability that it ought to be refused


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: dialogues.jsonl (prompts with `meta.p_refuse`, of sets 1 or 0, and their set as topic), counts.json."""
    apart, refusals = Apart(inputs, settings.overlap), _refusals(inputs)
    seen: set[str] = set()
    rows: list[dict[str, Any]] = []
    counts = Counter[str]()
    labelled = [(source, _labelled(source)) for source in inputs.many("labelled")]
    for label, p in LABELS.items():
        sets = [
            (source, [(prompt, p) for prompt in prompts_of(source.folder)]) for source in inputs.many(label)
        ]
        sets += [(source, _of(prompts, label)) for source, prompts in labelled]
        for source, prompts in sets:
            kept: list[Labelled] = []
            for prompt, own in prompts:
                key = plain(prompt)
                reason = _reason(prompt, key, settings, seen, apart)
                if reason:
                    counts[f"dropped_{reason}"] += 1
                    continue
                seen.add(key)
                kept.append((prompt, own))
            if settings.keep in (label, "all"):
                rng = random.Random(derive_seed(settings.draw_seed, "prompts", label, source.name))
                if settings.limit and settings.limit < len(kept):
                    kept = [kept[at] for at in sorted(rng.sample(range(len(kept)), settings.limit))]
                counts[label] += len(kept)
                for prompt, own in kept:
                    row = _row(prompt, source.name, label, own, len(rows))
                    declined = refusals and label == "unsafe"
                    rows.append(_refused(row, refusals, prompt.topic, out.seed) if declined else row)
    if not rows:
        raise CharterError(
            f"no prompt is left of the {settings.split.part} part ({dict(counts)}); give more sets, or another part"
        )
    out.write_jsonl("dialogues.jsonl", rows)
    table = {key: counts[key] for key in (*LABELS, *(f"dropped_{reason}" for reason in REASONS))}
    out.write_json("counts.json", table)
    for name, value in table.items():
        out.metric(name, value)


def part_of(key: str, split: Split) -> str:
    """The part into which a prompt falls."""
    number = int(hashlib.sha256(key.encode()).hexdigest()[8:16], 16)
    if number % split.test == 0:
        return "test"
    return "dev" if number % split.dev == 0 else "train"


def _refusals(inputs: Inputs) -> dict[str, list[Dialogue]]:
    """Refusals by topic; under STOCK those that fit any request, or only begin (`meta.cut`): the rest is not taught."""
    source = inputs.optional("refusals")
    if source is None:
        return {}
    by_topic: dict[str, list[Dialogue]] = {}
    for dialogue in read_dialogues(source.folder, lessons=True):
        by_topic.setdefault(dialogue.topic, []).append(dialogue)
    by_topic.setdefault(STOCK, [refusal for refusals in by_topic.values() for refusal in refusals])
    return by_topic


def _refused(
    row: dict[str, Any], refusals: dict[str, list[Dialogue]], topic: str, seed: int
) -> dict[str, Any]:
    """The row, with a refusal behind it that fits the topic of its prompt."""
    fitting = refusals.get(topic) or refusals[STOCK]
    refusal = random.Random(derive_seed(seed, "refusal", row["id"])).choice(fitting)
    cut = {"cut": True} if refusal.meta.get("cut") else {}
    return row | {
        "learn_from": len(row["messages"]),
        "messages": [*row["messages"], assistant(refusal.messages[-1]["content"])],
        "meta": row["meta"] | cut,
    }


def _labelled(source: Input) -> list[Labelled]:
    """Prompts with a label of their own; those without one are left out."""
    asked = [(prompt, p_refuse(prompt, source.name)) for prompt in prompts_of(source.folder)]
    labelled = [(prompt, p) for prompt, p in asked if p is not None]
    if not labelled:
        raise CharterError(
            f"{source.name} has no prompt with a label; give rows a meta.{P_REFUSE}, or name it under unsafe or benign"
        )
    return labelled


def _of(prompts: list[Labelled], label: str) -> list[Labelled]:
    """Those that are unsafe by their own label, or benign."""
    return [(prompt, p) for prompt, p in prompts if (p >= EVEN) == (label == "unsafe")]


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


def _row(prompt: Dialogue, source: str, label: str, p: float, number: int) -> dict[str, Any]:
    name = source.rpartition(":")[2].rpartition("/")[2].partition(".")[0]
    return {
        "id": f"{name}-{number:05d}",
        "topic": name,
        "messages": list(prompt.messages),
        "meta": {P_REFUSE: p, "label": label},
    }
