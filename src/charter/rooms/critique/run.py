"""Critique and revision, the data of SL-CAI (Bai 2022b, section 3).

The starting helpful-only model drafts; then, for each round, a critique/revision principle is drawn at random,
the critic says what is wrong with the reply under that principle, and rewrites it. Whole transcripts are kept.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.constitution.constitution import CritiquePrinciple, draw, load
from charter.ground.constitution.wording import critique_messages, revision_messages
from charter.ground.generate.assistant import Assistant, check_prompts, open_assistant, own_decoding
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import Sampling, sampling_at
from charter.ground.model.generation import choose_decoding
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.examples import read_transcripts
from charter.ground.text.records import read_prompts
from charter.rooms.critique.product import fault, write
from charter.rooms.critique.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: dialogues.jsonl (prompt and kept revision, all rounds), transcripts.jsonl, counts.json."""
    principles = load(inputs.one("constitution").folder).critiques_of(settings.principle_set, settings.tags)
    shots = read_transcripts(inputs.one("shots").folder)[: settings.shots]
    prompts = read_prompts([s.folder for s in inputs.many("prompts")], settings.limit, settings.draw_seed)

    records = _all_drafts(settings, prompts, inputs, out)
    if not settings.rounds:
        write(settings, records, out)
        return
    critic = open_assistant(inputs.one("critic"), out.device, precision=out.precision)
    by_key = {p.key: p for p in principles}
    for number in range(settings.rounds):
        keys = [
            draw(principles, random.Random(derive_seed(out.seed, "principle", number, r["id"])))[0].key for r in records
        ]
        work = [(record, by_key[key]) for record, key in zip(records, keys, strict=True)]
        rounds = out.chunks(
            f"round-{number}",
            work,
            settings.chunk,
            lambda part, _, n=number: _round(critic, settings, shots, part, (out.seed, n)),  # type: ignore[misc]
            f"critique and revision {number + 1} of {settings.rounds}",
        )
        for record, step in zip(records, rounds, strict=True):
            record["rounds"].append(step)
            if step["dropped"] is None:
                record["reply"] = step["revision"]
    write(settings, records, out)


def _all_drafts(
    settings: Settings, prompts: Sequence[Dialogue], inputs: Inputs, out: Workspace
) -> list[dict[str, Any]]:
    """Drafts of all prompts. The starting model leaves memory before the critic is loaded."""
    start = open_assistant(inputs.one("start"), out.device, precision=out.precision)
    check_prompts(start, prompts)
    return out.chunks(
        "drafts", prompts, settings.chunk, lambda part, _: _drafts(start, settings, part, out.seed), "drafts"
    )


def _drafts(start: Assistant, settings: Settings, prompts: Sequence[Dialogue], seed: int) -> list[dict[str, Any]]:
    decoding = choose_decoding(own_decoding(start), settings.draft_temperature, None, None)
    with naming_prompts(d.id for d in prompts):
        replies = start.reply(
            [list(d.messages) for d in prompts],
            sampling_at(decoding, settings.draft_tokens),
            seeds=[derive_seed(seed, "draft", d.id) for d in prompts],
        )
    return [
        {
            "id": d.id,
            "topic": d.topic,
            "messages": list(d.messages),
            "draft": draft.text.strip(),
            "stop": draft.stop,
            "reply": draft.text.strip(),
            "rounds": [],
        }
        for d, (draft,) in zip(prompts, replies, strict=True)
    ]


def _round(
    critic: Assistant,
    settings: Settings,
    shots: Sequence[dict[str, Any]],
    work: Sequence[tuple[dict[str, Any], CritiquePrinciple]],
    seed: tuple[int, int],
) -> list[dict[str, Any]]:
    """One critique and one revision for each (record, principle)."""

    def say(prompts: list[Any], tokens: int, turn_kind: str) -> list[Any]:
        seeds = [derive_seed(seed[0], turn_kind, seed[1], record["id"]) for record, _ in work]
        sampling = Sampling(temperature=settings.temperature, max_tokens=tokens)
        with naming_prompts(record["id"] for record, _ in work):
            return [replies[0] for replies in critic.reply(prompts, sampling, seeds=seeds)]

    prompts = [critique_messages(r["messages"], r["reply"], p, shots) for r, p in work]
    critiques = [c.text.strip() for c in say(prompts, settings.critique_tokens, "critique")]
    prompts = [
        revision_messages(r["messages"], r["reply"], p, c, shots) for (r, p), c in zip(work, critiques, strict=True)
    ]
    revisions = say(prompts, settings.revision_tokens, "revision")
    return [
        {
            "key": principle.key,
            "critique": critique,
            "revision": revision.text.strip(),
            "dropped": fault(revision.text.strip(), record["reply"], revision.stop),
        }
        for (record, principle), critique, revision in zip(work, critiques, revisions, strict=True)
    ]
