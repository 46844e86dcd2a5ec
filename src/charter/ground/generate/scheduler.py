"""The order of requests: they wait in line by account, and accounts take turns by the work done for them.

The next account is the one with the fewest tokens read and written. An account without waiting requests starts level
with the others, so that nobody saves up turns (fair queueing by served tokens, as in Sheng et al. 2024). Within an
account the first request comes first. With one account, as in rooms, this is a plain queue. Background requests have a
line of their own, after the other one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heapreplace

from charter.ground.generate.engine_limits import Bounds, Overloaded
from charter.ground.generate.requests import Request

WRITTEN = 4  # writing a token takes about as long as reading this many
REMEMBERED = 1000  # accounts with nothing waiting whose work is remembered


class _Line:
    """The requests that wait with one priority."""

    def __init__(self) -> None:
        self.waiting: dict[str, deque[Request]] = {}
        self.served: dict[str, int] = {}
        self._level = 0  # of the account that had the last turn: nobody begins below it
        self.count, self.tokens = 0, 0

    def __iter__(self) -> Iterator[Request]:
        heap = [(self.served[account], line[0].number, account, 0) for account, line in self.waiting.items()]
        heapify(heap)
        while heap:
            served, _, account, place = heap[0]
            line = self.waiting[account]
            request = line[place]
            yield request
            if place + 1 < len(line):
                work = served + request.unread
                heapreplace(heap, (work, line[place + 1].number, account, place + 1))
            else:
                heappop(heap)

    def add(self, request: Request) -> None:
        account = request.account
        if account not in self.waiting:
            level = min((self.served[name] for name in self.waiting), default=self._level)
            # a little before them: the first of the level accounts has been served already
            self.served[account] = max(self.served.get(account, 0), level - 1)
            self.waiting[account] = deque()
        self.waiting[account].append(request)
        self.count += 1
        self.tokens += len(request.prompt)

    def remove(self, request: Request) -> None:
        line = self.waiting[request.account]
        if line[0] is request:
            line.popleft()
        else:
            line.remove(request)
        self.count -= 1
        self.tokens -= len(request.prompt)
        if not line:
            del self.waiting[request.account]
            self._level = max(self._level, self.served[request.account])
            self._forget()

    def charge(self, account: str, tokens: int) -> None:
        self.served[account] = self.served.get(account, self._level) + tokens

    def _forget(self) -> None:
        """Forgets accounts below the level, which no longer matter."""
        if len(self.served) > len(self.waiting) + REMEMBERED:
            above = {account: work for account, work in self.served.items() if work > self._level}
            self.served = above | {account: self.served[account] for account in self.waiting}


class Turns:
    """The queue of an engine. It iterates over the requests in the order in which to read them now."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._lines = {False: _Line(), True: _Line()}
        self._known: dict[int, Request] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Request]:
        yield from self.line(False)
        yield from self.line(True)

    def line(self, background: bool) -> Iterator[Request]:
        """The order of one of the two lines."""
        return iter(self._lines[background])

    @property
    def accounts(self) -> set[str]:
        """The accounts whose prompts wait, without the background."""
        return set(self._lines[False].waiting)

    @property
    def tokens(self) -> int:
        """Tokens of all waiting prompts."""
        return self._lines[False].tokens + self._lines[True].tokens

    def add(self, request: Request, free: int) -> None:
        """Puts a request in line. Requests for the `free` slots don't count, and one text of any length may wait alone.
        Raises Overloaded."""
        line, bounds = self._lines[request.background], self._bounds
        account_line = line.waiting.get(request.account, ()) if request.account else ()
        limits = (
            (1.0, line.count, line.tokens),
            (bounds.share, len(account_line), sum(len(queued.prompt) for queued in account_line)),
        )
        for share, count, tokens in limits:
            if bounds.waiting and count and count >= share * bounds.waiting + free:
                raise Overloaded(f"{count} requests", share < 1)
            if bounds.waiting_tokens and tokens and tokens + len(request.prompt) > share * bounds.waiting_tokens:
                raise Overloaded(f"prompts of {tokens} tokens", share < 1)
        line.add(request)
        self._known[request.number] = request

    def take(self, request: Request) -> None:
        """Removes a request whose prompt is read."""
        del self._known[request.number]
        self._lines[request.background].remove(request)

    def drop(self, number: int) -> Request | None:
        """Removes a cancelled request if it waits."""
        request = self._known.get(number)
        if request is not None:
            self.take(request)
        return request

    def charge(self, request: Request, tokens: int) -> None:
        """Counts the work done for a request."""
        self._lines[request.background].charge(request.account, tokens)
