"""The limits of one engine: memory, queue, and the refusal beyond them."""

from __future__ import annotations

from dataclasses import dataclass

from charter.ground.artifact.errors import CharterError

CACHE_BYTES = 4 * 2**30  # of keys and values of all slots


@dataclass(frozen=True, slots=True)
class Bounds:
    """`memory`: bytes of keys and values of all slots; long texts get fewer slots, at least one, and wait for their
    turn. The rest is for servers and off at 0. `kept`: bytes of keys and values that stay after a text is done, for
    prompts that begin alike. `chunk`: tokens of prompts read between two tokens of running replies. `waiting`,
    `waiting_tokens`: requests that may wait beyond the free slots, and the tokens of their prompts. `share`: the part
    of the queue that one account may have."""

    memory: int = CACHE_BYTES
    kept: int = 0
    chunk: int = 0
    waiting: int = 0
    waiting_tokens: int = 0
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Stats:
    """An engine at one moment: waiting requests and tokens of their prompts, all slots and busy ones. Since its start:
    tokens of prompts read, tokens reused from earlier prompts, tokens written. Bytes of the slots' buffers and of kept
    beginnings."""

    waiting: int
    waiting_tokens: int
    slots: int
    busy: int
    read: int
    reused: int
    written: int
    cache_bytes: int
    kept_bytes: int


class Overloaded(CharterError):
    """The refusal of a request because too many wait. `own`: its own account has used up its share; `queue`: the name
    of the queue."""

    def __init__(self, what: str, own: bool, queue: str = "replies") -> None:
        whose = "of yours wait already, your share" if own else "wait already, as many as there may be"
        super().__init__(f"{what} {whose}; try again when some are answered")
        self.own, self.queue = own, queue
