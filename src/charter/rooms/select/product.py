"""The product of the room: the kept replies as dialogues, every reply with its scores, and counts by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import fsum
from statistics import pstdev
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.workspace import Workspace
from charter.ground.measure.reporting import record
from charter.ground.measure.selection import OF_SELECTION, ORIGINS, REASONS, REPLIES, SELECTED
from charter.ground.text.dialogue import Dialogue, assistant
from charter.ground.text.records import dialogue_row
from charter.rooms.select.choice import Choice, kl_bound, rank_of
from charter.rooms.select.grading import Grades
from charter.rooms.select.replies import PROMPT_ROLES, Pool
from charter.rooms.select.settings import Settings

Row = dict[str, Any]
Judged = tuple[Pool, Grades | None, Choice]


def write(settings: Settings, judged: Sequence[Judged], unmatched_candidates: int, out: Workspace) -> None:
    """Write dialogues.jsonl, both sample files and counts.json. Raises CharterError below `keep_at_least`."""
    replies = [row for entry in judged for row in _replies(*entry)]
    selected = [_selection_row(settings, *entry) for entry in judged]
    counts = count_replies(replies, selected)
    _check(settings, counts, selected)
    if settings.k and settings.keep == 1 and replies and replies[0]["score"] is not None:
        counts["kl_bound"] = kl_bound(settings)
    if any(row["origin"] == "candidate" for row in replies) or unmatched_candidates:
        counts["elsewhere"] = unmatched_candidates
    # prompts may be harmful, and nobody has read the replies
    dialogues = [dialogue_row(d) for entry in judged for d in _dialogues(*entry)]
    out.write_jsonl("dialogues.jsonl", dialogues, restricted=True)
    out.write_jsonl(f"samples/{REPLIES}", replies, restricted=True)
    out.write_jsonl(f"samples/{SELECTED}", selected, restricted=True)
    out.counts(counts, units={"kl_bound": "nats"})
    record(out, OF_SELECTION)


def count_replies(replies: Sequence[Row], selected: Sequence[Row]) -> dict[str, float]:
    """Counts of replies by reason, and the shares that pass and are kept, in total and by origin."""
    counts: dict[str, float] = {role: sum(row["asked"] == role for row in selected) for role in PROMPT_ROLES}
    counts |= _of(replies, "")
    for origin in ORIGINS:
        if rows := [row for row in replies if row["origin"] == origin]:
            counts |= _of(rows, f"{origin}_")
    return counts


def _of(rows: Sequence[Row], start: str) -> dict[str, float]:
    why = Counter(row["dropped"] for row in rows)
    kept_count = sum(row["kept"] for row in rows)
    counts = {"replies": len(rows), "passed": why[None], "kept": kept_count}
    counts |= {f"dropped_{reason}": why[reason] for reason in REASONS}
    shares = {"passed_share": why[None] / max(1, len(rows)), "kept_share": kept_count / max(1, len(rows))}
    return {f"{start}{name}": value for name, value in (counts | shares).items()}


def _check(settings: Settings, counts: dict[str, float], selected: Sequence[Row]) -> None:
    served = sum(row["kept"] > 0 for row in selected)
    least = settings.filters.keep_at_least
    if not served or served < least * len(selected):
        why = {reason: n for reason in REASONS if (n := int(counts[f"dropped_{reason}"]))}
        raise CharterError(
            f"{served} of {len(selected)} prompts get a reply that passes the filters, keep_at_least is {least:g} "
            f"(replies dropped: {why}); raise k or max_tokens, loosen the filters, or use another model"
        )


def _replies(pool: Pool, grades: Grades | None, choice: Choice) -> Iterator[Row]:
    """One row per reply, with its grades and the decision."""
    for place, reply in enumerate(pool.replies):
        yield {
            "id": pool.prompt.id,
            "name": reply.name,
            "asked": pool.role,
            "origin": reply.origin,
            "source": reply.source,
            "reply": reply.text,
            "cut": reply.cut,
            "shortened": reply.shortened,
            "scores": [] if grades is None else [scores[place] for scores in grades.raw],
            "score": None if grades is None else grades.scores[place],
            "above_fixed": None if grades is None else grades.above_fixed[place],
            "above_draft": None if grades is None or not grades.above_draft else grades.above_draft[place],
            "rank": None if grades is None else rank_of(grades.scores, place),
            "dropped": choice.dropped[place],
            "kept": place in choice.kept,
        }


def _selection_row(settings: Settings, pool: Pool, grades: Grades | None, choice: Choice) -> Row:
    """One row per prompt: scores of its replies, and the standing of the first kept one."""
    row: Row = {
        "id": pool.prompt.id,
        "topic": pool.prompt.topic,
        "asked": pool.role,
        "k": settings.k,
        "replies": len(pool.replies),
        "passed": sum(why is None for why in choice.dropped),
        "kept": len(choice.kept),
        "served": bool(choice.kept),
        "taken": pool.replies[choice.kept[0]].name if choice.kept else None,
    }
    return row | _standing(grades, choice)


def _standing(grades: Grades | None, choice: Choice) -> Row:
    """Scores of a prompt in standard deviations over the run; None without scores."""
    names = ("best", "mean", "spread", "fixed", "score", "rank", "gain")
    if grades is None or not grades.scores:
        return dict.fromkeys(names)
    mean = fsum(grades.scores) / len(grades.scores)
    first = choice.kept[0] if choice.kept else None
    score = None if first is None else grades.scores[first]
    rank = None if first is None else rank_of(grades.scores, first)
    gain = None if score is None else score - mean
    values = (max(grades.scores), mean, pstdev(grades.scores), grades.fixed, score, rank, gain)
    return dict(zip(names, values, strict=True))


def _dialogues(pool: Pool, grades: Grades | None, choice: Choice) -> Iterator[Dialogue]:
    """The kept replies after their prompt; only the reply is learnt."""
    for place in choice.kept:
        reply = pool.replies[place]
        meta: Row = {**reply.meta, "asked": pool.role}
        for name in ("cut", "shortened"):
            meta.pop(name, None)
            if getattr(reply, name):
                meta[name] = True
        if grades is not None:
            meta |= {"score": grades.scores[place], "rank": rank_of(grades.scores, place)}
        yield Dialogue(
            f"{pool.prompt.id}-{reply.name}",
            (*pool.prompt.messages, assistant(reply.text)),
            pool.prompt.topic,
            reply.source,
            meta=meta,
            learn_from=len(pool.prompt.messages),
        )
