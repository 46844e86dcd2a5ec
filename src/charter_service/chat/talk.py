"""The pages of chats, and what a person does in them: ask, stop, try again, edit, choose a branch, switch tools; and
what a person says of a reply: a thumb with words, a report, and an appeal if it was stopped by the policy."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, update
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from charter_service.chat import tree
from charter_service.chat.attached import attach, files_of, give_copies
from charter_service.chat.branches import (
    NO_MESSAGE,
    REFUSED,
    Chat,
    Message,
    branch,
    chat_of,
    fitting,
    later_than,
    length_of,
    list_chats,
    message_of,
)
from charter_service.chat.files import draft_of, new_draft, save_new
from charter_service.chat.letters import storable_text
from charter_service.chat.reply_options import settings_in
from charter_service.chat.site import Visit, articles, done, number_in, number_of, show
from charter_service.chat.storage import check_room
from charter_service.chat.tool_calls import check_names, chosen_in, switch_on
from charter_service.people.tables import CHAT_TOOLS, MESSAGES
from charter_service.people.workers import lock
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal, Stale

SHOWN = 50  # messages of a page
MOST_SHOWN = 1000
AROUND = 10  # messages shown after the one that somebody looks for
LONGEST_PAGE = 1_000_000  # characters of all messages of a page
PING_SECONDS = 15
RUNNING_AT_ONCE = 4  # replies of one person
MOST_STREAMS = 20  # of events, for one person
_CLIENT = re.compile(r"[\w-]{1,64}")
MOST_WORDS = 4000


def home(visit: Visit) -> HTMLResponse:
    """A page to begin a chat."""
    with reading(visit.service.database) as connection:
        draft = new_draft(connection, visit.person)
    return show(
        visit,
        "talk",
        "New chat",
        chat=None,
        messages=(),
        earlier=0,
        past=False,
        draft=draft,
        drafted=draft_of(visit),
        notice="",
    )


def talk(visit: Visit) -> HTMLResponse:
    """The newest messages of a chat, or those up to the message that `to` names; `most` shows more of them."""
    most = min(MOST_SHOWN, number_in(visit, "most") or SHOWN)
    with reading(visit.service.database) as connection:
        chat = chat_of(connection, visit.person, visit.id)
        end = _end(connection, visit, chat)
        messages = branch(connection, end, fitting(connection, end, most, LONGEST_PAGE))
        earlier = length_of(connection, end) - len(messages)
        later = later_than(connection, chat.leaf, end, SHOWN) if end != chat.leaf else []
        tool_names = chosen_in(connection, chat.id)
    html = articles(visit, messages)
    return show(
        visit,
        "talk",
        chat.title,
        chat=chat,
        messages=html,
        last=messages[-1] if messages else None,
        earlier=earlier,
        earlier_place=_before(messages, end if end != chat.leaf else "", most) if earlier else "",
        past=end != chat.leaf,
        later_place=f"?to={later[-1]}#m-{later[0]}" if later else "",
        draft=chat.draft,
        look=number_in(visit, "look") + 1,
        chosen=tool_names,
        drafted=draft_of(visit),
        notice="",
    )


def _end(connection: Connection, visit: Visit, chat: Chat) -> str:
    """The last message of a page: the newest one, or the one that `to` names."""
    if not (to := visit.request.query_params.get("to", "")):
        return chat.leaf
    message = message_of(connection, visit.person, to)
    if message.chat != chat.id:
        raise NotFound(NO_MESSAGE)
    return message.id


def _before(messages: Sequence[Message], to: str, most: int) -> str:
    """Where messages before those of a page are shown: on the same page, or on one that ends with them."""
    first, last = messages[0], messages[-1]
    if len(messages) < most or most >= MOST_SHOWN:
        return f"?to={first.parent}#m-{first.parent}"
    end = f"&to={to}" if to else ""
    return f"?most={min(MOST_SHOWN, most + 4 * SHOWN)}{end}#m-{last.id}"


def part(visit: Visit) -> HTMLResponse:
    """One message as the page shows it, for a page that is open."""
    return HTMLResponse(_alone(visit)[1])


def edit_form(visit: Visit) -> HTMLResponse:
    """A message with the form to edit it."""
    return _unfolded(visit, "edit", "Edit a message")


def rate_form(visit: Visit) -> HTMLResponse:
    """A reply with the form to say what was good or bad."""
    return _unfolded(visit, "rate", "Rate a reply")


def appeal_form(visit: Visit) -> HTMLResponse:
    """A stopped reply with the form to appeal."""
    return _unfolded(visit, "appeal", "Appeal")


def _unfolded(visit: Visit, form: str, title: str) -> HTMLResponse:
    """A page of one message with an open form, which a script puts into the page of the chat."""
    message, html = _alone(visit, form)
    return show(visit, "unfolded", title, shown=html, chat=message.chat, message=message.id)


def _alone(visit: Visit, unfolded: str = "") -> tuple[Message, str]:
    """One message, and its HTML."""
    with reading(visit.service.database) as connection:
        message = branch(connection, message_of(connection, visit.person, visit.id).id, 1)[0]
    return message, articles(visit, [message], unfolded)[0]


def begin(visit: Visit) -> Response:
    """A new chat with its first message."""
    model, tools = model_of(visit, visit.form.text("model")), visit.form.many("tool")
    check_names(tools, visit.service.tools)
    settings = settings_in(visit.form)
    with writing(visit.service.database) as connection:
        check_running(connection, visit)
        sent = tree.begin(connection, visit.person, model, visit.form.text("text"), client_of(visit), settings)
        switch_on(connection, sent.chat, tools)
        attach(connection, visit.person, visit.form.many("file"), sent.chat, sent.question)
        save_new(connection, visit.person, "")
        check_room(connection, visit.person.id, visit.service.config.storage)
    return _answer_to_sending(visit, sent)


def ask(visit: Visit) -> Response:
    """A further message, to the model that the form names."""
    form = visit.form
    model = model_of(visit, named) if (named := form.text("model")) else ""
    with writing(visit.service.database) as connection:
        check_running(connection, visit)
        parent, text = form.text("parent"), form.text("text")
        sent = tree.ask(connection, visit.person, visit.id, parent, text, client_of(visit), model)
        attach(connection, visit.person, form.many("file"), sent.chat, sent.question)
        check_room(connection, visit.person.id, visit.service.config.storage)
    return _answer_to_sending(visit, sent)


def edit(visit: Visit) -> Response:
    """A message in other words: a question gets another reply, a reply is marked as edited."""
    with reading(visit.service.database) as connection:
        first = message_of(connection, visit.person, visit.id)
    text = visit.form.text("text")
    if first.role == "assistant":
        with writing(visit.service.database) as connection:
            tree.amend(connection, visit.person, visit.id, text)
            check_room(connection, visit.person.id, visit.service.config.storage)
        return done(visit, f"/c/{first.chat}")
    with writing(visit.service.database) as connection:
        check_running(connection, visit)
        sent = tree.edit(connection, visit.person, visit.id, text, client_of(visit))
        if not files_of(connection, sent.question):  # else the same sending again
            give_copies(connection, files_of(connection, first.id), first.chat, sent.question)
        check_room(connection, visit.person.id, visit.service.config.storage)
    return _answer_to_sending(visit, sent)


def retry(visit: Visit) -> Response:
    """Another reply to the same question."""
    return _again(visit, goes_on=False)


def go_on(visit: Visit) -> Response:
    """The rest of a reply that was cut off."""
    return _again(visit, goes_on=True)


def _again(visit: Visit, goes_on: bool) -> Response:
    with writing(visit.service.database) as connection:
        check_running(connection, visit)
        sent = tree.retry(connection, visit.person, visit.id, goes_on, visit.service.retried_at)
        check_room(connection, visit.person.id, visit.service.config.storage)
    return _answer_to_sending(visit, sent)


def choose(visit: Visit) -> Response:
    """Shows another branch, at the message that it was asked for by."""
    with writing(visit.service.database) as connection:
        chat = tree.choose(connection, visit.person, visit.id)
        leaf = chat_of(connection, visit.person, chat).leaf
        later = later_than(connection, leaf, visit.id, SHOWN)
    to = f"?to={later[AROUND - 1]}" if len(later) == SHOWN else ""
    return done(visit, f"/c/{chat}{to}#m-{visit.id}")


def fork(visit: Visit) -> Response:
    """A new chat from a branch."""
    with writing(visit.service.database) as connection:
        chat = tree.fork(connection, visit.person, visit.id)
        check_room(connection, visit.person.id, visit.service.config.storage)
    return done(visit, f"/c/{chat}")


def stop(visit: Visit) -> Response:
    """Ends a reply; what is written stays."""
    with reading(visit.service.database) as connection:
        message = message_of(connection, visit.person, visit.id)
    visit.service.replies.stop(message.id)
    return done(visit, f"/c/{message.chat}")


async def events(visit: Visit) -> Response:
    """What changes in a reply until it is complete."""
    message = await run_in_threadpool(_message, visit)
    return event_stream(visit, message.id)


def event_stream(visit: Visit, reply: str) -> EventSourceResponse:
    """What changes in a reply until it is complete, as server-sent events: each replaces a block by its number, so a
    page that lost its connection asks again from the last one."""
    last = visit.request.headers.get("last-event-id", "")
    block_count = number_of(last) if last else number_in(visit, "known")
    streams, person = visit.service.streams, visit.person.id
    if streams[person] >= MOST_STREAMS:
        raise Refusal(f"{MOST_STREAMS} pages already wait for replies; close one of them", 429)

    async def stream() -> AsyncGenerator[ServerSentEvent, None]:
        streams[person] += 1
        try:
            yield ServerSentEvent(retry=1000, comment="begin")
            async with aclosing(visit.service.replies.follow(reply, block_count)) as changes:
                async for change in changes:
                    if change.kind == "block":
                        yield ServerSentEvent(change.html, event="block", id=str(change.number))
                    else:
                        yield ServerSentEvent(str(change.number), event=change.kind)
        finally:
            streams[person] -= 1
            if not streams[person]:
                del streams[person]

    return EventSourceResponse(stream(), ping=PING_SECONDS, sep="\n")


def change(visit: Visit) -> Response:
    """Renames, pins or archives a chat, or gives it another model or other settings."""
    form, values = visit.form, dict[str, Any]()
    if "title" in form.fields:
        values["title"] = form.text("title")
    for name in ("pinned", "archived"):
        if name in form.fields:
            values[name] = form.text(name) == "yes"
    if "model" in form.fields:
        values["model"] = model_of(visit, form.text("model"))
    settings = settings_in(form) if "instructions" in form.fields else None
    if not values and settings is None:
        raise Refusal("nothing was changed: the form names nothing to change")
    with writing(visit.service.database) as connection:
        if settings is not None:
            tree.set_up(connection, visit.person, visit.id, settings, form.text("filled_from"))
            check_room(connection, visit.person.id, visit.service.config.storage)
        if values:
            tree.change(connection, visit.person, visit.id, **values)
    return done(visit, f"/c/{visit.id}")


def remove(visit: Visit) -> Response:
    """Deletes a chat; the next page offers to bring it back."""
    with writing(visit.service.database) as connection:
        chat = chat_of(connection, visit.person, visit.id)
        tree.remove(connection, visit.person, chat.id)
    return done(visit, f"/removed/{chat.id}")


def removed(visit: Visit) -> HTMLResponse:
    """Says that a chat was deleted, and offers to bring it back."""
    with reading(visit.service.database) as connection:
        chat = chat_of(connection, visit.person, visit.id, deleted=True)
    return show(visit, "removed", "Deleted", chat=chat, seconds=int(tree.UNDO_SECONDS))


def restore(visit: Visit) -> Response:
    """Brings a deleted chat back."""
    with writing(visit.service.database) as connection:
        tree.restore(connection, visit.person, visit.id)
    return done(visit, f"/c/{visit.id}")


def archived(visit: Visit) -> HTMLResponse:
    """The archived chats."""
    with reading(visit.service.database) as connection:
        chats: list[Chat] = list_chats(connection, visit.person, archived=True)
    return show(visit, "archived", "Archived chats", kept=chats)


def model_of(visit: Visit, id: str) -> str:
    """The id of a served model, or the default one. Raises Refusal."""
    model = visit.service.model(id)
    if model is not None:
        return model.id
    if not visit.service.models:
        raise Refusal(visit.service.away or "no model is served here yet; try again in a moment", 503)
    raise Refusal(f"the model {id[:80]} isn't served any more; choose another")


def client_of(visit: Visit) -> str:
    """The sender's id of this sending; empty if there is none."""
    id = visit.form.text("client")
    return id if _CLIENT.fullmatch(id) else ""


