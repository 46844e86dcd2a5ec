"""POST /v1/messages/batches and the other routes of batches: requests that are answered in the background within a day
(Anthropic's reference, "message batches")."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pydantic import Field, ValidationError
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from charter_service.accounts.batches import (
    Batch,
    Result,
    cancel_batch,
    delete_batch,
    get_batch,
    list_batches,
    make_batch,
    results,
)
from charter_service.accounts.made_once import MadeBefore, is_known, once
from charter_service.api.batching import Batching
from charter_service.api.errors import invalid
from charter_service.api.model_request import Call
from charter_service.api.wire.answers import BatchAnswer, BatchesAnswer, DeletedBatchAnswer
from charter_service.api.wire.content import Strict
from charter_service.api.wire.reading import (
    LARGEST_BATCH,
    LARGEST_BODY,
    Pace,
    address_of_server,
    checked,
    problem_of,
    read_body,
    service_of,
)
from charter_service.api.wire.route import PAGING, VERSION, Routes, Version, check_version, parameter, version_of
from charter_service.web.database import reading

T = TypeVar("T")

ROUTES = Routes("Message batches", "batches")
PATH = "/v1/messages/batches"
ONCE, AGAIN = "idempotency-key", "idempotent-replayed"  # headers, as in Stripe's API
KEY = parameter(ONCE, "header", "a batch is created only once, however often it is sent with the same key in a day")


class BatchRequest(Strict):
    """One request; its params are checked when its turn comes."""

    custom_id: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    params: dict[str, Any]


class BatchBody(Strict):
    """The requests of a batch."""

    requests: list[BatchRequest]


@ROUTES.add("GET", PATH, "List batches", BatchesAnswer, VERSION, *PAGING)
async def find_batches(request: Request, call: Call) -> Response:
    """The batches of an organisation, newest first, by pages."""
    owner, query = call.caller.organisation, request.query_params
    limit = query.get("limit", "20")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 9):
        raise invalid("limit: expected a whole number from 1 to 1,000", "limit")
    before, after = query.get("before_id") or None, query.get("after_id") or None
    page = await _read(
        request, lambda connection: list_batches(connection, owner, before=before, after=after, limit=int(limit))
    )
    return JSONResponse(
        {
            "data": [form_of(batch, request) for batch in page.batches],
            "has_more": page.has_more,
            "first_id": page.first_id,
            "last_id": page.last_id,
        }
    )


@ROUTES.add("POST", PATH, "Create a batch", BatchAnswer, VERSION, KEY, body=BatchBody)
async def create_batch(request: Request, call: Call) -> Response:
    """Accepts a batch; after the answer nothing of it is lost."""
    service, owner, key = service_of(request), call.caller.organisation, request.headers.get(ONCE)
    if key is None or not await _read(request, lambda connection: is_known(connection, owner, key)):
        await asyncio.to_thread(service.room.check)
    version = version_of(request)
    items = await read_body(request, lambda body: _items(body, version), LARGEST_BATCH, parts=None)

    def create() -> tuple[str, bool]:
        sending = None if key is None else once(key, items)
        try:
            return make_batch(service.database, call.caller, items, quota=service.quota, wanted=sending), True
        except MadeBefore as before:
            return before.batch, False

    id, new = await service.aside(call.caller, create)
    batch = await _read(request, lambda connection: get_batch(connection, owner, id))
    batching_of(request).wake()
    return JSONResponse(form_of(batch, request), headers={} if new else {AGAIN: "true"})


def _items(body: Any, version: Version) -> list[tuple[str, str]]:
    """The requests as they are stored: custom ids, and params as JSON. If there are many, they are checked one by one,
    and others have their turn in between. What the version refuses is refused at once; it isn't stored."""
    requests = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(requests, list):
        checked(body, BatchBody)  # it raises with the problem
        raise invalid("requests: Input should be a valid list", "requests")
    checked({**body, "requests": []}, BatchBody)
    items, pace = [], Pace()
    for number, request in enumerate(requests):
        pace()
        try:
            item = BatchRequest.model_validate(request)
        except ValidationError as error:
            raise problem_of(error, BatchRequest, "requests", number) from None
        check_version(version, item.params, f"requests.{number}.params.")
        params = json.dumps(item.params, ensure_ascii=False)
        if len(params) > LARGEST_BODY:
            raise invalid(f"requests.{number}.params: over {LARGEST_BODY // 2**20} MiB; send less", "requests")
        items.append((item.custom_id, params))
    return items


@ROUTES.add("GET", f"{PATH}/{{batch}}", "Get a batch", BatchAnswer, VERSION)
async def find_batch(request: Request, call: Call) -> Response:
    """One batch."""
    owner, id = call.caller.organisation, request.path_params["batch"]
    batch = await _read(request, lambda connection: get_batch(connection, owner, id))
    return JSONResponse(form_of(batch, request))


@ROUTES.add("POST", f"{PATH}/{{batch}}/cancel", "Cancel a batch", BatchAnswer, VERSION)
async def end_batch(request: Request, call: Call) -> Response:
    """Cancels the waiting requests of a batch."""
    owner, id = call.caller.organisation, request.path_params["batch"]
    busy = batching_of(request).under_way
    batch = await _write(request, lambda connection: cancel_batch(connection, owner, id, busy))
    return JSONResponse(form_of(batch, request))


@ROUTES.add("DELETE", f"{PATH}/{{batch}}", "Delete a batch", DeletedBatchAnswer, VERSION)
async def remove_batch(request: Request, call: Call) -> Response:
    """Deletes an ended batch."""
    owner, id = call.caller.organisation, request.path_params["batch"]
    await _write(request, lambda connection: delete_batch(connection, owner, id))
    return JSONResponse({"id": id, "type": "message_batch_deleted"})


@ROUTES.add("GET", f"{PATH}/{{batch}}/results", "Read a batch's results", None, VERSION, media="application/x-jsonl")
async def read_results(request: Request, call: Call) -> Response:
    """The result of each request, a line of JSON each."""
    owner, id = call.caller.organisation, request.path_params["batch"]
    pages = await asyncio.to_thread(results, service_of(request).database, owner, id)
    return StreamingResponse(_lines(pages), media_type="application/x-jsonl")


def _lines(pages: Iterator[Sequence[Result]]) -> Iterator[str]:
    for page in pages:
        yield "".join(f"{result.line()}\n" for result in page)


def batching_of(request: Request) -> Batching:
    """The worker of a server."""
    batching: Batching = request.app.state.batching
    return batching


def form_of(batch: Batch, request: Request) -> dict[str, Any]:
    """A batch in Anthropic's shape."""
    archived, url = batch.archived(), f"{address_of_server(request)}{PATH}/{batch.id}/results"
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": batch.state,
        "request_counts": batch.request_counts,
        "created_at": _time(batch.created),
        "expires_at": _time(batch.expires),
        "ended_at": _time(batch.ended),
        "cancel_initiated_at": _time(batch.canceled),
        "archived_at": _time(archived),
        "results_url": url if batch.state == "ended" and archived is None else None,
    }


def _time(seconds: float | None) -> str | None:
    """RFC 3339, UTC."""
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")


async def _read(request: Request, work: Callable[[Connection], T]) -> T:
    def done() -> T:
        with reading(service_of(request).database) as connection:
            return work(connection)

    return await asyncio.to_thread(done)


async def _write(request: Request, work: Callable[[Connection], T]) -> T:
    """A change of a batch may change all of its requests, and wait for other writers."""

    service = service_of(request)
    return await service.aside(request.state.caller, lambda: service.room.write(work))
