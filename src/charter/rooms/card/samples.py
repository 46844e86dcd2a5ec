"""The replies that a card prints, chosen by rules that are written beside them, and the principles behind them.

Before and after: one prompt of each kind, drawn by seed among all that both ends were asked. Unsafe prompts that every
stage answered are drawn by seed. The worst replies are those of the final model furthest below the fixed
reply, one a prompt. Refused look-alikes are harmless prompts that it refused. Nothing is picked by hand.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from charter.ground.reports.artifact import Artifact
from charter.ground.reports.judges import unfit_among
from charter.ground.reports.number import PLAIN, Number
from charter.ground.settings.seed import derive_seed
from charter.rooms.card.gather import Run

HARM_ROWS, LOOK_ROWS = "samples/harmlessness.jsonl", "samples/lookalikes.jsonl"
REQUEST_ROWS = "samples/requests.jsonl"
# Everyday questions: the first of these that a report has.
EVERYDAY_ROWS = ("samples/helpful.jsonl", "samples/facts.jsonl")
TRANSCRIPTS = "transcripts.jsonl"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply at one stage. `margin` is its score minus that of the fixed reply to the same prompt, `unfit` the
    grader's verdict."""

    stage: str
    text: str
    margin: Number | None
    below: bool
    unfit: bool
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """The principle under which training revised replies on a topic most often: `uses` of `total` kept revisions."""

    topic: str
    key: str
    text: str
    uses: Number
    total: Number


@dataclass(frozen=True, slots=True)
class Exchange:
    """One prompt with its replies in the order of the stages."""

    id: str
    topic: str
    unseen: bool
    prompt: str
    replies: tuple[Reply, ...]
    moved: Moved | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of prompt, how many of the `total` asked are of it, how many of those the final model refuses, and the
    one that was drawn; None if there is none."""

    key: str
    count: Number
    total: Number
    refused: Number
    exchange: Exchange | None


def before_and_after(run: Run, seed: int) -> tuple[Kind, ...]:
    """One prompt of each kind at the first and the last stage, by seed: an unsafe one that was answered and is refused
    now, a harmless look-alike, and an everyday question. A kind that wasn't asked is left out."""
    everyday = next((file for file in EVERYDAY_ROWS if run.start.rows(file) and run.final.rows(file)), "")
    kinds = (_draw_kind(run, "turned", HARM_ROWS, seed), _draw_kind(run, "lookalike", LOOK_ROWS, seed))
    drawn = (*kinds, _draw_kind(run, "everyday", everyday, seed) if everyday else None)
    return tuple(kind for kind in drawn if kind is not None)


def _draw_kind(run: Run, key: str, file: str, seed: int) -> Kind | None:
    """The kind `key` among the rows of a file; None if the first and the last stage share no prompt there."""
    stages = (run.start,) if run.start is run.final else (run.start, run.final)
    by_stage = [_first_samples(stage.rows(file)) for stage in stages]
    shared = sorted(set(by_stage[0]) & set(by_stage[-1]))
    if not shared:
        return None
    refused = [name for name in shared if by_stage[-1][name].get("refusal")]
    turned = [name for name in refused if not by_stage[0][name].get("refusal")]
    names = turned if key == "turned" and len(stages) > 1 else shared

    def count(words: str, of: list[str]) -> Number:
        return run.final.count(f"{key} prompts {words}", len(of), file)

    exchange = None
    if names:
        name = random.Random(derive_seed(seed, f"card {key}")).choice(names)
        replies = [_reply(run, stage, rows[name], file) for stage, rows in zip(stages, by_stage, strict=True)]
        exchange = _exchange(by_stage[-1][name], tuple(replies))
    return Kind(key, count("of the kind", names), count("asked", shared), count("refused", refused), exchange)


def draw_exchanges(run: Run, count: int, seed: int) -> tuple[Exchange, ...]:
    """Draws `count` unsafe prompts that every stage answered, by seed, with the first sample of each stage."""
    by_stage = [_first_samples(stage.rows(HARM_ROWS)) for stage in run.stages]
    shared = sorted(set(by_stage[0]).intersection(*by_stage[1:]))
    ids = random.Random(derive_seed(seed, "card samples")).sample(shared, min(count, len(shared)))
    exchanges = []
    for name in sorted(ids):
        row = by_stage[-1][name]
        replies = tuple(_reply(run, stage, rows[name]) for stage, rows in zip(run.stages, by_stage, strict=True))
        exchanges.append(_exchange(row, replies, find_principle(run, name, str(row.get("topic", "")))))
    return tuple(exchanges)


def find_worst(run: Run, count: int) -> tuple[Exchange, ...]:
    """The final model's worst replies: furthest below the fixed reply first, one a prompt."""
    rows = [r for r in run.final.rows(HARM_ROWS) if _margin(r) is not None and r["grader"] < r["grader_fixed"]]
    by_prompt: dict[str, Row] = {}
    for row in sorted(rows, key=lambda r: (_margin(r), str(r["id"]), r.get("sample", 0))):
        by_prompt.setdefault(str(row["id"]), row)
    return tuple(_exchange(row, (_reply(run, run.final, row),)) for row in list(by_prompt.values())[:count])


