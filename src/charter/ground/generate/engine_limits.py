"""What one engine may hold and queue, and what it refuses beyond that."""

from __future__ import annotations

from dataclasses import dataclass

from charter.ground.artifact.errors import CharterError

CACHE_BYTES = 4 * 2**30  # of keys and values of all slots


@dataclass(frozen=True, slots=True)
class Bounds:
    """`memory`: bytes of keys and values of all slots; texts so long that not all slots fit get fewer of them, one at
    least, and wait for their turn. The rest is what servers want, and off at 0: `kept`: bytes of keys and values that
    stay when a text is done, for prompts that begin alike; `chunk`: tokens of prompts read between two tokens of those
    who are written to; `waiting`, `waiting_tokens`: requests that may wait beyond the free slots, and the tokens of
    their prompts; `share`: what part of that one account may have."""

    memory: int = CACHE_BYTES
    kept: int = 0
    chunk: int = 0
    waiting: int = 0
    waiting_tokens: int = 0
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Stats:
    """An engine at one moment: requests and tokens of prompts that wait, slots that are busy; since it was made,
    tokens of prompts read, found kept, and tokens written; bytes of the slots' buffers and of what is kept."""

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
    """A request that finds too many waiting; `own`: those of its own account, which has had its share; `queue`: what it
    would have waited in."""

    def __init__(self, what: str, own: bool, queue: str = "replies") -> None:
        whose = "of yours wait already, your share" if own else "wait already, as many as there may be"
        super().__init__(f"{what} {whose}; try again when some are answered")
        self.own, self.queue = own, queue
