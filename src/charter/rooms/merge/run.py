"""A threshold of refusing, set by weights alone: the line through a start and a policy that learnt from it.

Finetuning shifts how sure a model must be before it refuses, and each seed shifts it differently. Between the two
checkpoints refusals rise with the policy's share, so a place on the line is a point on the curve of unsafe over
harmless refusals. It is chosen on prompts with known labels, at the policy's own decoding.

Source: Wortsman 2022 (2109.01903), equation 1, goes between a start and its finetuning; Rame 2024 (2406.16768),
stage 3, between the start of RL and its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import SLOTS, LocalAssistant, check_prompts
from charter.ground.generate.engine import Engine, naming_prompts
from charter.ground.generate.sampling import sampling_at
from charter.ground.judge.detect import is_refusal
from charter.ground.measure.selection import REPLIES
from charter.ground.model.checkpoint import save_policy
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.records import check_distinct, read_prompts
from charter.ground.text.template import Template
from charter.rooms.merge.line import Line, Place, choose
from charter.rooms.merge.settings import Settings

GROUPS = ("prompts", "harmless")
Row = dict[str, Any]


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a policy checkpoint; log.jsonl (one line per place), samples/replies.jsonl, counts.json."""
    grouped = [
        (group, prompt)
        for group in GROUPS
        for prompt in read_prompts([source.folder for source in inputs.many(group)], 0, 0)
    ]
    check_distinct("prompts and harmless together", (prompt.id for _, prompt in grouped))
    start, policy = (checkpoint_folder(inputs.one(role)) for role in ("start", "policy"))
    line = Line(start, policy, out.device, out.precision)
    check_prompts(_assistant(line), [prompt for _, prompt in grouped])
    rows: list[Row] = []
    places: list[Place] = []
    out.log_truncate(0)
    for share in sorted(set(settings.shares)):
        line.move(share)
        replies = _answer(line, share, grouped, settings, out)
        rows += replies
        place = Place(share, *(_rate(_flags(replies, group)) for group in GROUPS))
        out.log(step=len(places), **asdict(place))
        places.append(place)
    best = choose(places, settings.most_refusal)
    if best.refused_harmless > settings.most_refusal:
        out.note(
            f"{out.step}: no place refuses at most {settings.most_refusal:g} of the harmless prompts; share "
            f"{best.share:g} refuses fewest, {best.refused_harmless:.3f}; try smaller shares"
        )
    line.move(best.share)
    save_policy(line.model, line.tokenizer, out.path)
    out.write_jsonl(f"samples/{REPLIES}", rows)
    _record(best, rows, out)


def _assistant(line: Line) -> LocalAssistant:
    """An assistant on the model at its present place."""
    template = Template(line.tokenizer, line.tokenizer.template)
    return LocalAssistant(Engine(line.model, line.tokenizer, SLOTS, ends=[template.end_id]), template)


def _answer(
    line: Line, share: float, grouped: Sequence[tuple[str, Dialogue]], settings: Settings, out: Workspace
) -> list[Row]:
    """One reply to each prompt by the model at its present place; a prompt has the same seed at every place."""
    assistant = _assistant(line)
    sampling = sampling_at(assistant.decoding, settings.max_tokens)

    def produce(part: Sequence[tuple[str, Dialogue]], _: int) -> list[Row]:
        with naming_prompts(prompt.id for _, prompt in part):
            replies = assistant.reply(
                [list(prompt.messages) for _, prompt in part],
                sampling,
                seeds=[derive_seed(out.seed, "reply", prompt.id) for _, prompt in part],
            )
        return [
            _row(share, group, prompt, reply.text.strip())
            for (group, prompt), (reply,) in zip(part, replies, strict=True)
        ]

    return out.chunks(f"share-{share:g}", grouped, settings.chunk, produce, f"replies at share {share:g}")


def _row(share: float, group: str, prompt: Dialogue, text: str) -> Row:
    return {"id": prompt.id, "asked": group, "share": share, "reply": text, "refused": is_refusal(text)}


def _flags(rows: Sequence[Row], group: str) -> list[bool]:
    """Whether each reply to a group of prompts refuses."""
    return [bool(row["refused"]) for row in rows if row["asked"] == group]


def _rate(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)


def _record(place: Place, rows: Sequence[Row], out: Workspace) -> None:
    place_rows = [row for row in rows if row["share"] == place.share]
    counts: dict[str, float] = {"share": place.share}
    for group in GROUPS:
        flags = _flags(place_rows, group)
        counts |= {group: len(flags), f"refused_{group}": sum(flags), f"refused_{group}_rate": _rate(flags)}
    out.counts(counts, n={f"refused_{group}_rate": int(counts[group]) for group in GROUPS})
