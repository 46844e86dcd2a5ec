"""What a person says of a reply: a thumb with words, a report, and an appeal if it was stopped by the policy."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, update
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from charter_service.chat.branches import REFUSED, Message, branch, message_of
from charter_service.chat.letters import kept
from charter_service.chat.site import Visit, done
from charter_service.people.tables import MESSAGES
from charter_service.web.database import reading, writing
from charter_service.web.refusal import Refusal, Stale

MOST_WORDS = 4000


async def thumb(visit: Visit) -> Response:
    """A thumb on a reply, with words and a report if the person wants people to look at it."""
    one = await run_in_threadpool(_message, visit)
    up = visit.form.text("thumb") == "up"
    if not one.request:
        raise Refusal("no request of the model's server belongs to this reply, so there is nobody to tell")
    reports = visit.form.text("content") == "yes"
    if up and reports:
        raise Refusal("a report says that a reply is bad; send it with Bad, or without the report")
    body: dict[str, Any] = {"request_id": one.request, "thumb": "up" if up else "down"}
    if words := kept(visit.form.text("words"))[:MOST_WORDS].strip():
        body["words"] = words
    if not up:
        body["category"] = visit.form.text("category")[:64]
        if reports:
            body["content"] = await run_in_threadpool(_said, visit, one.id)
    await visit.service.api.ask("POST", "/v1/feedback", body)
    await run_in_threadpool(_note, visit, one.id, thumb=body["thumb"])
    return done(visit, f"/c/{one.chat}#m-{one.id}", thumb=body["thumb"])


async def appeal(visit: Visit) -> Response:
    """Asks people to look at a stop."""
    one = await run_in_threadpool(_message, visit)
    words = kept(visit.form.text("words"))[:MOST_WORDS].strip()
    if one.state != REFUSED or not one.request:
        raise Refusal("this reply wasn't stopped by the policy, so there is nothing to appeal")
    if not words:
        raise Refusal("say in a few words why; nothing was sent")
    if not await run_in_threadpool(_note, visit, one.id, ~MESSAGES.c.appealed, appealed=True):
        raise Stale("you have appealed this already; people decide about it")
    body: dict[str, Any] = {"request_id": one.request, "words": words}
    if visit.form.text("content") == "yes":
        body["content"] = await run_in_threadpool(_said, visit, one.id)
    try:
        await visit.service.api.ask("POST", "/v1/appeals", body)
    except BaseException:
        # nobody was told, so that the person may try again
        await run_in_threadpool(_note, visit, one.id, appealed=False)
        raise
    return done(visit, f"/c/{one.chat}#m-{one.id}", appealed=True)


def _said(visit: Visit, id: str) -> dict[str, Any]:
    """What was said up to a reply, as people who look at a report see it."""
    with reading(visit.service.database) as connection:
        line = branch(connection, id)
    return {"messages": [{"role": one.role, "content": one.text} for one in line]}


def _note(visit: Visit, id: str, *only: ColumnElement[bool], **values: Any) -> bool:
    """Changes a message's row, if conditions hold; returns whether they did."""
    with writing(visit.service.database) as connection:
        changed = connection.execute(update(MESSAGES).where(MESSAGES.c.id == id, *only).values(**values))
        return bool(changed.rowcount)


def _message(visit: Visit) -> Message:
    with reading(visit.service.database) as connection:
        return message_of(connection, visit.person, visit.id)
