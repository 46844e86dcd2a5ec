"""How an engine reads the prompts that wait, behind one interface: together in one row behind what they share, as rooms
want it, or (`chunks`) piece by piece behind what is kept, as servers do."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Protocol

from charter.ground.generate.prefill import Prefix, common_prefix, prefill, read_prefixes
from charter.ground.generate.requests import Request
from charter.ground.generate.scheduler import Turns
from charter.ground.model.cache import Cache
from charter.ground.model.transformer import Transformer

ROW_TOKENS = 2048


class Reader(Protocol):
    """`begin`, then `takes` for one request after the other until it is `full`, then `read`: once in a step."""

    tokens: int  # read, since it was made
    reused: int  # found kept

    @property
    def piece(self) -> int:
        """Tokens that are read at a time while others wait; 0: all."""
        ...

    @property
    def full(self) -> bool:
        """It declined one, and would decline any other in this step."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        ...

    def rest(self) -> None:
        """Nothing is under way: the weights may be others from now on."""
        ...

    def renew(self, waiting: Iterable[Request]) -> None:
        """The weights are others now: nothing read by the old ones serves later texts; what is read in part of the
        requests that wait is read again."""
        ...

    def begin(self, several: bool) -> None:
        """A step begins; `several` accounts ask."""
        ...

    def takes(self, request: Request, queue: Turns, slot: int) -> bool:
        """Whether a request is read in this step, if only in part; its first sample would have `slot`."""
        ...

    def read(self, cache: Cache) -> list[Request]:
        """Reads what was taken; returns the requests whose prompts are read to the end, in the order taken."""
        ...

    def drop(self, request: Request) -> None:
        """A request that waited is wanted no more."""
        ...


class Together:
    """Reads whole prompts in one row, behind what they share with the first, which is kept while they come one after
    the other. What is sampled next depends on nothing before it: nothing is kept when the engine rests."""

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self._prefix: Prefix | None = None
        self._opening: Prefix | None = None  # of the prompts taken in this step
        self._taken: list[Request] = []
        self._row = 0
        self.full = False
        self.tokens, self.reused, self.nbytes, self.piece = 0, 0, 0, 0  # nothing is kept for later

    def rest(self) -> None:
        """Forgets the prefix."""
        self._prefix = None

    def renew(self, waiting: Iterable[Request]) -> None:
        """Forgets the prefix."""
        self._prefix = None

    def begin(self, several: bool) -> None:
        """A step begins; `several` accounts ask."""
        self._taken, self._row, self._opening, self.full = [], 0, None, False

    def takes(self, request: Request, queue: Turns, slot: int) -> bool:
        """Whether a prompt goes into this step's row, with its shared beginning and within its length."""
        if not self._taken:
            self._opening = self._shared(request, queue)
        shared = len(self._opening.ids) if self._opening else 0
        alike = self._opening is None or self._opening.opens(request.prompt)
        self._row += len(request.prompt) - shared
        if self._taken and not (alike and self._row <= ROW_TOKENS):
            self.full = True
            return False
        self._taken.append(request)
        self.tokens += len(request.prompt) - shared
        queue.charge(request, len(request.prompt) - shared)
        return True

    def read(self, cache: Cache) -> list[Request]:
        """Reads all that were taken."""
        found = prefill(self._model, [request.prompt for request in self._taken], self._opening)
        for request, read in zip(self._taken, found, strict=True):
            request.read = read
        return self._taken

    def drop(self, request: Request) -> None:
        """Has nothing of it."""

    def _shared(self, head: Request, queue: Turns) -> Prefix | None:
        """What the next prompt that is to be read shares with the one after it, kept while it serves half as well."""
        other = [one.prompt for one in islice((one for one in queue if one is not head), 1)]
        shared = common_prefix([head.prompt, *other])
        kept = self._prefix
        if kept is None or not kept.opens(head.prompt) or 2 * len(kept.ids) < shared:
            ids = head.prompt[:shared]
            self._prefix = Prefix(ids, read_prefixes(self._model, [ids])) if ids else None
            self.tokens += len(ids)
        return self._prefix
