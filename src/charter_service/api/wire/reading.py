"""Reading a request: its caller, and its body checked against the API's shapes.

A large text of JSON is read piece by piece, with rests in between: Python's own reader blocks all threads until it is
done, which takes seconds for the largest batch. Results and errors are the same either way.
"""

from __future__ import annotations

import codecs
import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from json import decoder
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from charter.ground.settings.problems import UNKNOWN, misspelt_first, suggest_key
from charter_service.accounts.keys import ANONYMOUS, Caller
from charter_service.api.errors import ApiError, invalid
from charter_service.api.model_request import WHOSE, Call
from charter_service.api.service import Service
from charter_service.api.wire.streaming import unless_gone
from charter_service.web import forms
from charter_service.web.guard import address_of
from charter_service.web.listening import LOOPBACK
from charter_service.web.tokens import digest_of

LARGE = 2**18  # bytes; a smaller text is read at once
WINDOWS = (2**10, 2**13, 2**16)  # characters within which a whole object or array is searched
DECODED = 2**20  # bytes at a time
WORK_SECONDS = 0.002  # between two rests
DEEPEST = 200  # nested brackets
MOST_PARTS = 100_000  # objects and arrays of one request: each is visited more than once
MOST_STEPS = 2**20  # values read one by one, since their container is large
_TOO_DEEP = f"more than {DEEPEST} nested brackets"
T = TypeVar("T")
B = TypeVar("B", bound=BaseModel)
LARGEST_BODY = 32 * 2**20  # bytes, as Anthropic's reference says for messages
LARGEST_BATCH = 256 * 2**20
ADDRESSES = ("127.0.0.1", "::1")
# what shows a proxy
FORWARDED = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "via",
)
ELSEWHERE = ("cross-site", "same-site")  # what browsers say of a page that isn't this server's own
LONGEST_PLACE = 300  # characters of the name of a place that is wrong


class Pace:
    """Long work calls it often, and it rests after a while for as long as the work took: other threads get the
    interpreter for half of the time. Work that nobody waits for any more ends with an error."""

    def __init__(self, gone: threading.Event | None = None) -> None:
        self._since, self._gone = time.monotonic(), gone

    def __call__(self) -> None:
        """Rests if it is time."""
        if self._gone is not None and self._gone.is_set():
            raise ApiError(499, "the client went before its body was read")
        if (worked := time.monotonic() - self._since) > WORK_SECONDS:
            time.sleep(worked)
            self._since = time.monotonic()


