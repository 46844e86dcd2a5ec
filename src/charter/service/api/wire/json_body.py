"""JSON out of bytes. A large text is read piece by piece, and what reads it rests in between: Python's own reader holds
all threads up until it is done, which takes seconds for the largest batch.

What comes out, and what is refused, is the same either way.
"""

from __future__ import annotations

import codecs
import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from json import decoder
from typing import Any

from charter.service.api.errors import ApiError, invalid

LARGE = 2**18  # bytes; a smaller text is read at once
WINDOWS = (2**10, 2**13, 2**16)  # characters in which an object or array is looked for whole
DECODED = 2**20  # bytes at a time
WORK_SECONDS = 0.002  # between two rests
DEEPEST = 200  # brackets within brackets
MOST_PARTS = 100_000  # objects and arrays of one request: each is looked at more than once
MOST_STEPS = 2**20  # values that are read one by one, since what holds them is large
_TOO_DEEP = f"more than {DEEPEST} brackets within brackets"


class Pace:
    """Called often by work that has time, it rests after a while for as long as the work took: who waits for the
    interpreter meanwhile has it for half of the time. Work that nobody waits for any more ends with an error."""

    def __init__(self, gone: threading.Event | None = None) -> None:
        self._since, self._gone = time.monotonic(), gone

    def __call__(self) -> None:
        """Rests where it is time."""
        if self._gone is not None and self._gone.is_set():
            raise ApiError(499, "the client went before its body was read")
        if (worked := time.monotonic() - self._since) > WORK_SECONDS:
            time.sleep(worked)
            self._since = time.monotonic()


def read_json(
    raw: bytes | bytearray, parts: int | None = MOST_PARTS, gone: threading.Event | None = None
) -> Any:
    """The JSON in these bytes. Raises ApiError, for more objects and arrays than `parts` as well. A text beyond `LARGE`
    is to be read beside the event loop, until its client is `gone`."""
    try:
        pace = Pace(gone) if len(raw) > LARGE else _at_once
        text = _decoded(raw, pace)
        # numbers that JSON lacks (NaN, Infinity) are no numbers here either
        reader = _Stepping(pace) if len(raw) > LARGE else json.JSONDecoder(parse_constant=_no_constant)
        found = reader.decode(text)
        _check(found, any(half in text for half in ("\\ud", "\\uD")), parts, pace)
    except (UnicodeError, ValueError, RecursionError) as error:
        raise invalid(f"the body is no JSON: {_said(error)}") from None
    return found


class _Stepping(json.JSONDecoder):
    """Reads what is small at once, and goes through larger objects and arrays by steps of Python."""

    def __init__(self, pace: Callable[[], None]) -> None:
        super().__init__(parse_constant=_no_constant)
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
            # what is cut off looks wrong: whether it is, tells the next way of reading it
            with suppress(ValueError, StopIteration):
                found, end = self._at_once(text[at : at + size], 0)
                return found, at + end
        if opening == "{":
            return decoder.JSONObject((text, at + 1), True, self._step, None, None, self._keys)  # type: ignore
        return decoder.JSONArray((text, at + 1), self._step)  # type: ignore


def _decoded(raw: bytes | bytearray, pace: Callable[[], None]) -> str:
    def pieces() -> Iterable[bytes]:
        for start in range(0, len(raw), DECODED):
            pace()
            yield bytes(raw[start : start + DECODED])

    return "".join(codecs.iterdecode(pieces(), "utf-8"))


def _said(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not valid UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return "half a surrogate pair is no character"
    return _TOO_DEEP if isinstance(error, RecursionError) else str(error)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _check(found: Any, halves: bool, most: int | None, pace: Callable[[], None]) -> None:
    """Raises RecursionError where brackets stand too deep, ApiError for more pairs than `most`, and with `halves`
    UnicodeEncodeError where a text has half a surrogate pair."""
    level: list[Any] = [[found]]
    count = 0
    for _ in range(DEEPEST + 1):
        inner = []
        for one in level:
            pace()
            parts = one if isinstance(one, list) else one.values()
            if halves:
                for text in parts if isinstance(one, list) else (*one, *parts):
                    if isinstance(text, str):
                        text.encode("utf-8")
            inner += [part for part in parts if isinstance(part, dict | list)]
        if not inner:
            return
        if most is not None and (count := count + len(inner)) > most:
            raise invalid(f"the body has more than {most:,} objects and arrays; send less at a time")
        level = inner
    raise RecursionError(_TOO_DEEP)


def _at_once() -> None:
    """No rest."""
