"""A route of the API, and the version of the API (`anthropic-version`) that a program was written for.

What a route declares, it reads in this order: the key, the version, the body: nobody without a key makes the server
read more than a form. The OpenAPI document shows the same declaration.

There are three versions. In 2023-01-01 the streams of /v1/complete repeat all of the text and end with [DONE];
2023-06-01 sends only new text. 2026-10-21 no longer takes (Anthropic's reference, "versions") sampling settings, a
document directly in a turn of the assistant, and citations on a user's text. The published client of today sends this
version, so that it can't be left out; what it refuses is refused here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast, get_type_hints

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from charter.ground.settings.problems import suggest
from charter_service.api.errors import ApiError, api_error, invalid
from charter_service.api.wire.offered import BETAS, FIELDS, HEADERS
from charter_service.api.wire.reading import body_of, call_of
from charter_service.web import site

Version = Literal["2023-01-01", "2023-06-01", "2026-10-21"]
VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
NEWEST: Version = "2026-10-21"  # sent by the SDK of today
OLDER: Version = "2023-06-01"
USUAL: Version = OLDER
HEADER = "anthropic-version"
REMOVED = ("temperature", "top_p", "top_k")
BETA = "anthropic-beta"
LONGEST_SHOWN = 100  # characters of a name
H = TypeVar("H", bound=Callable[..., Awaitable[Response]])
Parameter = dict[str, Any]  # a parameter object of the OpenAPI document


def version_of(request: Request) -> Version:
    """The version of a request. Raises ApiError if there is none, or an unknown one."""
    version = request.headers.get(HEADER)
    if version is None:
        raise invalid(f"{HEADER}: header is required; send {HEADER}: {USUAL}", HEADER)
    if version not in VERSIONS:
        raise invalid(f'{HEADER}: "{version[:100]}" is not a valid version; known are {", ".join(VERSIONS)}', HEADER)
    return cast(Version, version)


def check_version(version: Version, body: Any, place: str = "") -> None:
    """Raises ApiError, 400, for what the version refuses in a body, as JSON or as a shape. `place` stands before the
    names of fields."""
    if version != NEWEST:
        return
    for at, problem in _problems(body):
        words = f"{place}{at}: version {NEWEST} {problem}, or send anthropic-version: {OLDER}"
        raise invalid(words, at.split(".")[0])


def _problems(body: Any) -> Iterator[tuple[str, str]]:
    for name in REMOVED:
        if _member(body, name) is not None:
            yield name, "has no such setting; leave it out"
    for number, turn in enumerate(_list(_member(body, "messages"))):
        role = _member(turn, "role")
        for place, block in enumerate(_list(_member(turn, "content"))):
            at, kind = f"messages.{number}.content.{place}", _member(block, "type")
            if role == "assistant" and kind == "document":
                yield at, "takes no `document` in a turn of the assistant; put it into a turn of the user"
            if role == "user" and kind == "text" and _member(block, "citations"):
                yield f"{at}.citations", "takes none on a text of the user; leave them out"


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else ()


def check_headers(request: Request) -> None:
    """Raises ApiError, 400, if a header asks for what is not offered here."""
    for line in request.headers.getlist(BETA):
        for name in (part.strip() for part in line.split(",")):
            if name and name not in BETAS:
                words = f"{BETA}: `{name[:LONGEST_SHOWN]}` names nothing that is offered here"
                raise invalid(f"{words}; leave it out, {suggest(name[:LONGEST_SHOWN], BETAS)}", BETA)
    for header, key in HEADERS.items():
        if request.headers.get(header):
            raise invalid(f"{header}: {FIELDS[key].words}; leave it out", header)


@dataclass(eq=False, repr=False)
class Route(site.Route):
    """The handler gets the request. If keys need a `scope` it gets the call too, and the body if it has such a
    parameter. Without a `scope` it checks the caller itself, or the route is `open` to all. The document shows
    `answer`, and `media` for other types than JSON. `body`: set if the handler reads it itself, with the type that it
    `takes`. `most`: bytes of a body, None for the usual number."""

    method: str
    path: str
    handler: Callable[..., Awaitable[Response]]
    summary: str
    tag: str
    scope: str = ""
    answer: type[BaseModel] | None = None
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    most: int | None = None
    media: str = "application/json"
    takes: str = "application/json"
    open: bool = False

    def __post_init__(self) -> None:
        self._form: type[BaseModel] | None = get_type_hints(self.handler).get("body")
        self.body = self.body or self._form
        surface = self.path.removeprefix("/v1/").split("/{")[0]
        super().__init__(self.method, self.path, self._respond, surface)

    async def _respond(self, request: Request) -> Response:
        try:
            return await self._handle(request)
        except ApiError:
            raise
        except Exception as error:
            raise api_error(error) from error

    async def _handle(self, request: Request) -> Response:
        if not self.scope:
            return await self.handler(request)
        call = await call_of(request, self.scope)
        if VERSION in self.parameters:
            version_of(request)
        check_headers(request)
        if self._form is None:
            return await self.handler(request, call)
        return await self.handler(request, call, await body_of(request, self._form, self.most))


@dataclass
class Routes:
    """The routes of one part of the API: they share a tag, and the scope that keys need."""

    tag: str
    scope: str = ""
    all: list[Route] = field(default_factory=list)

    def add(
        self,
        method: str,
        path: str,
        summary: str,
        answer: type[BaseModel] | None = None,
        *parameters: Parameter,
        **facts: Any,
    ) -> Callable[[H], H]:
        """Adds a route to the decorated handler. `facts`: further fields of the route."""

        def add(handler: H) -> H:
            facts.update(answer=answer, parameters=parameters)
            self.all.append(Route(method, path, handler, summary, self.tag, self.scope, **facts))
            return handler

        return add


def parameter(name: str, place: str, description: str, required: bool = False, **schema: Any) -> Parameter:
    """A query parameter or header; `schema` is JSON Schema, text by default."""
    described = {"name": name, "in": place, "required": required, "description": description}
    return {**described, "schema": schema or {"type": "string"}}


VERSION = parameter(
    HEADER,
    "header",
    "the version of the API that a program was written for",
    required=True,
    type="string",
    enum=list(VERSIONS),
    default=USUAL,
)
PAGING = (
    parameter("limit", "query", "the maximum number", type="integer", minimum=1, maximum=1000, default=20),
    parameter("after_id", "query", "only those after this one"),
    parameter("before_id", "query", "only those before this one"),
)
