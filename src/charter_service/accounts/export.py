"""Exports and deletion: frozen rows for audits and training, an organisation's own data, and deleted texts.

Decisions and standings hold ids, digests and numbers, and nobody's text. They are exported and stay after a deletion,
because the decisions on an account must remain provable. Words and contents are deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Select, Table, and_, select

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Metric
from charter.ground.measure.intervals import wilson
from charter.ground.text.judgments import HARMFUL, HARMLESS, Judgment, judgment_row
from charter_service.accounts.cases import UPHELD, expire_content
from charter_service.accounts.decisions import user_mark
from charter_service.accounts.feedback import DOWN, UP, expire_words
from charter_service.accounts.files import forget_files
from charter_service.accounts.keys import check_organisation
from charter_service.accounts.tables import (
    BATCH_ITEMS,
    BATCHES,
    CASES,
    DECISIONS,
    FEEDBACK,
    FILES,
    GRANTS,
    KEYS,
    MADE_ONCE,
    ORGANISATIONS,
    REQUESTS,
    STANDINGS,
    TOOL_USE,
    USAGE,
)
from charter_service.web.database import alone, reading
from charter_service.web.snapshot import Content, Frozen, Origin, freeze

SERVICE = "accounts"
CASE_ROWS, THUMBS, JUDGMENTS = "cases.jsonl", "feedback.jsonl", "judgments.jsonl"
AT_A_TIME = 1_000
SECRETS = ("digest", "former")  # columns that no export holds
# of the classifiers, as the log has it
_SAID = ("model", "side", "action", "score", "threshold", "sensitivity", "policy", "classifiers")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Numbers of deleted or emptied rows."""

    feedback: int
    cases: int
    batches: int = 0
    files: int = 0


def freeze_conduct(engine: Engine, folder: Path, content: bool = False) -> Frozen:
    """Writes the rows of `conduct_of` into a new folder.

    Raises CharterError if there are no rows, and if the folder holds something else.
    """
    origin = Origin(SERVICE, engine.url.get_backend_name(), {"content": content})
    return freeze(folder, conduct_of(engine, content), origin)


def conduct_of(engine: Engine, content: bool = False) -> Content:
    """cases.jsonl, people's verdicts on closed flags and reports beside those of the classifiers; and feedback.jsonl,
    the thumbs. With `content` also the stored texts, and judgments.jsonl, the verdicts on replies. Raises CharterError
    if there is neither case nor thumb.
    """
    with reading(engine) as connection:
        kinds = CASES.c.kind.in_(("flag", "report"))
        closed = connection.execute(
            select(CASES).where(kinds, CASES.c.closed.is_not(None)).order_by(CASES.c.created, CASES.c.id)
        ).all()
        waiting = len(connection.execute(select(CASES.c.id).where(kinds, CASES.c.closed.is_(None))).all())
        thumbs = connection.execute(select(FEEDBACK).order_by(FEEDBACK.c.created, FEEDBACK.c.id)).all()
        cases = [(dict(case._mapping), _decision_on(connection, case)) for case in closed]
    if not cases and not thumbs:
        raise CharterError("there is no feedback and no closed case to export yet; charter conduct queue lists cases")
    rows: dict[str, Sequence[Mapping[str, Any]]] = {
        CASE_ROWS: [_case_row(case, decision, content) for case, decision in cases],
        THUMBS: [_thumb_row(dict(thumb._mapping), content) for thumb in thumbs],
    }
    judged = [row for case, decision in cases if (row := _judgment_of(case, decision)) is not None]
    if content and judged:
        rows[JUDGMENTS] = judged
    flags = [case["verdict"] == UPHELD for case, _ in cases if case["kind"] == "flag"]
    counts = {
        "cases": len(cases),
        "flags": len(flags),
        "flags_upheld": sum(flags),
        "thumbs_up": sum(row["thumb"] == UP for row in rows[THUMBS]),
        "thumbs_down": sum(row["thumb"] == DOWN for row in rows[THUMBS]),
        "judgments": len(rows.get(JUDGMENTS, ())),
    }
    left_out = {"cases that wait for people": waiting}
    if not content:
        left_out["words and contents"] = sum(bool(case["words"] or case["content"]) for case, _ in cases)
    metrics = []
    if flags:
        low, high = wilson(sum(flags), len(flags))
        share = sum(flags) / len(flags)
        metrics = [Metric(name="flag_precision", version="1", value=share, low=low, high=high, n=len(flags))]
    texts = frozenset(rows) if content else frozenset[str]()
    return Content("judgments", rows, counts, left_out, metrics, restricted=texts)


def _decision_on(connection: Connection, case: Any) -> dict[str, Any]:
    """The decision about a case's request under its category, or else about the request."""
    of = and_(DECISIONS.c.request == case.request, DECISIONS.c.organisation == case.organisation)
    rows = connection.execute(
        select(DECISIONS.c.category, *(DECISIONS.c[name] for name in _SAID)).where(of).order_by(DECISIONS.c.number)
    ).all()
    row_of_category = next((row for row in rows if row.category == case.category), rows[0] if rows else None)
    return {} if row_of_category is None else {name: getattr(row_of_category, name) for name in _SAID}


