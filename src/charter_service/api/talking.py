"""One question to one or two served models for the workbench, in the same way as the API: limits, policy, usage and the
log follow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from charter_service.accounts.keys import Caller
from charter_service.accounts.requests import RequestRow
from charter_service.api.errors import api_error
from charter_service.api.model_request import Call, Piece
from charter_service.api.service import Service
from charter_service.api.wire.messages import open_message, with_user
from charter_service.api.wire.messages_body import MessagesBody
from charter_service.api.wire.reading import checked
from charter_service.web.tokens import new_id

SURFACE = "workbench"
Event = dict[str, Any]


async def answers(
    service: Service, caller: Caller, bodies: Sequence[dict[str, Any]]
) -> AsyncGenerator[Event, None]:
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
        left = len(tasks)
        while left:
            event = await queue.get()
            if event is None:
                left -= 1
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