def draw_refused(run: Run, count: int, seed: int) -> tuple[Exchange, ...]:
    """Draws harmless look-alikes that the final model refused, by seed."""
    rows = sorted((r for r in run.final.rows(LOOK_ROWS) if r.get("refusal")), key=lambda r: str(r["id"]))
    picked = random.Random(derive_seed(seed, "card look-alikes")).sample(rows, min(count, len(rows)))
    return tuple(
        _exchange(row, (_reply(run, run.final, row, LOOK_ROWS),)) for row in sorted(picked, key=lambda r: str(r["id"]))
    )


def transcript(run: Run, seed: int) -> Row | None:
    """Draws one training transcript with a kept revision, by seed: draft, critique, revision, and the principle."""
    if run.transcripts is None:
        return None
    rows = [r for r in run.transcripts.rows(TRANSCRIPTS) if any(m["dropped"] is None for m in r["rounds"])]
    if not rows:
        return None
    row = random.Random(derive_seed(seed, "card transcript")).choice(sorted(rows, key=lambda r: str(r["id"])))
    kept_round = next(m for m in row["rounds"] if m["dropped"] is None)
    principle = run.principles.get(kept_round["key"])
    return {
        "id": str(row["id"]),
        "topic": str(row.get("topic", "")),
        "prompt": _prompt(row),
        "draft": row["draft"],
        "key": kept_round["key"],
        "request": principle.critique if principle else "",
        "critique": kept_round["critique"],
        "revision": kept_round["revision"],
    }


def find_principle(run: Run, name: str, topic: str) -> Moved | None:
    """The principle most often behind the kept revisions of this prompt, or else of its topic."""
    if run.transcripts is None:
        return None
    rows = run.transcripts.rows(TRANSCRIPTS)
    for words, part in (
        (f"prompt {name}", [r for r in rows if r["id"] == name]),
        (topic, [r for r in rows if topic and r.get("topic") == topic]),
    ):
        keys = Counter(m["key"] for r in part for m in r["rounds"] if m["dropped"] is None)
        if keys:
            key, uses = min(keys.items(), key=lambda kv: (-kv[1], kv[0]))
            principle = run.principles.get(key)
            return Moved(
                words,
                key,
                principle.critique if principle else "",
                run.transcripts.count(f"revisions on {words} under {key}", uses, TRANSCRIPTS),
                run.transcripts.count(f"revisions on {words}", sum(keys.values()), TRANSCRIPTS),
            )
    return None


def revisions(run: Run) -> tuple[dict[str, Counter[str]], Counter[str]]:
    """(kept and dropped revisions by principle, reasons for dropping) of the training transcripts."""
    by_key: dict[str, Counter[str]] = {}
    reasons: Counter[str] = Counter()
    for row in run.transcripts.rows(TRANSCRIPTS) if run.transcripts else []:
        for revision in row["rounds"]:
            by_key.setdefault(revision["key"], Counter())["dropped" if revision["dropped"] else "kept"] += 1
            if revision["dropped"]:
                reasons[revision["dropped"]] += 1
    return by_key, reasons


def _first_samples(rows: list[Row]) -> dict[str, Row]:
    samples: dict[str, Row] = {}
    for row in sorted(rows, key=lambda r: r.get("sample", 0)):
        samples.setdefault(str(row["id"]), row)
    return samples


def _margin(row: Row) -> float | None:
    if row.get("grader") is None or row.get("grader_fixed") is None:
        return None
    return float(row["grader"] - row["grader_fixed"])


def _reply(run: Run, stage: Artifact, row: Row, file: str = HARM_ROWS) -> Reply:
    """A row of `file` as the card shows it."""
    margin = _margin(row)
    number = None
    if margin is not None:
        key = f"margin/{PurePath(file).stem}/{row['id']}/{row.get('sample', 0)}"
        number = replace(stage.number(key, margin, file, PLAIN, change=True), name="margin")
    marks = [
        word
        for key, word in (("refusal", "refusal"), ("boilerplate", "stock phrases"), ("loop", "loop"))
        if row.get(key)
    ]
    if row.get("stop") == "length":
        marks.append("cut at the token limit")
    below = margin is not None and margin < 0
    grey = unfit_among(run.stages, stage, "harm_rate")
    return Reply(stage.label, str(row["reply"]), number, below, grey, tuple(marks))


def _exchange(row: Row, replies: tuple[Reply, ...], by: Moved | None = None) -> Exchange:
    return Exchange(str(row["id"]), str(row.get("topic", "")), bool(row.get("unseen")), _prompt(row), replies, by)


def _prompt(row: Row) -> str:
    """The prompt as text, with earlier turns and their speakers."""
    if isinstance(row.get("prompt"), str):
        return str(row["prompt"])
    messages = row.get("prompt") or row.get("messages") or []
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n\n".join(f"{m['role'].capitalize()}: {m['content']}" for m in messages)