def read_json(raw: bytes | bytearray, parts: int | None = MOST_PARTS, gone: threading.Event | None = None) -> Any:
    """The JSON in these bytes. Raises ApiError, also for more objects and arrays than `parts`. Read a text beyond
    `LARGE` beside the event loop; it ends if its client is `gone`."""
    try:
        pace = Pace(gone) if len(raw) > LARGE else _go_on
        text = _decode(raw, pace)
        # numbers that JSON lacks (NaN, Infinity) are not numbers here either
        reader = _Stepping(pace) if len(raw) > LARGE else json.JSONDecoder(parse_constant=_refuse_constant)
        value = reader.decode(text)
        _check(value, any(half in text for half in ("\\ud", "\\uD")), parts, pace)
    except (UnicodeError, ValueError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {_describe(error)}") from None
    return value


class _Stepping(json.JSONDecoder):
    """Reads small values at once, and larger objects and arrays step by step in Python."""

    def __init__(self, pace: Callable[[], None]) -> None:
        super().__init__(parse_constant=_refuse_constant)
        self._pace, self._keys, self._left = pace, dict[str, str](), MOST_STEPS
        self._at_once: Any = self.scan_once  # type: ignore[has-type]
        self.scan_once = self._step

    def _step(self, text: str, at: int) -> tuple[Any, int]:
        self._pace()
        self._left -= 1
        if self._left < 0:
            raise invalid(f"the body has more than {MOST_STEPS:,} values in lists; send less at a time")
        opening = text[at : at + 1]
        if opening not in ("{", "["):
            return self._at_once(text, at)  # type: ignore[no-any-return]
        for size in WINDOWS:
            # a value cut by the window looks wrong: the next, larger window decides
            with suppress(ValueError, StopIteration):
                value, end = self._at_once(text[at : at + size], 0)
                return value, at + end
        if opening == "{":
            return decoder.JSONObject((text, at + 1), True, self._step, None, None, self._keys)  # type: ignore
        return decoder.JSONArray((text, at + 1), self._step)  # type: ignore


def _decode(raw: bytes | bytearray, pace: Callable[[], None]) -> str:
    def pieces() -> Iterable[bytes]:
        for start in range(0, len(raw), DECODED):
            pace()
            yield bytes(raw[start : start + DECODED])

    return "".join(codecs.iterdecode(pieces(), "utf-8"))


def _describe(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not valid UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return "half a surrogate pair is not a character"
    return _TOO_DEEP if isinstance(error, RecursionError) else str(error)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _check(value: Any, halves: bool, most: int | None, pace: Callable[[], None]) -> None:
    """Raises RecursionError if brackets are nested too deeply, ApiError for more pairs than `most`, and with `halves`
    UnicodeEncodeError if a text has half a surrogate pair."""
    level: list[Any] = [[value]]
    count = 0
    for _ in range(DEEPEST + 1):
        inner = []
        for container in level:
            pace()
            parts = container if isinstance(container, list) else container.values()
            if halves:
                for text in parts if isinstance(container, list) else (*container, *parts):
                    if isinstance(text, str):
                        text.encode("utf-8")
            inner += [part for part in parts if isinstance(part, dict | list)]
        if not inner:
            return
        if most is not None and (count := count + len(inner)) > most:
            raise invalid(f"the body has more than {most:,} objects and arrays; send less at a time")
        level = inner
    raise RecursionError(_TOO_DEEP)


def _go_on() -> None:
    """No rest."""


def service_of(request: Request) -> Service:
    """The server's parts."""
    service: Service = request.app.state.service
    return service


async def call_of(request: Request, scope: str = "messages") -> Call:
    """The caller of a request, by `x-api-key` or `Authorization: Bearer`. Raises ApiError: 401 without a valid key, 403
    if the key lacks the scope."""
    caller = await caller_of(request)
    if not caller.may(scope):
        raise ApiError(403, f"this key lacks the scope {scope}; it has {', '.join(caller.scopes) or 'none'}")
    row, surface = request.state.row, str(request.scope["route"].name)
    row.organisation, row.key, row.surface = caller.organisation, caller.key, surface[:32]
    return Call(caller, request.state.request_id, surface, row=row)


async def caller_of(request: Request) -> Caller:
    """The key's owner, to whom the body counts from now on."""
    caller = await _caller(request)
    request.state.caller = caller
    request.state.body.claim(caller.organisation)
    request.state.standing = service_of(request).conduct.standing(caller.organisation).level
    WHOSE.set(caller.organisation)
    return caller


async def _caller(request: Request) -> Caller:
    service = service_of(request)
    if not service.config.authenticate:
        if not is_local(request):
            raise ApiError(
                403,
                "without keys this server answers only programs on this machine, at its own address 127.0.0.1, and no "
                "pages from elsewhere",
            )
        return ANONYMOUS
    if not (secret := secret_of(request)):
        raise ApiError(401, "no API key: send it as the header x-api-key, or as Authorization: Bearer")
    return await service.find_caller(secret)


def counting_headers(service: Service, call: Call) -> dict[str, str]:
    """Admits a call that counts, cuts or joins tokens; returns the headers of its answer. Raises ApiError, 429, beyond
    the key's limit of such calls."""
    factor = service.conduct.standing(call.caller.organisation).factor
    return service.admissions.count(call.caller, factor)


def secret_of(request: Request) -> str:
    """The key of a request, "" if it has none."""
    if secret := request.headers.get("x-api-key", ""):
        return secret
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine, without a proxy, to one of its own names, and from no other site's
    page: such a page could make a browser here send one, to this machine's name or to a name that leads here."""
    if address_of(request.scope) not in ADDRESSES or any(name in request.headers for name in FORWARDED):
        return False
    if request.headers.get("sec-fetch-site", "").lower() in ELSEWHERE:
        return False
    try:
        origin = request.headers.get("origin")
        whose = request.url.hostname if origin is None else urlsplit(origin).hostname
        return request.url.hostname in LOOPBACK and whose in LOOPBACK
    except ValueError:
        return False


def address_of_server(request: Request) -> str:
    """The server's address by the client's own headers; empty if they hold no address."""
    try:
        return str(request.base_url).rstrip("/")
    except ValueError:
        return ""


async def body_of(request: Request, form: type[B], most: int | None = None) -> B:
    """The body as `form`. Raises ApiError that names the problem: 413 if it is too large, else 400."""
    return await read_body(request, lambda value: checked(value, form), LARGEST_BODY if most is None else most)


def checked(value: Any, form: type[B]) -> B:
    """JSON as `form`. Raises ApiError naming the place, such as `messages.0.content: Field required`."""
    if not isinstance(value, dict):
        raise invalid("the body must be a JSON object")
    try:
        return form.model_validate(value)
    except ValidationError as error:
        raise problem_of(error, form) from None


def problem_of(error: ValidationError, form: type[BaseModel], *within: str | int) -> ApiError:
    """The first problem in a body of this form, or in its part `within`; an unknown field comes first, with the likely
    meaning."""
    first = misspelt_first(error.errors(include_url=False, include_input=False))
    place = ".".join(str(part) for part in (*within, *first["loc"]))[:LONGEST_PLACE]
    words = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == UNKNOWN:
        words += f"; {suggest_key(form, first['loc'])}"
    return invalid(f"{place}: {words}" if place else words, place or None)


async def json_of(request: Request, most: int) -> Any:
    """The body's JSON, of at most `most` bytes."""
    return await read_body(request, lambda value: value, most)


async def read_body(request: Request, build: Callable[[Any], T], most: int, parts: int | None = MOST_PARTS) -> T:
    """The result of `build` on the body's JSON; a large one is read beside the event loop, which others need."""
    too_large = ApiError(413, f"the body is over {most // 2**20} MiB; send less")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise too_large  # the rest is discarded, and the connection stays open
    broken = ApiError(400, "the connection ended before the body did")
    raw = await forms.read_body(request, most, too_large, broken)
    if len(raw) <= LARGE:
        return build(read_json(raw, parts))
    gone = threading.Event()
    reading = service_of(request).aside(request.state.caller, lambda: build(read_json(raw, parts, gone)))
    try:
        return await unless_gone(request, reading)
    finally:
        gone.set()


def user_digest(user: str | None) -> str:
    """The stored form of a caller's id for its user: a digest, empty without one."""
    return digest_of(user) if user else ""
