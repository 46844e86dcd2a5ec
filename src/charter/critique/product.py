"""The product of the room: kept revisions as dialogues, whole transcripts, and counts of what was dropped and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

from charter.critique.filter import REASONS
from charter.critique.settings import Settings
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.workspace import Workspace


def write(settings: Settings, records: list[dict[str, Any]], out: Workspace) -> None:
    """Write dialogues.jsonl, transcripts.jsonl and counts.json; CharterError below `keep_at_least`."""
    if not settings.rounds:
        drafts = [_row(r, r["draft"].strip(), "sample", 0) for r in records if r["draft"].strip()]
        if not drafts:
            raise CharterError(f"all {len(records)} drafts are empty; use another model or more draft_tokens")
        _write(drafts, records, {"prompts": len(records), "samples": len(drafts)}, out)
        return
    rows, why = [], Counter[str]()
    for record in records:
        for number, made in enumerate(record["rounds"], 1):
            why[made["dropped"] or "kept"] += 1
            if made["dropped"] is None:
                rows.append(_row(record, made["revision"], f"revision:{made['key']}", number))
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


def _write(
    rows: list[dict[str, Any]], records: list[dict[str, Any]], counts: dict[str, float], out: Workspace
) -> None:
    out.write_jsonl("dialogues.jsonl", rows)
    out.write_jsonl("transcripts.jsonl", [{k: v for k, v in r.items() if k != "reply"} for r in records])
    out.write_json("counts.json", counts)
    for name, value in counts.items():
        out.metric(name, value, n=int(counts["revisions"]) if name == "kept_share" else None)


def _row(record: dict[str, Any], reply: str, source: str, number: int) -> dict[str, Any]:
    """One dialogue of which the reply alone is learnt; `number` counts rounds, 0 is the draft."""
    return {
        "id": f"{record['id']}-r{number}",
        "topic": record["topic"],
        "messages": [*record["messages"], {"role": "assistant", "content": reply}],
        "source": source,
        "learn_from": len(record["messages"]),
        "meta": {"round": number},
    }
