"""/v1/files: files that requests name as sources of documents (Anthropic's reference, "files").

A file belongs to the organisation of the key that sent it; others get 404. Programs that write, list or delete need the
scope of messages, which is what files are for.
"""

from __future__ import annotations

import asyncio
import errno
import re
import time
from typing import Annotated, Any

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter.ground.documents.document import clean_name
from charter_service.accounts.files import File, files_of, list_files
from charter_service.api.errors import ApiError, invalid
from charter_service.api.guard import log_failure
from charter_service.api.model_request import Call
from charter_service.api.telling import standing_headers
from charter_service.api.wire.answers import DeletedFileAnswer, FileAnswer, FilesAnswer, rfc3339
from charter_service.api.wire.reading import service_of
from charter_service.api.wire.route import PAGING, VERSION, Routes, parameter
from charter_service.web.blobs import Blob
from charter_service.web.database import reading
from charter_service.web.forms import MULTIPART, Malformed, Part, Upload, boundary_of, pieces_of

ROUTES = Routes("Files", "messages")
PATH = "/v1/files"
FIELDS = ("file", "expires_in_seconds")
LONGEST_FIELD = 100  # bytes of a field that is no file
AROUND = 2**16  # bytes of a body that aren't the file's
OCTETS = "application/octet-stream"
SHORTEST, LONGEST = 3_600, 90 * 86_400  # seconds until a file expires, as Anthropic's reference says
BROKEN = "the connection ended before the body did"
_MIME = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,48}/[a-z0-9][a-z0-9!#$&^_.+-]{0,48}(?!\n)\Z")
MIB = 2**20
CURSOR = "page_"
IDS = "only these files, at most 100; without limit and page"
PAGES = (
    *PAGING,
    parameter("page", "query", "the next page: next_page of the list before"),
    parameter(
        "ids", "query", "only these files, at most 100; without limit and page", type="array", items={"type": "string"}
    ),
    parameter("scope_id", "query", "only files of a scope; no file here has one"),
)


class UploadBody(BaseModel):
    """A file to store."""

    file: Annotated[
        bytes, Field(description="the file, with its name and media type", json_schema_extra={"format": "binary"})
    ]
    expires_in_seconds: int | None = Field(
        None, ge=SHORTEST, le=LONGEST, description="when it is deleted by itself; without it, it stays"
    )


def refusal(reason: str, words: str, status: int = 400) -> ApiError:
    """A refused upload, with its reason as one word for figures."""
    return ApiError(status, words, param="file", reason=reason)


def too_large(most: int) -> ApiError:
    """The refusal of a file of more than `most` bytes."""
    return refusal("size", f"the file is over {most // MIB} MiB, the most that a file may have here", 413)


class FileUpload(Upload):
    """The body of an upload: its file goes to `blob`, of at most `most` bytes. Its methods block. They raise ApiError,
    413 for too large a file, 400 for a malformed body; OSError."""

    def __init__(self, content_type: str, blob: Blob, most: int) -> None:
        self._blob, self._most, self._values = blob, most, dict[str, bytes]()
        self.name, self.mime = "", OCTETS
        try:
            super().__init__(boundary_of(content_type))
        except Malformed as error:
            raise refusal("form", f"the body can't be read: {error}") from None

    def feed(self, data: bytes) -> None:
        """Takes the next bytes."""
        try:
            super().feed(data)
        except Malformed as error:
            words = f"the body is not multipart/form-data: {str(error).lower()[:200]}"
            raise refusal("form", words) from None

    def begin(self, part: Part) -> None:
        """Checks a part's name, and takes what it says of the file."""
        if part.name not in FIELDS:
            words = f"there is no field {part.name[:80]!r} here; expected {' and '.join(FIELDS)}"
            raise refusal("form", words)
        if part.name in self._values:
            raise refusal("form", f"there are two parts named {part.name}; send one file at a time")
        if part.name == "file":
            if part.filename is None:
                raise refusal("form", "the part named file has no filename; send it as a file")
            self.name = part.filename
            mime = part.headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
            self.mime = mime if _MIME.match(mime) else OCTETS
        self._values[part.name] = b""

    def add(self, part: Part, data: bytes) -> None:
        """Writes the file, and keeps the value of a field."""
        if part.name == "file":
            if self._blob.size + len(data) > self._most:
                raise too_large(self._most)
            self._blob.write(data)
            return
        self._values[part.name] += data
        if len(self._values[part.name]) > LONGEST_FIELD:
            raise refusal("form", f"{part.name}: at most {LONGEST_FIELD} characters")

    def finish(self) -> None:
        """Checks that the body is whole."""
        if not self.complete:
            raise refusal("form", "the body ended before its last boundary; send it again")
        if "file" not in self._values:
            words = "the body has no part named file with a filename; send the file as this part"
            raise refusal("form", words)
        if not self._blob.size:
            raise refusal("empty", "the file is empty; send one with content")

    @property
    def seconds(self) -> int | None:
        """Seconds until the file expires; None if it doesn't."""
        if (value := self._values.get("expires_in_seconds")) is None:
            return None
        if not (value.isdigit() and len(value) < 10 and SHORTEST <= int(value) <= LONGEST):
            words = f"expires_in_seconds: expected a whole number from {SHORTEST:,} to {LONGEST:,}"
            raise invalid(words, "expires_in_seconds")
        return int(value)


@ROUTES.add("POST", PATH, "Upload a file", FileAnswer, VERSION, body=UploadBody, takes=MULTIPART)
async def upload_file(request: Request, call: Call) -> Response:
    """Stores a file, which is on disk before the answer."""
    service, whose = service_of(request), call.caller
    try:
        standing = await service.find_standing(call)
        if standing.blocked:
            raise ApiError(403, standing.message, headers=standing_headers(standing), reason="standing")
        if not boundary_of(kind := request.headers.get("content-type", "")):
            words = "expected a body of multipart/form-data with a boundary, and in it a part named file"
            raise refusal("form", words)
        most, length = service.config.files.file_mib * MIB, request.headers.get("content-length", "")
        if length.isdigit() and int(length) > most + AROUND:
            raise too_large(most)
        await asyncio.to_thread(service.room.check)
        id, blob = await service.write(whose, lambda: service.files.begin(whose.organisation))
        try:
            upload = FileUpload(kind, blob, most)
            async for piece in pieces_of(request, most + AROUND, too_large(most), refusal("form", BROKEN)):
                await asyncio.to_thread(upload.feed, piece)
            upload.finish()
            row = _file_row(id, whose.organisation, upload, blob)
            file = await service.write(whose, lambda: service.files.keep(row, blob))
        except BaseException:
            await asyncio.shield(asyncio.to_thread(_drop, request, id, blob))
            raise
    except Exception as error:
        service.files.note(whose.organisation, error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ApiError(503, "the disk of this service is full; try again later", reason="disk") from error
        raise
    return JSONResponse(form_of(file))


def _file_row(id: str, organisation: str, upload: FileUpload, blob: Blob) -> File:
    now, seconds = time.time(), upload.seconds
    expires = None if seconds is None else now + seconds
    name = clean_name(upload.name)
    return File(id, organisation, name, upload.mime, blob.size, blob.sha256, now, expires)


def _drop(request: Request, id: str, blob: Blob) -> None:
    """Gives up an upload; what fails now, the next start does."""
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
    return JSONResponse(form_of(await _visible_file(request, call)))


@ROUTES.add("GET", f"{PATH}/{{file}}/content", "Download a file", None, VERSION, media="application/octet-stream")
async def download_file(request: Request, call: Call) -> Response:
    """Refused: an uploaded file can't be downloaded, as in Anthropic's API."""
    file = await _visible_file(request, call)
    raise invalid(f"the file {file.id} is not downloadable: it was uploaded, and uploaded files only serve requests")


@ROUTES.add("DELETE", f"{PATH}/{{file}}", "Delete a file", DeletedFileAnswer, VERSION)
async def remove_file(request: Request, call: Call) -> Response:
    """Deletes a file with its bytes. Requests that have read it go on."""
    service, owner, id = service_of(request), call.caller.organisation, request.path_params["file"]
    file = await service.write(call.caller, lambda: service.files.delete(owner, id))
    service.texts.forget(owner, file.sha256)
    return JSONResponse({"id": file.id, "type": "file_deleted"})


async def _visible_file(request: Request, call: Call) -> File:
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
