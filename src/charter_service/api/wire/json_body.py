"""JSON from bytes. A large text is read piece by piece, with rests in between: Python's own reader blocks all threads
until it is done, which takes seconds for the largest batch.

Results and errors are the same either way.
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

from charter_service.api.errors import ApiError, invalid

LARGE = 2**18  # bytes; a smaller text is read at once
WINDOWS = (2**10, 2**13, 2**16)  # characters within which a whole object or array is searched
DECODED = 2**20  # bytes at a time
WORK_SECONDS = 0.002  # between two rests
DEEPEST = 200  # nested brackets
MOST_PARTS = 100_000  # objects and arrays of one request: each is visited more than once
MOST_STEPS = 2**20  # values read one by one, since their container is large
_TOO_DEEP = f"more than {DEEPEST} nested brackets"


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


def read_json(
    raw: bytes | bytearray, parts: int | None = MOST_PARTS, gone: threading.Event | None = None
) -> Any:
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


def _go_on() -> None:
    """No rest."""
