"""Critique and revision, the data of SL-CAI (Bai 2022b, section 3).

The starting helpful-only model drafts; then, for each round, a critique/revision principle is drawn at random,
the critic says what is wrong with the reply under that principle, and rewrites it. With several candidates a labeller
keeps the best. Whole transcripts are kept.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.constitution.constitution import ComparisonPrinciple, draw, load
from charter.ground.generate.assistant import Assistant, check_prompts, open_assistant, own_decoding
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import sampling_at
from charter.ground.judge.choice import Labeller, open_labeller
from charter.ground.model.generation import choose_decoding
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.examples import read_transcripts
from charter.ground.text.records import read_prompts
from charter.rooms.critique import candidates
from charter.rooms.critique.product import write
from charter.rooms.critique.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: dialogues.jsonl (prompt and kept revision, all rounds), transcripts.jsonl, counts.json."""
    constitution = load(inputs.one("constitution").folder)
    principles = constitution.critiques_of(settings.principle_set, settings.tags)
    shots = read_transcripts(inputs.one("shots").folder)[: settings.shots]
    prompts = read_prompts([s.folder for s in inputs.many("prompts")], settings.limit, settings.draw_seed)

    records = _all_drafts(settings, prompts, inputs, out)
    if not settings.rounds:
        write(settings, records, out)
        return
    critic = open_assistant(inputs.one("critic"), out.device, precision=out.precision)
    judged = None
    if (source := inputs.optional("labeller")) is not None:
        labeller = open_labeller(source, out.device, out.precision)
        judged = labeller, constitution.comparisons_of(settings.principle_set, settings.tags)
    by_key = {p.key: p for p in principles}
    for number in range(settings.rounds):
        keys = [
            draw(principles, random.Random(derive_seed(out.seed, "principle", number, r["id"])))[0].key for r in records
        ]
        work = [(r, [by_key[k] for k in _with_kept(r, key)]) for r, key in zip(records, keys, strict=True)]
        rounds = out.chunks(
            f"round-{number}",
            work,
            settings.chunk,
            lambda part, _, n=number: _round(critic, judged, settings, shots, part, (out.seed, n)),  # type: ignore[misc]
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
    judged: tuple[Labeller, Sequence[ComparisonPrinciple]] | None,
    settings: Settings,
    shots: Sequence[dict[str, Any]],
    work: candidates.Work,
    seed: tuple[int, int],
) -> list[dict[str, Any]]:
    """The step of each record: the only candidate, or the one that the labeller keeps."""
    made = candidates.make(critic, settings, shots, work, seed)
    if judged:
        candidates.judge(judged[0], work, made, judged[1])
    return [candidates.keep(drawn[-1].key, found) for (_, drawn), found in zip(work, made, strict=True)]


def _with_kept(record: dict[str, Any], drawn: str) -> list[str]:
    """The principles of the kept rounds, and last the drawn one."""
    kept = dict.fromkeys(step["key"] for step in record["rounds"] if step["dropped"] is None)
    return [*(key for key in kept if key != drawn), drawn]
