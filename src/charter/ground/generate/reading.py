"""How an engine reads waiting prompts, behind one interface: for rooms together in one row behind their shared prefix,
for servers (`chunks`) piece by piece behind kept beginnings."""

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

    tokens: int  # read, since the start
    reused: int  # taken from kept beginnings

    @property
    def piece(self) -> int:
        """How many tokens are read at a time while others wait; 0: all."""
        ...

    @property
    def full(self) -> bool:
        """Whether it declined a request and would decline any other in this step."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of kept beginnings."""
        ...

    def rest(self) -> None:
        """Nothing runs: the weights may change from now on."""
        ...

    def renew(self, waiting: Iterable[Request]) -> None:
        """The weights have changed: later texts use nothing that the old ones read; partly read prompts of `waiting`
        requests are read again."""
        ...

    def begin(self, several: bool) -> None:
        """Begins a step; `several` accounts have requests."""
        ...

    def takes(self, request: Request, queue: Turns, slot: int) -> bool:
        """Whether this step reads a request, at least partly; its first sample would have `slot`."""
        ...

    def read(self, cache: Cache) -> list[Request]:
        """Reads the requests taken; returns those whose prompts are read to the end, in the same order."""
        ...

    def drop(self, request: Request) -> None:
        """Drops a cancelled request that waited."""
        ...


class Together:
    """Reads whole prompts in one row, behind the prefix that they share with the first one. The prefix is kept for the
    next prompts until the engine rests, so that later samples depend on nothing before them."""

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
        """Begins a step; `several` accounts have requests."""
        self._taken, self._row, self._opening, self.full = [], 0, None, False

    def takes(self, request: Request, queue: Turns, slot: int) -> bool:
        """Whether a prompt goes into this step's row: it has the shared beginning, and the row has room."""
        if not self._taken:
            self._opening = self._share_prefix(request, queue)
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
        results = prefill(self._model, [request.prompt for request in self._taken], self._opening)
        for request, prefilled in zip(self._taken, results, strict=True):
            request.read = prefilled
        return self._taken

    def drop(self, request: Request) -> None:
        """Does nothing: it holds no partly read prompts."""

    def _share_prefix(self, head: Request, queue: Turns) -> Prefix | None:
        """The prefix that the next prompt shares with the one after it. The old prefix stays while it is at least half
        as long."""
        second = [request.prompt for request in islice((request for request in queue if request is not head), 1)]
        shared = common_prefix([head.prompt, *second])
        prefix = self._prefix
        if prefix is None or not prefix.opens(head.prompt) or 2 * len(prefix.ids) < shared:
            ids = head.prompt[:shared]
            self._prefix = Prefix(ids, read_prefixes(self._model, [ids])) if ids else None
            self.tokens += len(ids)
        return self._prefix
