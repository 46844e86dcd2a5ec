"""A message as it is written: the events of Anthropic's stream, and the message that they add up to.

The message in one piece is built by the same steps as the stream, so that both are equal, except for a call that was
cut off: a stream has already begun it, but the whole message leaves it out, since its input is not
JSON. A quoted passage that is cited is a text block of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from charter.service.api.model_request import End, Part, Piece, Stop
from charter.service.api.wire.citations import Quoting, Said
from charter.service.api.wire.tool_reading import Heard, Reader
from charter.service.web.tokens import new_id

STOPS: dict[Stop, str] = {
    "end": "end_turn",
    "stop": "stop_sequence",
    "length": "max_tokens",
    "context": "model_context_window_exceeded",
    "refused": "refusal",
}
Event = dict[str, Any]


class Writing:
    """One message being written. `reader` finds calls in the text, None if no tool may be used; `quoting` finds
    citations, None without them; `marked`: the request asked for a cache, so tokens read from one are counted
    separately."""

    def __init__(
        self,
        model: str,
        input_tokens: int,
        *,
        reader: Reader | None,
        marked: bool,
        tier: str = "standard",
        quoting: Quoting | None = None,
    ) -> None:
        self._reader, self._marked, self._input = reader, marked, input_tokens
        self._quoting, self._blank = quoting, ""  # blank text beside a citation, which makes no block
        self._open: Event | None = None  # the unfinished block
        self._json = ""  # of the input of an unfinished call
        self._called = False
        self._pinged = False
        self.message: Event = {
            "id": f"msg_{new_id()}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": input_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 0,
                "service_tier": tier,
            },
        }

    def begin(self) -> Event:
        """The first event."""
        message = {**self.message, "content": [], "usage": dict(self.message["usage"])}
        return {"type": "message_start", "message": message}

    def add(self, part: Part) -> list[Event]:
        """The events of a part of the answer."""
        if isinstance(part, Piece):
            heard = [Heard("text", part.text)] if self._reader is None else self._reader.feed(part.text)
            return self._tell(heard)
        return self._end(part)

    def _tell(self, heard: Iterable[Heard]) -> list[Event]:
        events: list[Event] = []
        for one in heard:
            if one.kind == "text":
                events += self._heard(one.text)
            elif one.kind == "call":
                events += [*self._rest(), *self._close()]
                self._json = ""
                events += self._begin(
                    {"type": "tool_use", "id": f"toolu_{new_id()}", "name": one.text, "input": {}}
                )
            elif one.kind == "input":
                self._json += one.text
                events.append(self._delta({"type": "input_json_delta", "partial_json": one.text}))
            else:
                assert self._open is not None
                self._open["input"] = json.loads(self._json)
                self._called = True
                events += self._close()
        return events

    def _heard(self, text: str) -> list[Event]:
        return self._text(text) if self._quoting is None else self._say(self._quoting.feed(text))

    def _rest(self) -> list[Event]:
        """Ends the text before something else."""
        return [] if self._quoting is None else self._say(self._quoting.end())

    def _say(self, said: Iterable[Said]) -> list[Event]:
        events: list[Event] = []
        for text, citation in said:
            if citation is not None:
                events += [*self._close(), *self._begin({"type": "text", "text": "", "citations": []})]
                events += self._text(text)
                assert self._open is not None
                self._open["citations"].append(citation)
                events += [self._delta({"type": "citations_delta", "citation": citation}), *self._close()]
            elif self._open is None and not (self._blank + text).strip():
                self._blank += text
            else:
                events += self._text(text)
        return events

    def _text(self, text: str) -> list[Event]:
        text, self._blank = self._blank + text, ""
        if not text:
            return []
        events = [] if self._open is not None else self._begin({"type": "text", "text": ""})
        assert self._open is not None
        self._open["text"] += text
        return [*events, self._delta({"type": "text_delta", "text": text})]

    def _begin(self, block: Event) -> list[Event]:
        self._open = block
        index = len(self.message["content"])
        self.message["content"].append(block)
        events: list[Event] = [
            {"type": "content_block_start", "index": index, "content_block": deepcopy(block)}
        ]
        if not self._pinged:
            self._pinged = True
            events.append({"type": "ping"})
        return events

    def _delta(self, delta: Event) -> Event:
        return {"type": "content_block_delta", "index": len(self.message["content"]) - 1, "delta": delta}

    def _close(self) -> list[Event]:
        if self._open is None:
            return []
        self._open = None
        return [{"type": "content_block_stop", "index": len(self.message["content"]) - 1}]

    def _end(self, end: End) -> list[Event]:
        message, events = self.message, list[Event]()
        if self._reader is not None:
            events += self._tell(self._reader.end())
        events += self._rest()
        if end.stop == "refused" and not message["content"]:
            events += self._text(end.reason)
        cut = self._open is not None and self._open["type"] == "tool_use"
        events += self._close()
        delta: Event = {"stop_reason": STOPS[end.stop], "stop_sequence": end.stopped_by}
        if self._called and end.stop == "end":
            delta["stop_reason"] = "tool_use"
        if end.stop == "refused":
            delta["stop_details"] = {"type": "refusal", "category": None, "explanation": end.reason or None}
        cached = min(end.cached_tokens, self._input) if self._marked else 0
        usage = {
            "input_tokens": self._input - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": end.output_tokens,
        }
        events.append({"type": "message_delta", "delta": delta, "usage": usage})
        events.append({"type": "message_stop"})
        message.update(delta)
        message["usage"].update(usage)
        if cut:
            message["content"].pop()
        return events
