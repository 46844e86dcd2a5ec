"""Labelled prompts from several sets: each once, without held-out ones and copies of evaluation prompts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.seed import derive_seed, draw_rows
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.heldout import part_of
from charter.ground.text.labels import EVEN, P_REFUSE, p_refuse
from charter.rooms.prompts.filters import Apart, add_refusal, plain, prompts_of, read_refusals
from charter.rooms.prompts.settings import Settings

REASONS = ("topic", "long", "repeated", "copy", "held_out")
LABELS = {"unsafe": 1.0, "benign": 0.0}
# a prompt and the probability that it should be refused
Labelled = tuple[Dialogue, float]


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: dialogues.jsonl (prompts with `meta.p_refuse`, and their set as topic), counts.json."""
    apart, refusals = Apart(inputs, settings.overlap), read_refusals(inputs, settings.by_topic)
    keys: set[str] = set()
    rows: list[dict[str, Any]] = []
    counts = Counter[str]()
    labelled = [(source, _read_labelled(source)) for source in inputs.many("labelled")]
    for label, p in LABELS.items():
        sets = [(source, [(prompt, p) for prompt in prompts_of(source.folder)]) for source in inputs.many(label)]
        sets += [(source, _of(prompts, label)) for source, prompts in labelled]
        for source, prompts in sets:
            selected: list[Labelled] = []
            for prompt, prompt_label in prompts:
                key = plain(prompt)
                reason = _reason(prompt, key, settings, keys, apart)
                if reason:
                    counts[f"dropped_{reason}"] += 1
                    continue
                keys.add(key)
                selected.append((prompt, prompt_label))
            if settings.keep in (label, "all"):
                own_seed = derive_seed(settings.draw_seed, "prompts", label, source.name)
                selected = draw_rows(selected, settings.limit, own_seed)
                counts[label] += len(selected)
                for prompt, prompt_label in selected:
                    row = _row(prompt, source.name, label, prompt_label, len(rows))
                    declined = refusals and label == "unsafe"
                    rows.append(add_refusal(row, refusals, prompt.topic, out.seed) if declined else row)
    if not rows:
        raise CharterError(
            f"no prompt is left of the {settings.split.part} part ({dict(counts)}); give more sets, or another part"
        )
    out.write_jsonl("dialogues.jsonl", rows)
    table = {key: counts[key] for key in (*LABELS, *(f"dropped_{reason}" for reason in REASONS))}
    out.counts(table)


def _read_labelled(source: Input) -> list[Labelled]:
    """The prompts that have a label of their own."""
    prompts = [(prompt, p_refuse(prompt, source.name)) for prompt in prompts_of(source.folder)]
    labelled = [(prompt, p) for prompt, p in prompts if p is not None]
    if not labelled:
        raise CharterError(
            f"{source.name} has no prompt with a label; give rows a meta.{P_REFUSE}, or name it under unsafe or benign"
        )
    return labelled


def _of(prompts: list[Labelled], label: str) -> list[Labelled]:
    """The prompts whose own label is `label`."""
    return [(prompt, p) for prompt, p in prompts if (p >= EVEN) == (label == "unsafe")]


def _reason(prompt: Dialogue, key: str, settings: Settings, keys: set[str], apart: Apart) -> str:
    """Why a prompt is dropped, or ""."""
    if prompt.topic in settings.without:
        return "topic"
    if len(key.split()) > settings.most_words:
        return "long"
    if key in keys:
        return "repeated"
    if apart.holds(prompt, key):
        return "copy"
    return "" if settings.split.part in ("all", part_of(key, settings.split.test, settings.split.dev)) else "held_out"


def _row(prompt: Dialogue, source: str, label: str, p: float, number: int) -> dict[str, Any]:
    name = source.rpartition(":")[2].rpartition("/")[2].partition(".")[0]
    return {
        "id": f"{name}-{number:05d}",
        "topic": name,
        "messages": list(prompt.messages),
        "meta": {P_REFUSE: p, "label": label},
    }
