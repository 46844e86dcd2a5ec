"""Bodies of multipart/form-data (RFC 7578), read as they arrive, so that a file goes straight to the disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

MULTIPART = "multipart/form-data"
Malformed = FormParserError


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
