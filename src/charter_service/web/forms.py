"""Bodies of requests, read up to a limit; forms from browsers, refused if another site's page sent them.

A body of multipart/form-data (RFC 7578) is read as it arrives, so that a file goes straight to the disk.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from charter_service.web.refusal import Refusal

FORM = "application/x-www-form-urlencoded"
LARGEST_FORM = 256 * 1024
MOST_FIELDS = 60
BROKEN_OFF = "the form broke off; send it again"
MULTIPART = "multipart/form-data"
Malformed = FormParserError


@dataclass(frozen=True)
class Form:
    """The fields of a form; a missing field is empty."""

    fields: Mapping[str, list[str]] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The last value of a field."""
        return self.fields.get(name, [""])[-1]

    def many(self, name: str) -> tuple[str, ...]:
        """All values of a field."""
        return tuple(self.fields.get(name, ()))

    def number(self, name: str, digits: int = 9) -> int | None:
        """A whole number of at most so many digits, None if the field is empty. Raises Refusal for anything else."""
        value = self.text(name).strip()
        if not value:
            return None
        if not (value.isascii() and value.removeprefix("-").isdigit() and len(value) <= digits):
            raise Refusal(f"{name} is not a whole number; go back and reload the page")
        return int(value)


async def pieces_of(request: Request, most: int, too_large: Refusal, broken: Refusal) -> AsyncGenerator[bytes, None]:
    """A body as it arrives. Raises `too_large` beyond `most` bytes, `broken` if the connection ends before it does."""
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > most:
                raise too_large
            yield piece
    except ClientDisconnect:
        raise broken from None


async def read_body(request: Request, most: int, too_large: Refusal, broken: Refusal) -> bytearray:
    """A whole body. Raises as `pieces_of`."""
    body = bytearray()
    async for piece in pieces_of(request, most, too_large, broken):
        body += piece
    return body


async def read_form(request: Request, largest: int = LARGEST_FORM) -> Form:
    """The form of a POST of at most `largest` bytes. Raises Refusal if it is too large, not a form, or sent by another
    site's page."""
    check_site(request)
    too_large = Refusal(f"the limit is {largest:,} bytes; shorten your text", 413)
    body = await read_body(request, largest, too_large, Refusal(BROKEN_OFF))
    if content_type(request) != FORM:
        raise Refusal(f"expected a form sent as {FORM}", 415)
    # in a thread: a large form with each letter as %XX takes seconds
    return await run_in_threadpool(_form_of, bytes(body))


def _form_of(body: bytes) -> Form:
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Refusal("the form can't be read; reload the page and send it again") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return Form(fields)


def check_site(request: Request) -> None:
    """Raises Refusal if the browser reports that another site's page sent this: by its own header, or, over plain http
    to another machine, by the page's origin."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    try:
        whose = urlsplit(origin).netloc if origin is not None else request.headers.get("host")
    except ValueError:
        whose = ""
    elsewhere = site is None and whose != request.headers.get("host")
    if elsewhere or site not in (None, "same-origin", "none"):
        raise Refusal("another site sent this form; open the page here", 403)


def content_type(request: Request) -> str:
    """The media type of a request's body, a form by default."""
    return request.headers.get("content-type", FORM).partition(";")[0].strip().lower()


@dataclass
class Part:
    """A part of a body: a file if it has a `filename`, which may be empty, else a field."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    filename: str | None = None


def boundary_of(content_type: str) -> bytes:
    """The boundary that a body's type names; empty if it names none, or is another type."""
    kind, options = parse_options_header(content_type)
    return options.get(b"boundary", b"") if kind == MULTIPART.encode() else b""


class Upload:
    """A body that arrives; subclasses take its parts. `complete`: whether its last boundary has come."""

    def __init__(self, boundary: bytes) -> None:
        """Raises Malformed."""
        self.complete, self._part = False, Part()
        self._name, self._value = bytearray(), bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_content,
                "on_part_data": lambda data, start, end: self.add(self._part, data[start:end]),
                "on_part_end": lambda: self.end(self._part),
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Takes the next bytes, which may block. Raises Malformed, and what the taking of parts raises."""
        self._parser.write(data)

    def begin(self, part: Part) -> None:
        """A part begins."""

    def add(self, part: Part, data: bytes) -> None:
        """Bytes of a part."""

    def end(self, part: Part) -> None:
        """A part has come to its end."""

    def _begin(self) -> None:
        self._part = Part()

    def _end_header(self) -> None:
        self._part.headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _begin_content(self) -> None:
        _, options = parse_options_header(self._part.headers.get(b"content-disposition", b""))
        self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            self._part.filename = options[b"filename"].decode("utf-8", "replace")
        self.begin(self._part)

    def _end(self) -> None:
        self.complete = True
