"""Reading a request: who makes it, and its body checked against what the API takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from charter.ground.settings.problems import UNKNOWN, misspelt_first, suggest_key
from charter.service.accounts.keys import ANONYMOUS, Caller
from charter.service.api.asked import WHOSE, Call
from charter.service.api.errors import ApiError, api_error, invalid
from charter.service.api.service import Service
from charter.service.api.wire.json_body import LARGE, MOST_PARTS, read_json
from charter.service.api.wire.streaming import unless_gone
from charter.service.web.listening import LOOPBACK
from charter.service.web.security_headers import address_of
from charter.service.web.tokens import digest_of

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


def service_of(request: Request) -> Service:
    """The server's parts."""
    service: Service = request.app.state.service
    return service


async def call_of(request: Request, scope: str = "messages") -> Call:
    """Who makes a request, by `x-api-key` or `Authorization: Bearer`. Raises ApiError: 401 without a valid key, 403
    where the key lacks the scope."""
    caller = await caller_of(request)
    if not caller.may(scope):
        raise ApiError(403, f"this key lacks the scope {scope}; it has {', '.join(caller.scopes) or 'none'}")
    return Call(caller, request.state.request_id, request.scope["route"].name)


async def caller_of(request: Request) -> Caller:
    """The key's owner, whose the body is from now on."""
    found = await _caller(request)
    request.state.caller = found
    request.state.body.claim(found.organisation)
    request.state.standing = service_of(request).conduct.standing(found.organisation).level
    WHOSE.set(found.organisation)
    return found


async def _caller(request: Request) -> Caller:
    service = service_of(request)
    if not service.config.authenticate:
        if not is_local(request):
            raise ApiError(
                403,
                "without keys only programs on this machine are served, by its own address 127.0.0.1; a page from "
                "elsewhere is not",
            )
        return ANONYMOUS
    if not (secret := secret_of(request)):
        raise ApiError(401, "no API key: send it as the header x-api-key, or as Authorization: Bearer")
    try:
        return await service.find_caller(secret)
    except Exception as error:
        raise api_error(error) from None


def counting_headers(service: Service, call: Call) -> dict[str, str]:
    """Takes in a call that counts, cuts or joins tokens; the headers of its answer. Raises ApiError, 429, beyond the
    key's limit of such calls."""
    factor = service.conduct.standing(call.caller.organisation).factor
    try:
        return service.admissions.count(call.caller, factor)
    except Exception as error:
        raise api_error(error) from None


def secret_of(request: Request) -> str:
    """The key that a request carries, "" for none."""
    if secret := request.headers.get("x-api-key", ""):
        return secret
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine, through no proxy, by one of its own names, and from no page of
    elsewhere: a browser here may be made to send one, by its own name or by a name that leads here."""
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
    """How the client reaches this server, as it says itself; empty where what it says is no address."""
    try:
        return str(request.base_url).rstrip("/")
    except ValueError:
        return ""


async def body_of(request: Request, form: type[B], most: int = LARGEST_BODY) -> B:
    """The body as `form`. Raises ApiError that names what is wrong: 413 for one that is too large, else 400."""
    return await read_body(request, lambda found: checked(found, form), most)


def checked(found: Any, form: type[B]) -> B:
    """JSON as `form`. Raises ApiError naming the place, such as `messages.0.content: Field required`."""
    if not isinstance(found, dict):
        raise invalid("the body must be a JSON object")
    try:
        return form.model_validate(found)
    except ValidationError as error:
        raise problem_of(error, form) from None


def problem_of(error: ValidationError, form: type[BaseModel], *within: str | int) -> ApiError:
    """The first thing that is wrong in a body of this form, or in the part of one that stands `within`; an unknown
    field comes first, with what may be meant."""
    first = misspelt_first(error.errors(include_url=False, include_input=False))
    place = ".".join(str(part) for part in (*within, *first["loc"]))[:LONGEST_PLACE]
    words = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == UNKNOWN:
        words += f"; {suggest_key(form, first['loc'])}"
    return invalid(f"{place}: {words}" if place else words, place or None)


async def json_of(request: Request, most: int) -> Any:
    """The body's JSON, read no further than `most` bytes."""
    return await read_body(request, lambda found: found, most)


async def read_body(
    request: Request, read: Callable[[Any], T], most: int, parts: int | None = MOST_PARTS
) -> T:
    """What `read` makes of the body's JSON: of a large one beside the event loop, which others wait for."""
    too_large = ApiError(413, f"the body is over {most // 2**20} MiB; send less")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise too_large  # what is on its way is thrown away, and the connection lives on
    raw = bytearray()
    try:
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > most:
                raise too_large
    except ClientDisconnect:
        raise ApiError(400, "the connection ended before the body did") from None
    if len(raw) <= LARGE:
        return read(read_json(raw, parts))
    gone = threading.Event()
    reading = service_of(request).aside(request.state.caller, lambda: read(read_json(raw, parts, gone)))
    try:
        return await unless_gone(request, reading)
    finally:
        gone.set()


def user_digest(user: str | None) -> str:
    """What is kept of the id that a caller gives its user: a digest, empty without one."""
    return digest_of(user) if user else ""
