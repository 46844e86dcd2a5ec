"""What every server tool is: a name, words for the model, the schema of its input, and a run that gives JSON.

A tool runs in a thread of the server, in the caller's turn. What it gives is other people's text: data for the model,
which changes no right of the request.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import idna

from charter.ground.artifact.errors import CharterError

_PART = r"(?:0x[0-9a-f]*|\d+)"
_NUMERIC = re.compile(rf"{_PART}(?:\.{_PART}){{0,3}}")
# Anthropic's codes of a failed tool
Code = Literal[
    "invalid_tool_input", "unavailable", "max_uses_exceeded", "too_many_requests", "query_too_long", "request_too_large"
]


class ToolFailure(CharterError):
    """A tool could not do what the model asked; the model reads the words and may try again."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code


@dataclass(frozen=True, slots=True)
class Domains:
    """Which sites a request lets its searches read; empty `allowed`: all but the `blocked`."""

    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()

    def admit(self, host: str) -> bool:
        """Whether a host, or a domain above it, may be read."""
        host = ascii_host(host)
        if any(_within(host, domain) for domain in self.blocked):
            return False
        return not self.allowed or any(_within(host, domain) for domain in self.allowed)


ANYWHERE = Domains()


def ascii_host(name: str) -> str:
    """A host's or a domain's name as it is resolved: mapped by IDNA (UTS 46) to lower-case ASCII, without the last dot;
    a number as the IPv4 address that it stands for. Raises UnicodeError for what no name can be."""
    try:
        host = idna.encode(name, uts46=True).decode("ascii").rstrip(".")
    except UnicodeError:
        # addresses, and names with underscores, which IDNA doesn't know
        host = name.encode("ascii").decode().lower().rstrip(".")
    try:
        # 1.1, 16843009, 0x1010101 and 01.01.01.01 are all 1.1.1.1
        return socket.inet_ntoa(socket.inet_aton(host)) if _NUMERIC.fullmatch(host) else host
    except OSError:
        return host


def _within(host: str, domain: str) -> bool:
    domain = ascii_host(domain)
    return host == domain or host.endswith(f".{domain}")


class Tool(Protocol):
    """`name` as the model calls it, `kind` as requests name it, and the JSON Schema of its input."""

    name: str
    kind: str
    description: str
    schema: Mapping[str, Any]

    def run(self, arguments: Mapping[str, Any], domains: Domains) -> Mapping[str, Any] | Sequence[Any]:
        """The content of the result's block, as JSON. Blocks the thread for a bounded time. Raises ToolFailure."""
        ...


def text_of(arguments: Mapping[str, Any], name: str, most: int) -> str:
    """A text of the input, of at most `most` characters. Raises ToolFailure."""
    text = arguments.get(name)
    if not isinstance(text, str) or not text.strip():
        raise ToolFailure("invalid_tool_input", f"{name} is missing; give it as text")
    if len(text) > most:
        raise ToolFailure("query_too_long", f"{name} has {len(text)} characters; give at most {most}")
    if "\0" in text:
        raise ToolFailure("invalid_tool_input", f"{name} holds a NUL character; leave it out")
    return text.encode("utf-8", "replace").decode()


def one_text(name: str, description: str, most: int) -> Mapping[str, Any]:
    """The schema of an input with one text."""
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": description, "minLength": 1, "maxLength": most}},
        "required": [name],
        "additionalProperties": False,
    }
