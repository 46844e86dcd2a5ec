"""The samples behind a score, one record each, in the format of Every Eval Ever.

A metric is a ratio of sums over rows. If it is the mean of what single rows give, each row's own number is its
record's score. If it isn't (a rate of prompts with any harm, distinct words among samples), there are no records. The
text of a reply is written if the report keeps it, and never made up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from charter.ground.artifact.recount import same
from charter.ground.measure.metric import Metric
from charter.rooms.card.artifact import Artifact
from charter.rooms.card.number import SHARE, Number

SAID_OF_A_ROW = ("sample", "topic", "group", "axis", "mode", "choice", "outcome", "stop")
NOT_ASKED = ("too long", "environment failed")


def instances(
    report: Artifact, metric: Metric, number: Number, name: str, key: str
) -> Iterator[dict[str, Any]]:
    """Records of one score, without the keys that all records of a report share. None unless the score is a share of
    right or wrong answers."""
    table = metric.table
    if number.unit != SHARE or metric.better == "neither" or table is None:
        return
    tables = [(row, table([row])) for row in report.rows(f"samples/{metric.file}")]
    scores = [(row, t.value) for row, t in tables if t.den.sum() > 0]
    equal = len({float(t.den.sum()) for _, t in tables} - {0.0}) == 1
    if not equal or not same(sum(score for _, score in scores) / len(scores), number.value):
        return
    for row, score in scores:
        yield {
            "evaluation_name": name,
            "evaluation_result_id": f"{key}#{metric.name}",
            "sample_id": str(row.get("item") or row["id"]),
            **_describe_exchange(row),
            "answer_attribution": [],
            "evaluation": {
                "score": score,
                "is_correct": score > 0.5 if metric.better == "higher" else score < 0.5,
                **_turns(row),
            },
            "metadata": {key: str(row[key]) for key in SAID_OF_A_ROW if row.get(key) not in (None, "")},
        }


def _turns(row: dict[str, Any]) -> dict[str, int]:
    messages = _dialogue(row)
    return {"num_turns": sum(m["role"] == "assistant" for m in messages)} if messages else {}


def _describe_exchange(row: dict[str, Any]) -> dict[str, Any]:
    """Question and answer of a row: one exchange, or the messages of a longer dialogue."""
    prompt, options = str(row.get("prompt") or row.get("question") or ""), row.get("options") or []
    written = row.get("accepted", [row["reference"]] if "reference" in row else [])
    right = [options[place] for place in row.get("right", ())] if options else list(written)
    question = {"raw": prompt, "reference": right}
    record: dict[str, Any] = {"input": question | ({"choices": options} if options else {})}
    if prompt:
        record["sample_hash"] = _digest(question)
    if row.get("outcome") in NOT_ASKED:
        record["error"] = row["outcome"]
    if messages := _dialogue(row):
        turns = [{"turn_idx": i, "role": m["role"], "content": m["content"]} for i, m in enumerate(messages)]
        return record | {"interaction_type": "multi_turn", "output": None, "messages": turns}
    replies = [row["reply"]] if "reply" in row else []
    return record | {"interaction_type": "single_turn", "output": {"raw": replies}}


def _dialogue(row: dict[str, Any]) -> list[dict[str, str]]:
    """All messages with the reply, if the dialogue has more than one user turn; else none."""
    messages = row.get("messages") or []
    if "reply" not in row or sum(m["role"] == "user" for m in messages) < 2:
        return []
    return [*messages, {"role": "assistant", "content": row["reply"]}]


def _digest(question: dict[str, Any]) -> str:
    """The format's own hash of a question: sorted keys, no white space."""
    return hashlib.sha256(json.dumps(question, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
