"""The pages of temporary chats, which are in memory alone."""

from __future__ import annotations

from sse_starlette import EventSourceResponse
from starlette.responses import HTMLResponse, Response

from charter_service.chat.branches import Message
from charter_service.chat.site import Visit, article, close_chat, done, number_in, show
from charter_service.chat.talk import SHOWN, check_running, client_of, event_stream, model_of
from charter_service.chat.temporary import TemporaryChat
from charter_service.chat.tree import checked
from charter_service.web.database import writing

PLACE = "/temporary/m/"
TITLE = "Temporary chat"
NOTICES = {"closed": "It is closed, and nothing of it is left here."}


def begin_page(visit: Visit) -> HTMLResponse:
    """A page to begin a temporary chat."""
    notice = NOTICES.get(visit.request.query_params.get("done", ""), "")
    return show(visit, "temporary", TITLE, chat=None, messages=(), notice=notice)


def begin(visit: Visit) -> Response:
    """A new temporary chat with its first message."""
    model, text = model_of(visit, visit.form.text("model")), checked(visit.form.text("text"))
    _check_running(visit)
    chats = visit.service.temporary
    return _answer_to_sending(visit, chats.begin(visit.person.id, visit.owner, model, text, client_of(visit)))


def ask(visit: Visit) -> Response:
    """A further message."""
    text = checked(visit.form.text("text"))
    _check_running(visit)
    model = model_of(visit, named) if (named := visit.form.text("model")) else ""
    return _answer_to_sending(visit, visit.service.temporary.ask(visit.owner, visit.id, text, client_of(visit), model))


def retry(visit: Visit) -> Response:
    """Another reply in the place of the last one."""
    _check_running(visit)
    return _answer_to_sending(visit, visit.service.temporary.retry(visit.owner, visit.id, visit.service.retried_at))


def talk(visit: Visit) -> HTMLResponse:
    """A temporary chat."""
    chat = visit.service.temporary.find(visit.owner, visit.id)
    html = [article(visit, message, PLACE) for message in chat.messages[-SHOWN:]]
    last = chat.messages[-1]
    look = number_in(visit, "look") + 1
    return show(visit, "temporary", TITLE, chat=chat, messages=html, last=last, look=look, notice="")


def part(visit: Visit) -> HTMLResponse:
    """One message as the page shows it."""
    return HTMLResponse(article(visit, _message(visit), PLACE))


async def events(visit: Visit) -> EventSourceResponse:
    """What changes in a reply until it is complete."""
    return event_stream(visit, _message(visit).id)


def stop(visit: Visit) -> Response:
    """Ends a reply; what is written stays."""
    message = _message(visit)
    visit.service.replies.stop(message.id)
    return done(visit, f"/temporary/{message.chat}")


def close(visit: Visit) -> Response:
    """Ends a temporary chat, of which nothing is left."""
    close_chat(visit, visit.service.temporary.find(visit.owner, visit.id))
    return done(visit, "/temporary?done=closed")


def _check_running(visit: Visit) -> None:
    with writing(visit.service.database) as connection:
        check_running(connection, visit)


def _message(visit: Visit) -> Message:
    chat = visit.service.temporary.chat_of(visit.owner, visit.id)
    return next(message for message in chat.messages if message.id == visit.id)


def _answer_to_sending(visit: Visit, chat: TemporaryChat) -> Response:
    question, reply = chat.messages[-2:]
    if reply.running:
        visit.service.replies.begin_unstored(chat.messages, chat.person, visit.service.temporary.end)
    place = f"/temporary/{chat.id}#m-{question.id}"
    return done(visit, place, chat=chat.id, question=question.id, reply=reply.id)
