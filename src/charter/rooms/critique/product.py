"""The product of the room: revisions or drafts as dialogues, transcripts, and counts of what was dropped and why.

Revisions that say nothing new or are visibly broken aren't worth learning from.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.detect import is_loop
from charter.rooms.critique.settings import Settings

REASONS = ("empty", "identical", "truncated", "loop", "marker", "worse")
MARKERS = re.compile(
    r"\b(?:Critique|Revision|Human|Assistant):|\b(?:Critique|Revision)\s?Request\b"
    r"|\b(?i:(?:revised|rewritten|original) (?:reply|response|version|message|text))\b"
)
FEWEST_WORDS = 4


def fault(revision: str, before: str, stop: str) -> str | None:
    """Why a revision is dropped, or None. It is too short to be a reply, equal to the reply before, cut at the token
    limit, a loop, or contains the protocol's own markers or speaks of the revision."""
    if len(revision.split()) < FEWEST_WORDS:
        return "empty"
    if _plain(revision) == _plain(before):
        return "identical"
    if stop == "length":
        return "truncated"
    if is_loop(revision):
        return "loop"
    if MARKERS.search(revision):
        return "marker"
    return None


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()


def write(settings: Settings, records: list[dict[str, Any]], out: Workspace) -> None:
    """Write dialogues.jsonl, transcripts.jsonl and counts.json; CharterError below `keep_at_least`."""
    if not settings.rounds:
        _write_drafts(settings, records, out)
        return
    rows, why = [], Counter[str]()
    for record in records:
        for number, step in enumerate(record["rounds"], 1):
            why[step["dropped"] or "kept"] += 1
            if step["dropped"] is None:
                rows.append(_row(record, step["revision"], f"revision:{step['key']}", number))
    total = sum(why.values())
    counts: dict[str, float] = {"prompts": len(records), "revisions": total, "kept": why["kept"]}
    counts |= {f"dropped_{reason}": why[reason] for reason in REASONS}
    share = why["kept"] / total if total else 0.0
    if not rows or share < settings.keep_at_least:
        raise CharterError(
            f"the filter kept {why['kept']} of {total} revisions ({dict(why)}), keep_at_least is "
            f"{settings.keep_at_least:g}; use a stronger critic, more tokens, or lower keep_at_least"
        )
    _write(rows, records, counts | {"kept_share": share}, out)


def _write_drafts(settings: Settings, records: list[dict[str, Any]], out: Workspace) -> None:
    """Write drafts as samples of the start. Empty and looping ones are dropped, cut ones are marked."""
    rows, why = [], Counter[str]()
    for record in records:
        draft, cut = record["draft"], record["stop"] == "length"
        if is_loop(draft):
            why["loop"] += 1
        elif draft:
            why["cut"] += cut
            if settings.keep_cut or not cut:
                rows.append(_row(record, draft, "sample", 0, cut))
    if not rows:
        raise CharterError(
            f"no draft is kept: of {len(records)}, {why['loop']} loop, {why['cut']} are cut, the others are empty; "
            "use another model or more draft_tokens"
        )
    counts = {"prompts": len(records), "samples": len(rows), "cut": why["cut"], "loop": why["loop"]}
    _write(rows, records, counts, out)


def _write(
    rows: list[dict[str, Any]], records: list[dict[str, Any]], counts: Mapping[str, float], out: Workspace
) -> None:
    out.write_jsonl("dialogues.jsonl", rows, restricted=True)
    # the replies before their revision
    transcripts = [{k: v for k, v in record.items() if k != "reply"} for record in records]
    out.write_jsonl("transcripts.jsonl", transcripts, restricted=True)
    out.counts(counts, n={"kept_share": int(counts["revisions"])} if "kept_share" in counts else None)


def _row(record: dict[str, Any], reply: str, source: str, number: int, cut: bool = False) -> dict[str, Any]:
    """One dialogue; only the reply is learnt. `number` is the round, 0 for the draft. `cut`: the reply ends at the
    token limit."""
    return {
        "id": f"{record['id']}-r{number}",
        "topic": record["topic"],
        "messages": [*record["messages"], {"role": "assistant", "content": reply}],
        "source": source,
        "learn_from": len(record["messages"]),
        "meta": {"round": number} | ({"cut": True} if cut else {}),
    }
