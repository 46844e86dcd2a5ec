"""One choice of a chat completion as it is written: the deltas of a stream, and the message that they add up to.

`stop_reason` is vLLM's: the stop sequence that ended the reply, or "repetition"; OpenAI's shape lacks it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from charter_service.api.model_request import End, Part, Piece, Token
from charter_service.api.wire.logprobs import chat_form
from charter_service.api.wire.openai import finish_of, stop_of
from charter_service.api.wire.tool_reading import Heard, Reader
from charter_service.web.tokens import new_id


class Choice:
    """`tools`: look for calls in the text. `top`: how many of the likeliest tokens to show in each place; None: no
    log-probabilities."""

    def __init__(self, index: int, tools: bool, top: int | None) -> None:
        self._index, self._top = index, top
        self._reader = Reader() if tools else None
        self._text = ""
        self._calls: list[dict[str, Any]] = []
        self._complete = 0  # complete calls
        self._tokens: list[Token] = []
        self._refusal: str | None = None
        self._finish: str | None = None
        self._stopped_by: str | None = None

    def begin(self) -> dict[str, Any]:
        """The first chunk's choice."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def add(self, part: Part) -> list[dict[str, Any]]:
        """The choices of the chunks for a part of the answer."""
        if isinstance(part, End):
            return self._end(part)
        self._tokens += part.tokens
        events = self._tell(
            [Heard("text", part.text)] if self._reader is None else self._reader.feed(part.text)
        )
        deltas = events or ([{}] if part.tokens and self._top is not None else [])
        return [self._chunk(delta, part if n == 0 else None) for n, delta in enumerate(deltas)]

    @property
    def whole(self) -> dict[str, Any]:
        """The choice in one piece. A call that was cut off is left out: its arguments are not JSON."""
        calls = self._calls[: self._complete]
        message = {
            "role": "assistant",
            "content": self._text if self._text or not (calls or self._refusal) else None,
            "refusal": self._refusal,
            **({"tool_calls": calls} if calls else {}),
        }
        logprobs = None if self._top is None else chat_form(self._tokens, self._top)
        return {
            "index": self._index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self._finish,
            "stop_reason": self._stopped_by,
        }

    def _tell(self, heard: Iterable[Heard]) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = []
        for one in heard:
            if one.kind == "text" and one.text:
                self._text += one.text
                deltas.append({"content": one.text})
            elif one.kind == "call":
                function = {"name": one.text, "arguments": ""}
                call = {"id": f"call_{new_id()}", "type": "function", "function": function}
                self._calls.append(call)
                delta = {"index": len(self._calls) - 1, **call, "function": dict(function)}
                deltas.append({"tool_calls": [delta]})
            elif one.kind == "input":
                self._calls[-1]["function"]["arguments"] += one.text
                delta = {"index": len(self._calls) - 1, "function": {"arguments": one.text}}
                deltas.append({"tool_calls": [delta]})
            elif one.kind == "called":
                self._complete = len(self._calls)
        return deltas

    def _end(self, end: End) -> list[dict[str, Any]]:
        deltas = self._tell(self._reader.end()) if self._reader is not None else []
        whole = self._complete and self._complete == len(self._calls)
        self._finish = "tool_calls" if whole and end.stop in ("end", "stop") else finish_of(end)
        if end.stop == "refused":
            self._refusal = end.reason
            deltas.append({"refusal": end.reason})
        self._stopped_by = stop_of(end)
        last = {**self._chunk({}), "finish_reason": self._finish, "stop_reason": self._stopped_by}
        return [*(self._chunk(delta) for delta in deltas), last]

    def _chunk(self, delta: dict[str, Any], piece: Piece | None = None) -> dict[str, Any]:
        shown = piece is not None and self._top is not None
        logprobs = chat_form(piece.tokens, self._top or 0) if piece is not None and shown else None
        return {"index": self._index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
