"""The header `anthropic-version`: the version of the API that a program was written for.

There are three. In 2023-01-01 the streams of /v1/complete repeat all of the text and end with [DONE]; 2023-06-01 sends
only new text. 2026-10-21 no longer takes (Anthropic's reference, "versions") sampling settings, a document directly in
a turn of the assistant, and citations on a user's text. The published client of today sends this version, so that it
can't be left out; what it refuses is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, cast

from starlette.requests import Request

from charter_service.api.errors import invalid

Version = Literal["2023-01-01", "2023-06-01", "2026-10-21"]
VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
NEWEST: Version = "2026-10-21"  # sent by the SDK of today
OLDER: Version = "2023-06-01"
USUAL: Version = OLDER
HEADER = "anthropic-version"


def version_of(request: Request) -> Version:
    """The version of a request. Raises ApiError if there is none, or an unknown one."""
    version = request.headers.get(HEADER)
    if version is None:
        raise invalid(f"{HEADER}: header is required; send {HEADER}: {USUAL}", HEADER)
    if version not in VERSIONS:
        raise invalid(
            f'{HEADER}: "{version[:100]}" is not a valid version; known are {", ".join(VERSIONS)}', HEADER
        )
    return cast(Version, version)


REMOVED = ("temperature", "top_p", "top_k")


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
