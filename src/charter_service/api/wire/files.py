"""/v1/files: files that requests name as sources of documents (Anthropic's reference, "files").

A file belongs to the organisation of the key that sent it; others get 404. Programs that write, list or delete need the
scope of messages, which is what files are for.
"""

from __future__ import annotations

import asyncio
import errno
import time
from contextlib import suppress
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from charter.ground.documents.document import clean_name
from charter_service.accounts.files import File, files_of, list_files
from charter_service.api.errors import ApiError, invalid
from charter_service.api.guard import log_failure
from charter_service.api.model_request import Call
from charter_service.api.telling import standing_headers
from charter_service.api.wire.answers import DeletedFileAnswer, FileAnswer, FilesAnswer
from charter_service.api.wire.reading import service_of
from charter_service.api.wire.route import PAGING, VERSION, Routes, parameter
from charter_service.api.wire.times import rfc3339
from charter_service.api.wire.upload import AROUND, LONGEST, SHORTEST, Upload, boundary_of, refusal, too_large
from charter_service.web.database import reading

ROUTES = Routes("Files", "messages")
PATH = "/v1/files"
MULTIPART = "multipart/form-data"
MIB = 2**20
CURSOR = "page_"
IDS = "only these files, at most 100; without limit and page"
PAGES = (
    *PAGING,
    parameter("page", "query", "the next page: next_page of the list before"),
    parameter(
        "ids",
        "query",
        "only these files, at most 100; without limit and page",
        type="array",
        items={"type": "string"},
    ),
    parameter("scope_id", "query", "only files of a scope; no file here has one"),
)


class UploadBody(BaseModel):
    """A file to store."""

    file: Annotated[
        bytes,
        Field(description="the file, with its name and media type", json_schema_extra={"format": "binary"}),
    ]
    expires_in_seconds: int | None = Field(
        None, ge=SHORTEST, le=LONGEST, description="when it is deleted by itself; without it, it stays"
    )


@ROUTES.add("POST", PATH, "Upload a file", FileAnswer, VERSION, body=UploadBody, takes=MULTIPART)
async def upload_file(request: Request, call: Call) -> Response:
    """Stores a file, which is on disk before the answer."""
    service, whose = service_of(request), call.caller
    try:
        standing = await service.find_standing(call)
        if standing.blocked:
            raise ApiError(403, standing.message, headers=standing_headers(standing), reason="standing")
        boundary = boundary_of(request.headers.get("content-type", ""))
        most, length = service.config.files.file_mib * MIB, request.headers.get("content-length", "")
        if length.isdigit() and int(length) > most + AROUND:
            raise too_large(most)
        await asyncio.to_thread(service.room.check)
        id, blob = await service.write(whose, lambda: service.files.begin(whose.organisation))
        try:
            upload = Upload(boundary, blob, most)
            await _receive(request, upload, most)
            kept = _kept(id, whose.organisation, upload)
            file = await service.write(whose, lambda: service.files.keep(kept, blob))
        except BaseException:
            await asyncio.shield(asyncio.to_thread(_drop, request, id, blob))
            raise
    except Exception as error:
        service.files.note(whose.organisation, error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ApiError(503, "the disk of this service is full; try again later", reason="disk") from error
        raise
    return JSONResponse(form_of(file))


async def _receive(request: Request, upload: Upload, most: int) -> None:
    size = 0
    try:
        async for chunk in request.stream():
            if (size := size + len(chunk)) > most + AROUND:
                raise too_large(most)
            await asyncio.to_thread(upload.feed, chunk)
    except ClientDisconnect:
        raise refusal("form", "the connection ended before the body did") from None
    upload.finish()


def _kept(id: str, organisation: str, upload: Upload) -> File:
    now, seconds = time.time(), upload.seconds
    expires = None if seconds is None else now + seconds
    name = clean_name(upload.name)
    return File(id, organisation, name, upload.mime, upload.size, upload.sha256, now, expires)


def _drop(request: Request, id: str, blob: BinaryIO) -> None:
    """Gives up an upload; what fails now, the next start does."""
    with suppress(OSError):
        blob.close()
    try:
        service_of(request).files.drop(id)
    except Exception as error:
        log_failure(error, request.state.request_id)


@ROUTES.add("GET", PATH, "List files", FilesAnswer, VERSION, *PAGES)
async def find_files(request: Request, call: Call) -> Response:
    """The files of an organisation, newest first, by pages, or those with some ids."""
    owner, query, database = call.caller.organisation, request.query_params, service_of(request).database
    ids = [*query.getlist("ids"), *query.getlist("ids[]")]
    limit, page = query.get("limit"), query.get("page")
    if ids and (limit or page):
        raise invalid("ids: can't be given together with limit or page", "ids")
    if limit is not None and not (limit.isascii() and limit.isdigit() and len(limit) < 9):
        raise invalid("limit: expected a whole number from 1 to 1,000", "limit")
    if page is not None and not page.startswith(CURSOR):
        raise invalid("page: expected next_page of a list; begin again without it", "page")
    before, after = query.get("before_id") or None, query.get("after_id") or None
    if page is not None and (before or after):
        raise invalid("page: can't be given together with before_id or after_id", "page")

    def read() -> tuple[list[File], bool]:
        with reading(database) as connection:
            if ids:
                return files_of(connection, owner, ids), False
            cursor = page.removeprefix(CURSOR) if page else after
            listed = list_files(connection, owner, before=before, after=cursor, limit=int(limit or 20))
            return listed.files, listed.has_more

    files, more = ([], False) if query.get("scope_id") else await asyncio.to_thread(read)
    return JSONResponse(
        {
            "data": [form_of(file) for file in files],
            "has_more": more,
            "first_id": files[0].id if files else None,
            "last_id": files[-1].id if files else None,
            "next_page": f"{CURSOR}{files[-1].id}" if more and before is None else None,
        }
    )


@ROUTES.add("GET", f"{PATH}/{{file}}", "Get a file's facts", FileAnswer, VERSION)
async def find_file(request: Request, call: Call) -> Response:
    """Name, type and size of a file."""
    return JSONResponse(form_of(await _found(request, call)))


@ROUTES.add(
    "GET", f"{PATH}/{{file}}/content", "Download a file", None, VERSION, media="application/octet-stream"
)
async def download_file(request: Request, call: Call) -> Response:
    """Refused: an uploaded file can't be downloaded, as in Anthropic's API."""
    file = await _found(request, call)
    raise invalid(
        f"the file {file.id} is not downloadable: it was uploaded, and uploaded files only serve requests"
    )


@ROUTES.add("DELETE", f"{PATH}/{{file}}", "Delete a file", DeletedFileAnswer, VERSION)
async def remove_file(request: Request, call: Call) -> Response:
    """Deletes a file with its bytes. Requests that have read it go on."""
    service, owner, id = service_of(request), call.caller.organisation, request.path_params["file"]
    file = await service.write(call.caller, lambda: service.files.delete(owner, id))
    service.texts.forget(owner, file.sha256)
    return JSONResponse({"id": file.id, "type": "file_deleted"})


async def _found(request: Request, call: Call) -> File:
    files, id = service_of(request).files, request.path_params["file"]
    return await asyncio.to_thread(files.find, call.caller.organisation, id)


def form_of(file: File) -> dict[str, Any]:
    """A file in Anthropic's shape."""
    return {
        "id": file.id,
        "type": "file",
        "filename": file.name,
        "mime_type": file.mime,
        "size_bytes": file.bytes,
        "created_at": rfc3339(file.created),
        "expires_at": rfc3339(file.expires),
        "downloadable": False,
    }
