"""Lessons for a labeller that reads principles (the feedback model of Bai 2022b, section 4.1, where no large one is at
hand).

The policy replies several times to each prompt, with and without a principle as its system text. Programs measure
traits of the replies; two that differ in a trait make a pair, whose better reply is known under principles for and
against the trait. The room `labeller` learns them, and pairs that people wrote.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.constitution.wording import with_system
from charter.ground.generate.assistant import Assistant, check_prompts, open_assistant
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import Sampling
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.records import read_prompts
from charter.rooms.principles.pairs import Wordings, asked_both_ways, measured, read_wordings
from charter.rooms.principles.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: comparisons.jsonl, each under a principle as system text; samples/replies.jsonl; counts.json."""
    wordings = read_wordings(inputs.one("wordings").folder)
    replies: dict[str, list[dict[str, Any]]] = {}
    for row in _replies(settings, wordings, inputs, out):
        replies.setdefault(row["prompt"], []).append(row)
    counts = Counter[str](prompts=len(replies), replies=sum(map(len, replies.values())))
    rows: list[dict[str, Any]] = []
    for kind in dict.fromkeys(kind for kind, _ in wordings):
        pairs = measured(replies, kind, settings, out.seed)
        counts[f"pairs_{kind}"] = len(pairs)
        rows += asked_both_ways(pairs, kind, wordings, out.seed)
    if not rows:
        raise CharterError("there is no pair: no two replies to a prompt differ in a trait; sample more replies")
    counts["comparisons"] = len(rows)
    out.write_jsonl("comparisons.jsonl", rows, restricted=True)
    out.write_jsonl("samples/replies.jsonl", [row for group in replies.values() for row in group], restricted=True)
    out.counts(dict(counts))


def _replies(settings: Settings, wordings: Wordings, inputs: Inputs, out: Workspace) -> list[dict[str, Any]]:
    """Rows {prompt, messages, principle, reply}."""
    prompts = read_prompts([s.folder for s in inputs.many("prompts")], settings.limit, out.seed)
    policy = open_assistant(inputs.one("policy"), out.device, precision=out.precision)
    check_prompts(policy, prompts)
    texts = sorted({text for texts in wordings.values() for text in texts})
    return out.chunks(
        "replies", prompts, settings.chunk, lambda part, _: _sample(policy, settings, part, texts, out.seed), "replies"
    )


def _sample(
    policy: Assistant, settings: Settings, prompts: Sequence[Dialogue], texts: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    requests = []
    for d in prompts:
        drawn = random.Random(derive_seed(seed, "guide", d.id)).choices(texts, k=settings.guided)
        requests += [(d, number, text) for number, text in enumerate([""] * settings.plain + drawn)]
    with naming_prompts(d.id for d, _, _ in requests):
        completions = policy.reply(
            [with_system(d.messages, text) if text else list(d.messages) for d, _, text in requests],
            Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens),
            seeds=[derive_seed(seed, "reply", d.id, number) for d, number, _ in requests],
        )
    return [
        {"prompt": d.messages[-1]["content"], "messages": list(d.messages), "principle": text, "reply": c.text.strip()}
        for (d, _, text), (c,) in zip(requests, completions, strict=True)
    ]