def check_running(connection: Connection, visit: Visit) -> None:
    """Raises Refusal if the person waits for many replies already. Others of the person wait until this is sent."""
    lock(connection, visit.person)
    count = len(tree.running_of(connection, visit.person.id))
    count += sum(chat.running for chat in visit.service.temporary.of(visit.person.id))
    if count >= RUNNING_AT_ONCE:
        raise Refusal(f"{count} replies are being written for you; wait until one is complete, or stop one", 429)


def _answer_to_sending(visit: Visit, sent: tree.Sent) -> Response:
    visit.service.replies.begin(sent.reply)
    return done(visit, f"/c/{sent.chat}#m-{sent.question}", chat=sent.chat, question=sent.question, reply=sent.reply)


async def thumb(visit: Visit) -> Response:
    """A thumb on a reply, with words and a report if the person wants people to look at it."""
    message = await run_in_threadpool(_message, visit)
    up = visit.form.text("thumb") == "up"
    if not message.request:
        raise Refusal("no request of the model's server belongs to this reply, so there is nobody to tell")
    reports = visit.form.text("content") == "yes"
    if up and reports:
        raise Refusal("a report says that a reply is bad; send it with Bad, or without the report")
    body: dict[str, Any] = {"request_id": message.request, "thumb": "up" if up else "down"}
    if words := storable_text(visit.form.text("words"))[:MOST_WORDS].strip():
        body["words"] = words
    if not up:
        body["category"] = visit.form.text("category")[:64]
        if reports:
            body["content"] = await run_in_threadpool(_messages_up_to, visit, message.id)
    await visit.service.api.ask("POST", "/v1/feedback", body)
    await run_in_threadpool(_note, visit, message.id, thumb=body["thumb"])
    return done(visit, f"/c/{message.chat}#m-{message.id}", thumb=body["thumb"])


