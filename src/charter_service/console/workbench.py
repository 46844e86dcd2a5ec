"""Console page of the workbench: a prompt, settings, and one or two models side by side, asked in the same way as by
the API, so that limits, policy, usage and the log follow; and the code that sends the same request.

Without a script the answers come with the next page; with one they are shown while they are written.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from starlette.responses import Response, StreamingResponse

from charter_service.accounts.keys import Caller
from charter_service.accounts.requests import RequestRow
from charter_service.api.admin_entrance import TAG, AdminRoutes, Shown, Visit
from charter_service.api.errors import api_error, invalid
from charter_service.api.model_request import Call, Piece
from charter_service.api.rendering import ADMIN
from charter_service.api.service import Service
from charter_service.api.snippets import Snippet, code_of
from charter_service.api.wire.messages import open_message, with_user
from charter_service.api.wire.messages_body import MessagesBody
from charter_service.api.wire.reading import address_of_server, checked
from charter_service.web.tokens import new_id

ROUTES = AdminRoutes(TAG)
WORKBENCH = f"{ADMIN}/workbench"
LINES = "application/x-ndjson"
MOST_TURNS = 40
MOST_TOKENS = 256  # of a reply, by default
NUMBERS = {"max_tokens": int, "temperature": float, "top_p": float, "top_k": int}
ACTS = ("run", "add", "code")
SURFACE = "workbench"  # in rows of requests
Event = dict[str, Any]


@ROUTES.page("GET", WORKBENCH, "Workbench", "operate")
def workbench_page(visit: Visit) -> Shown:
    """An empty prompt for the default model."""
    return _page(visit, [""], [])


@ROUTES.live("POST", WORKBENCH, "Ask models", "operate")
async def ask_models(visit: Visit) -> Shown | Response:
    """Sends the prompt to the chosen models; or adds a turn; or shows the code. Raises ApiError for a wrong
    setting."""
    act, turns = visit.form.text("act") or "run", _turns(visit)
    if act not in ACTS:
        raise invalid(f"act: expected {', '.join(ACTS)}", "act")
    if act == "add":
        return _page(visit, [*turns, "", ""][:MOST_TURNS], [])
    bodies = _bodies(visit, turns)
    if act == "code":
        return _page(visit, turns, [], bodies)
    events = answers(visit.service, visit.caller, bodies)
    if LINES in visit.request.headers.get("accept", ""):
        return StreamingResponse(_lines(visit, events), media_type=LINES)
    sides: list[dict[str, Any]] = [{"model": body["model"], "text": "", "error": "", "end": None} for body in bodies]
    async with aclosing(events):
        async for event in events:
            side = sides[event["side"]]
            side["text"] += event.get("text", "")
            side.update({name: event[name] for name in ("end", "error") if name in event})
    return _page(visit, turns, sides, bodies)


async def _lines(visit: Visit, events: Any) -> AsyncIterator[str]:
    """Events, one a line; the last has the proof for the next form."""
    async with aclosing(events):
        async for event in events:
            yield json.dumps(event) + "\n"
    yield json.dumps({"proof": visit.proof() if visit.session else ""}) + "\n"


def _turns(visit: Visit) -> list[str]:
    """The turns as they were written: the user's and the assistant's in turn."""
    turns = [text.replace("\r\n", "\n") for text in visit.form.many("turn")]
    if len(turns) > MOST_TURNS:
        raise invalid(f"turn: at most {MOST_TURNS}", "turn")
    return turns or [""]


def _bodies(visit: Visit, turns: list[str]) -> list[dict[str, Any]]:
    """A body of the Messages API for each chosen model. Raises ApiError."""
    form = visit.form
    models = list(dict.fromkeys(name for name in (form.text("model"), form.text("other")) if name))
    if not models:
        raise invalid("model: choose one", "model")
    while len(turns) > 1 and not turns[-1].strip():
        turns.pop()
    if not turns[0].strip():
        raise invalid("turn: write what to ask", "turn")
    if empty := [n for n, text in enumerate(turns, 1) if not text.strip()]:
        raise invalid(f"turn: turn {empty[0]} is empty and others follow it", "turn")
    messages = [{"role": "assistant" if number % 2 else "user", "content": text} for number, text in enumerate(turns)]
    body: dict[str, Any] = {"max_tokens": MOST_TOKENS, **_settings(visit)}
    if (words := form.text("system").replace("\r\n", "\n")).strip():
        body["system"] = words
    if stops := [line for line in form.text("stop").splitlines() if line]:
        body["stop_sequences"] = stops
    bodies = [{"model": model, **body, "messages": messages} for model in models]
    for request_body in bodies:
        checked(request_body, MessagesBody)
    return bodies


def _settings(visit: Visit) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, kind in NUMBERS.items():
        if entry := visit.form.text(name).strip():
            try:
                settings[name] = kind(entry)
            except ValueError:
                raise invalid(f"{name}: {entry[:40]!r} is not a number", name) from None
    return settings


def _page(
    visit: Visit, turns: list[str], answers: list[dict[str, Any]], bodies: list[dict[str, Any]] | None = None
) -> Shown:
    models = [{"id": model.id, "title": model.title} for model in visit.service.registry.served]
    form = visit.form
    address, keyed = address_of_server(visit.request), visit.service.config.authenticate
    code: list[Snippet] = code_of(address, bodies[0], keyed) if bodies else []
    data = {
        "models": models,
        "model": form.text("model") or models[0]["id"],
        "other": form.text("other"),
        "system": form.text("system"),
        "turns": turns,
        "settings": {name: form.text(name) for name in (*NUMBERS, "stop")}
        | {"max_tokens": form.text("max_tokens") or str(MOST_TOKENS)},
        "answers": answers,
        "code": [{"id": snippet.id, "title": snippet.title, "text": snippet.text} for snippet in code],
    }
    return Shown("admin_workbench", "Workbench", data)


async def answers(service: Service, caller: Caller, bodies: Sequence[dict[str, Any]]) -> AsyncGenerator[Event, None]:
    """The answers of several models at once, as events: {"side", "text"}, and last of each side {"side", "end"} with
    the figures, or {"side", "error"} with one sentence."""
    queue: asyncio.Queue[Event | None] = asyncio.Queue(1000)

    async def ask(side: int, body: dict[str, Any]) -> None:
        try:
            async with aclosing(_answer(service, caller, body)) as events:
                async for event in events:
                    await queue.put({"side": side, **event})
        except Exception as error:
            problem = api_error(error)
            await queue.put({"side": side, "error": str(problem), "status": problem.status})
        finally:
            await queue.put(None)

    tasks = [asyncio.create_task(ask(side, body)) for side, body in enumerate(bodies)]
    try:
        running = len(tasks)
        while running:
            event = await queue.get()
            if event is None:
                running -= 1
            else:
                yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(service: Service, caller: Caller, body: dict[str, Any]) -> AsyncGenerator[Event, None]:
    request_id = f"req_{new_id()}"
    row = RequestRow(request_id, organisation=caller.organisation, key=caller.key, surface=SURFACE)
    form, status = checked(body, MessagesBody), 500
    began = time.monotonic()
    try:
        call = with_user(Call(caller, request_id, SURFACE, row=row), form)
        exchange = (await open_message(service, call, form)).exchange  # no tools: in one round
        end = None
        async with aclosing(exchange.parts()) as parts:
            async for part in parts:
                if isinstance(part, Piece):
                    yield {"text": part.text}
                else:
                    end = part
        status = 200
        facts = {
            "request": request_id,
            "milliseconds": round(1000 * (time.monotonic() - began)),
            "first_milliseconds": row.first_milliseconds,
            "stop": end.stop if end else "end",
            "reason": end.reason if end else "",
            "input_tokens": exchange.usage.input_tokens,
            "cached_tokens": exchange.usage.cached_tokens,
            "output_tokens": exchange.usage.output_tokens,
        }
        yield {"end": facts}
    except Exception as error:
        status = api_error(error).status
        raise
    finally:
        if row.counts:
            row.ended(status)
            service.meter.note(row)