def _case_row(case: Mapping[str, Any], decision: Mapping[str, Any], content: bool) -> dict[str, Any]:
    names = ("id", "kind", "organisation", "request", "category", "verdict", "created", "closed")
    row = {name: case[name] for name in names} | dict(decision)
    if "classifiers" in row:
        row["classifiers"] = json.loads(row["classifiers"])
    if content:
        case_content = json.loads(case["content"]) if case["content"] else None
        row |= {"words": case["words"], "note": case["note"] or "", "content": case_content}
    return row


def _thumb_row(thumb: Mapping[str, Any], content: bool) -> dict[str, Any]:
    names = ("id", "organisation", "request", "model", "thumb", "created", *(("words",) if content else ()))
    return {name: thumb[name] for name in names}


def _judgment_of(case: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, Any] | None:
    """A person's verdict on a reply; None if the case is about a prompt, or doesn't hold the reply."""
    case_content = json.loads(case["content"]) if case["content"] else {}
    reply = case_content.get("reply") if isinstance(case_content, dict) else None
    if not isinstance(reply, str) or not reply or (case["kind"] == "flag" and decision.get("side") != "reply"):
        return None
    verdict = HARMFUL if case["verdict"] == UPHELD else HARMLESS
    return judgment_row(
        Judgment(case["request"], 0, reply, verdict, _last_prompt(case_content.get("messages")), case["note"] or "")
    )


def _last_prompt(messages: object) -> str:
    """The last user's text of a dialogue; "" if there is none."""
    turns = [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    text = next((m.get("content") for m in reversed(turns) if m.get("role") == "user"), "")
    if isinstance(text, list):  # blocks
        return "\n".join(b["text"] for b in text if isinstance(b, dict) and isinstance(b.get("text"), str))
    return text if isinstance(text, str) else ""


def organisation_data(connection: Connection, organisation: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All data of an organisation except the digests of its keys: pairs of table name and row.

    Raises NotFound.
    """
    check_organisation(connection, organisation)
    for table, rows in _rows_of(organisation):
        for row in connection.execute(rows.execution_options(yield_per=AT_A_TIME)):
            yield table.name, {name: value for name, value in row._mapping.items() if name not in SECRETS}


def _rows_of(organisation: str) -> list[tuple[Table, Select[Any]]]:
    own_keys = select(KEYS.c.id).where(KEYS.c.organisation == organisation)
    batches = select(BATCHES.c.id).where(BATCHES.c.organisation == organisation)
    selects = [(ORGANISATIONS, select(ORGANISATIONS).where(ORGANISATIONS.c.id == organisation))]
    for table in (KEYS, DECISIONS, STANDINGS, CASES, FEEDBACK, BATCHES, GRANTS, MADE_ONCE, FILES, REQUESTS):
        selects.append((table, select(table).where(table.c.organisation == organisation)))
    for table in (USAGE, TOOL_USE):
        selects.append((table, select(table).where(table.c.key.in_(own_keys))))
    selects.append((BATCH_ITEMS, select(BATCH_ITEMS).where(BATCH_ITEMS.c.batch.in_(batches))))
    return [(table, rows.order_by(*table.primary_key.columns)) for table, rows in selects]


def forget_user(connection: Connection, organisation: str, user: str) -> Forgotten:
    """Deletes a user's stored texts, by the digest of the user's id (`metadata.user_id`): feedback on the user's
    requests, and the words, contents and notes of cases about them. Decisions stay; the organisation itself deletes
    batches."""
    if not user:
        raise CharterError("expected the digest of a user's id; got none")
    alone(connection)
    requests = select(DECISIONS.c.request).where(
        DECISIONS.c.organisation == organisation, DECISIONS.c.user == user_mark(organisation, user)
    )
    return Forgotten(
        _delete_feedback(connection, organisation, requests), _empty_cases(connection, organisation, requests)
    )


def forget_organisation(connection: Connection, organisation: str) -> Forgotten:
    """Deletes the texts of an organisation and its users: all feedback, the words, contents and notes of cases, ended
    batches, and uploaded files, whose bytes `files.clear` removes. Its keys, usage, decisions and standings stay."""
    alone(connection)
    ended = and_(BATCHES.c.organisation == organisation, BATCHES.c.state == "ended")
    return Forgotten(
        _delete_feedback(connection, organisation),
        _empty_cases(connection, organisation),
        connection.execute(BATCHES.delete().where(ended)).rowcount,
        forget_files(connection, organisation),
    )


def expire(connection: Connection, days: float, now: float) -> Forgotten:
    """Retention: empties words and contents of cases closed more than `days` ago, and words of feedback of that age."""
    alone(connection)
    return Forgotten(expire_words(connection, days, now), expire_content(connection, days, now))


def _delete_feedback(connection: Connection, organisation: str, requests: Select[Any] | None = None) -> int:
    deletion = FEEDBACK.delete().where(FEEDBACK.c.organisation == organisation)
    return connection.execute(
        deletion if requests is None else deletion.where(FEEDBACK.c.request.in_(requests))
    ).rowcount


def _empty_cases(connection: Connection, organisation: str, requests: Select[Any] | None = None) -> int:
    # the rule's words in its own cases belong to nobody
    of_organisation = and_(CASES.c.organisation == organisation, CASES.c.kind != "standing")
    emptied = CASES.update().where(of_organisation).values(words="", content="", note="", conversation="")
    return connection.execute(emptied if requests is None else emptied.where(CASES.c.request.in_(requests))).rowcount