async def appeal(visit: Visit) -> Response:
    """Asks people to look at a stop."""
    message = await run_in_threadpool(_message, visit)
    words = storable_text(visit.form.text("words"))[:MOST_WORDS].strip()
    if message.state != REFUSED or not message.request:
        raise Refusal("this reply wasn't stopped by the policy, so there is nothing to appeal")
    if not words:
        raise Refusal("say in a few words why; nothing was sent")
    if not await run_in_threadpool(_note, visit, message.id, ~MESSAGES.c.appealed, appealed=True):
        raise Stale("you have appealed this already; people decide about it")
    body: dict[str, Any] = {"request_id": message.request, "words": words}
    if visit.form.text("content") == "yes":
        body["content"] = await run_in_threadpool(_messages_up_to, visit, message.id)
    try:
        await visit.service.api.ask("POST", "/v1/appeals", body)
    except BaseException:
        # nobody was told, so that the person may try again
        await run_in_threadpool(_note, visit, message.id, appealed=False)
        raise
    return done(visit, f"/c/{message.chat}#m-{message.id}", appealed=True)


def _messages_up_to(visit: Visit, id: str) -> dict[str, Any]:
    """What was said up to a reply, as people who look at a report see it."""
    with reading(visit.service.database) as connection:
        line = branch(connection, id)
    return {"messages": [{"role": message.role, "content": message.text} for message in line]}


def _note(visit: Visit, id: str, *only: ColumnElement[bool], **values: Any) -> bool:
    """Changes a message's row, if conditions hold; returns whether they did."""
    with writing(visit.service.database) as connection:
        changed = connection.execute(update(MESSAGES).where(MESSAGES.c.id == id, *only).values(**values))
        return bool(changed.rowcount)


def _message(visit: Visit) -> Message:
    with reading(visit.service.database) as connection:
        return message_of(connection, visit.person, visit.id)


def switch(visit: Visit) -> Response:
    """Switches a tool on or off in a chat."""
    name, on = visit.form.text("name"), visit.form.text("on") == "yes"
    if on:
        check_names([name], visit.service.tools)
    with writing(visit.service.database) as connection:
        lock(connection, visit.person)
        chat = chat_of(connection, visit.person, visit.id)
        if on:
            switch_on(connection, chat.id, [name])
        else:
            gone = delete(CHAT_TOOLS).where(CHAT_TOOLS.c.chat == chat.id, CHAT_TOOLS.c.name == name)
            connection.execute(gone)
    return done(visit, f"/c/{chat.id}#tools")
