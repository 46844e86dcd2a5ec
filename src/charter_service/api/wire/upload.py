"""The body of an upload, multipart/form-data (RFC 7578): its file is written, hashed and counted while it arrives."""

from __future__ import annotations

import hashlib
import re
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from charter_service.api.errors import ApiError, invalid

TYPE = b"multipart/form-data"
FIELDS = ("file", "expires_in_seconds")
LONGEST_FIELD = 100  # bytes of a field that is no file
AROUND = 2**16  # bytes of a body that aren't the file's
OCTETS = "application/octet-stream"
SHORTEST, LONGEST = 3_600, 90 * 86_400  # seconds until a file expires, as Anthropic's reference says
MIB = 2**20
_MIME = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,48}/[a-z0-9][a-z0-9!#$&^_.+-]{0,48}(?!\n)\Z")


def refusal(reason: str, words: str, status: int = 400) -> ApiError:
    """A refused upload, with its reason as one word for figures."""
    return ApiError(status, words, param="file", reason=reason)


def boundary_of(content_type: str) -> bytes:
    """The boundary that a body's type names. Raises ApiError."""
    kind, options = parse_options_header(content_type)
    if kind != TYPE or not options.get(b"boundary"):
        raise refusal(
            "form", "expected a body of multipart/form-data with a boundary, and in it a part named file"
        )
    return options[b"boundary"]


class Upload:
    """A body that arrives. Its methods block: they write to the disk."""

    def __init__(self, boundary: bytes, blob: BinaryIO, most: int) -> None:
        """`most`: bytes of the file."""
        self._blob, self._most = blob, most
        self._header, self._headers = [b"", b""], dict[bytes, bytes]()
        self._field, self._values, self._ended = "", dict[str, bytes](), False
        self._hash, self.size, self.name, self.mime = hashlib.sha256(), 0, "", OCTETS
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_part_data": self._part_data,
                    "on_header_field": lambda data, start, end: self._add(0, data[start:end]),
                    "on_header_value": lambda data, start, end: self._add(1, data[start:end]),
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise refusal("form", f"the body can't be read: {error}") from None

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes. Raises ApiError, 413 for too large a file, 400 for a malformed body; OSError."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise refusal(
                "form", f"the body is not multipart/form-data: {str(error).lower()[:200]}"
            ) from None

    def finish(self) -> None:
        """Checks that the body is whole. Raises ApiError."""
        if not self._ended:
            raise refusal("form", "the body ended before its last boundary; send it again")
        if "file" not in self._values:
            raise refusal(
                "form", "the body has no part named file with a filename; send the file as this part"
            )
        if not self.size:
            raise refusal("empty", "the file is empty; send one with content")

    @property
    def sha256(self) -> str:
        """The digest of the file so far."""
        return self._hash.hexdigest()

    @property
    def seconds(self) -> int | None:
        """Seconds until the file expires; None if it doesn't. Raises ApiError."""
        if (value := self._values.get("expires_in_seconds")) is None:
            return None
        if not (value.isdigit() and len(value) < 10 and SHORTEST <= int(value) <= LONGEST):
            raise invalid(
                f"expires_in_seconds: expected a whole number from {SHORTEST:,} to {LONGEST:,}",
                "expires_in_seconds",
            )
        return int(value)

    def _add(self, part: int, data: bytes) -> None:
        self._header[part] += data

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value
        self._header = [b"", b""]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        if self._field not in FIELDS:
            raise refusal(
                "form", f"there is no field {self._field[:80]!r} here; expected {' and '.join(FIELDS)}"
            )
        if self._field in self._values:
            raise refusal("form", f"there are two parts named {self._field}; send one file at a time")
        if self._field == "file":
            if b"filename" not in options:
                raise refusal("form", "the part named file has no filename; send it as a file")
            self.name = options[b"filename"].decode("utf-8", "replace")
            mime = self._headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
            self.mime = mime if _MIME.match(mime) else OCTETS
        self._values[self._field] = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._field == "file":
            self.size += len(piece)
            if self.size > self._most:
                raise too_large(self._most)
            self._hash.update(piece)
            self._blob.write(piece)
            return
        self._values[self._field] += piece
        if len(self._values[self._field]) > LONGEST_FIELD:
            raise refusal("form", f"{self._field}: at most {LONGEST_FIELD} characters")

    def _end(self) -> None:
        self._ended = True


def too_large(most: int) -> ApiError:
    """The refusal of a file of more than `most` bytes."""
    return refusal("size", f"the file is over {most // MIB} MiB, the most that a file may have here", 413)
