"""A message as it is written: the events of Anthropic's stream, and the message that they add up to.

The message in one piece is built by the same steps as the stream, so that both are equal, except for a call that was
cut off: a stream has already begun it, but the whole message leaves it out, since its input is not
JSON. A quoted passage that is cited is a text block of its own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from copy import deepcopy
from typing import Any

from charter_service.api.model_request import LOOP, End, Part, Piece, Stop
from charter_service.api.wire.citations import Quoting, Said
from charter_service.api.wire.tool_reading import Heard, Reader
from charter_service.web.tokens import new_id

STOPS: dict[Stop, str] = {
    "end": "end_turn",
    "stop": "stop_sequence",
    "length": "max_tokens",
    "context": "model_context_window_exceeded",
    "refused": "refusal",
    "loop": "end_turn",
}
REPEATS = {"type": LOOP, "explanation": "the reply repeated itself; `loop_stop` false lets it go on"}
NOWHERE = "not_available"  # Anthropic's word for a region that isn't known
SERVER_CALL = "server_tool_use"
Event = dict[str, Any]


class Writing:
    """One message being written. `reader` finds calls in the text, None if no tool may be used; `quoting` finds
    citations, None without them; `ttl`: for how long the request asked for a cache, so that tokens read from one or put
    into it are counted separately; empty: it didn't; `own`: names of tools that the server runs."""

    def __init__(
        self,
        model: str,
        input_tokens: int,
        *,
        reader: Reader | None,
        ttl: str = "",
        tier: str = "standard",
        quoting: Quoting | None = None,
        own: Collection[str] = (),
    ) -> None:
        self._reader, self._ttl, self._input, self._own = reader, ttl, input_tokens, own
        self._quoting, self._blank = quoting, ""  # blank text beside a citation, which makes no block
        self._last: End | None = None  # of a reply that called server tools
        self._spent = (0, 0, 0, 0)  # tokens of all rounds: input, put into the cache, read from it, output
        self._requests: dict[str, int] | None = {"web_search_requests": 0} if own else None
        self.pending: list[Event] = []  # calls of server tools without a result
        self._open: Event | None = None  # the unfinished block
        self._json = ""  # of the input of an unfinished call
        self._cut: Event | None = None  # the call that was cut off
        self._called = False  # whether the client has to run a tool
        self._pinged = False
        self.message: Event = {
            "id": f"msg_{new_id()}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": {
                **self._usage(input_tokens),
                "service_tier": tier,
                "speed": "standard",
                "inference_geo": NOWHERE,
            },
        }

    def begin(self) -> Event:
        """The first event."""
        # a reply has at least one token; the cache is told of at the end, when the prompt has been read
        usage = {**self.message["usage"], "output_tokens": 1}
        message = {**self.message, "content": [], "usage": usage}
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
                events += self._begin(self._call(one.text))
            elif one.kind == "input":
                self._json += one.text
                events.append(self._delta({"type": "input_json_delta", "partial_json": one.text}))
            else:
                assert self._open is not None
                self._open["input"] = json.loads(self._json)
                if self._open["type"] == SERVER_CALL:
                    self.pending.append(self._open)
                else:
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

    def _call(self, name: str) -> Event:
        own = name in self._own
        kind, prefix = (SERVER_CALL, "srvtoolu") if own else ("tool_use", "toolu")
        return {"type": kind, "id": f"{prefix}_{new_id()}", "name": name, "input": {}}

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
        if self._open is not None and self._open["type"] != "text":
            self._cut = self._open
        events += self._close()
        self._spend(end)
        if self.pending:
            self._last = end
            return events
        return [*events, *self._finish(end)]

    def search(self, name: str, wanted: dict[str, str]) -> list[Event]:
        """The events of a call that the server makes before the model is asked."""
        events = self._begin(self._call(name))
        assert self._open is not None
        self._open["input"] = wanted
        self.pending.append(self._open)
        self._last = End(0, "end")
        written = {"type": "input_json_delta", "partial_json": json.dumps(self._open["input"])}
        return [*events, self._delta(written), *self._close()]

    def _spend(self, end: End) -> None:
        """Adds the tokens of a round."""
        read = min(end.cached_tokens, self._input) if self._ttl else 0
        created = min(end.kept_tokens, self._input - read) if self._ttl else 0
        unread, put, taken, written = self._spent
        self._spent = (
            unread + self._input - read - created,
            put + created,
            taken + read,
            written + end.output_tokens,
        )

    @property
    def written(self) -> int:
        """Tokens that all rounds wrote."""
        return self._spent[3]

    def result(self, call: Event, block: Event) -> list[Event]:
        """The events of a result of a server tool, for a call of `pending`."""
        self.pending.remove(call)
        counts, name = self._requests or {}, f"{call['name']}_requests"
        self._requests = {**counts, name: counts.get(name, 0) + 1}
        return [*self._begin(block), *self._close()]

    def next_round(self, input_tokens: int, tools: bool = True) -> None:
        """Goes on with another reply of the model, to a prompt of so many tokens."""
        self._input, self._reader = input_tokens, Reader() if tools else None

    @property
    def ended(self) -> bool:
        """Whether calls of server tools were the end of the model's reply, so that it may go on: nothing cut it off,
        and no call is left to the client."""
        return self._last is not None and self._last.stop == "end" and not self._called

    def finish(self, reason: str = "") -> list[Event]:
        """The last events, after server tools were used; `reason` why the message ends, by default the model's."""
        assert self._last is not None
        return self._finish(self._last, reason)

    def _finish(self, end: End, reason: str = "") -> list[Event]:
        message = self.message
        delta: Event = {"stop_reason": reason or STOPS[end.stop], "stop_sequence": end.stopped_by}
        if self._called and end.stop == "end":
            delta["stop_reason"] = "tool_use"
        if end.stop == "refused":
            why = {"category": end.category or None, "explanation": end.reason or None}
            delta["stop_details"] = {"type": "refusal", **why}
        elif end.stop == "loop":
            delta["stop_details"] = dict(REPEATS)
        usage = self._usage(*self._spent)
        message.update(delta)
        message["usage"].update(usage)
        message["content"] = [block for block in message["content"] if block is not self._cut]
        return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]

    def _usage(self, unread: int, created: int = 0, read: int = 0, written: int = 0) -> Event:
        """The tokens of the message: the prompt's that were neither put into its cache nor read from it, those that
        were, and the reply's."""
        return {
            "input_tokens": unread,
            "cache_creation_input_tokens": created,
            "cache_read_input_tokens": read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": created if self._ttl == "5m" else 0,
                "ephemeral_1h_input_tokens": created if self._ttl == "1h" else 0,
            },
            "output_tokens": written,
            "output_tokens_details": {"thinking_tokens": 0},
            SERVER_CALL: self._requests,
        }
