"""Limits of organisations, keys and end users by minute and by simultaneous requests: token buckets in this process's
memory, which `allowances` stores, with the numbers and the headers of Anthropic's API, and OpenAI's.

All keys of an organisation share its buckets, whose limits are those that an operator set for it, else those of its
largest usable key. A key with other limits has buckets of its own as well, and so has an end user that may take only a
share.

What counts, after Anthropic's rate limits (platform.claude.com/docs/en/api/rate-limits, read in November 2026):

- requests: one each;
- input tokens: estimated when the request comes; those read from a cache are given back when it ends;
- output tokens: as they are written. `max_tokens` plays no part, so running requests may take a bucket below empty;
  then nothing more is admitted until it has refilled. Until 2025 `max_tokens` was reserved when the request came, and
  the rest given back at the end; `Limits.set_output_aside` has that stricter rule;
- simultaneous requests (Anthropic's only limit in 2023).

Calls that count, cut or join tokens have a separate bucket: they take nothing from the requests, and their answers show
the rest of their own bucket.

`anthropic-ratelimit-tokens-*` is the sum of input and output; remaining tokens are rounded to the nearest thousand, and
a reset is the time, RFC 3339, at which the bucket would be full again. A refusal has in `retry-after` the whole
seconds before which another try certainly fails. A request that can never be admitted has `x-should-retry: false`
instead, which both companies' clients obey.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import NamedTuple

from cachetools import LRUCache
from pydantic import Field

from charter.ground.settings.frozen import Frozen
from charter_service.accounts.keys import Caller, KeyLimits
from charter_service.web.refusal import Refusal

MINUTE = 60.0
ROUNDING = 1e-6  # tokens
REQUESTS, INPUT, OUTPUT = "requests", "input-tokens", "output-tokens"
REMEMBERED = 20_000  # accounts at a time; the least recently used is dropped first
BUSY_SECONDS = 1.0  # to wait for a running request to end
PIECE = 500  # accounts that are read at a time, while nobody is admitted
BOUNDS = 1024  # results of `_bounds_of` that are kept
_STARTED = time.time() - time.monotonic()


@dataclass(frozen=True, slots=True)
class Reading:
    """The state of a bucket at a time: its limit a minute, its rest, and the seconds until it is full."""

    limit: int
    remaining: float
    full_in: float
    at: float


State = Mapping[str, Reading]  # by the bucket's name


@dataclass(slots=True)
class Bucket:
    """The rest of a minute's limit, refilled continuously (limit / 60 a second); below zero if more was written than
    was left."""

    level: float
    limit: int

    def refill(self, seconds: float, limit: int) -> None:
        """Adds what came in some seconds, up to the limit."""
        self.limit = limit
        self.level = min(float(limit), self.level + seconds * limit / MINUTE)

    def wait(self, cost: float) -> float:
        """Seconds until `cost` is available; 0 if it is, up to rounding."""
        short = cost - self.level
        return short * MINUTE / self.limit if short > ROUNDING else 0.0

    def read(self, at: float) -> Reading:
        """Its state."""
        return Reading(self.limit, max(0.0, self.level), self.wait(self.limit), at)


@dataclass(slots=True)
class Account:
    """The buckets of `whose` (an organisation, a key or an end user), the time of their last refill, and running
    requests. `limits` by bucket; `concurrency`: most requests at a time."""

    id: str
    whose: str
    buckets: dict[str, Bucket]
    at: float
    under_way: int = 0
    concurrency: int = 1
    limits: dict[str, int] = field(default_factory=dict)

    def refill(self, now: float) -> None:
        """Fills the buckets up to now. A clock set back gives nothing and takes nothing."""
        seconds, self.at = max(0.0, now - self.at), now
        for name, limit in self.limits.items():
            self.buckets[name].refill(seconds, limit)

    def state(self) -> dict[str, Reading]:
        """The state of each bucket."""
        return {name: bucket.read(self.at) for name, bucket in self.buckets.items()}

    def used(self) -> dict[str, float]:
        """The share of each minute's limit that is used; none of a restored account before its next request."""
        return {name: 1 - max(0.0, self.buckets[name].level) / limit for name, limit in self.limits.items()}


@dataclass(frozen=True, slots=True)
class Load:
    """What an organisation or key uses now: the share of each minute's limit, the limits, the requests under way, and
    how many were refused since the start, the last one when (seconds since 1970). A key without limits of its own
    shares its organisation's: only its refusals are known."""

    used: Mapping[str, float]
    limits: Mapping[str, int]
    under_way: int
    refused: int
    last_refused: float | None


def tightest(states: Iterable[State]) -> State:
    """Of each bucket, the state with the least rest."""
    first, *others = states
    if not others:
        return first
    return {
        name: min((reading, *(other[name] for other in others)), key=lambda candidate: candidate.remaining)
        for name, reading in first.items()
    }


def bucket_words(name: str) -> str:
    """A bucket's name for people."""
    return name.replace("-", " ")


def _total(state: State) -> dict[str, Reading]:
    """Input and output tokens together, as "tokens"; empty if they have no limits."""
    if INPUT not in state:
        return {}
    a, b = state[INPUT], state[OUTPUT]
    together = Reading(a.limit + b.limit, a.remaining + b.remaining, max(a.full_in, b.full_in), a.at)
    return {"tokens": together}


def _thousands(reading: Reading) -> int:
    """The rest, to the nearest thousand, but not more than the limit."""
    return min(reading.limit, int(reading.remaining / 1_000 + 0.5) * 1_000)


def anthropic_headers(state: State) -> dict[str, str]:
    """The state in Anthropic's headers; remaining tokens are rounded to the nearest thousand."""
    headers = {}
    for name, reading in {**state, **_total(state)}.items():
        remaining = int(reading.remaining) if name == REQUESTS else _thousands(reading)
        reset = datetime.fromtimestamp(math.ceil(reading.at + reading.full_in), UTC)
        headers[f"anthropic-ratelimit-{name}-limit"] = str(reading.limit)
        headers[f"anthropic-ratelimit-{name}-remaining"] = str(remaining)
        headers[f"anthropic-ratelimit-{name}-reset"] = reset.strftime("%Y-%m-%dT%H:%M:%SZ")
    return headers


def openai_headers(state: State) -> dict[str, str]:
    """OpenAI's names (platform.openai.com/docs/guides/rate-limits): exact numbers, and the time until a bucket is full
    as a duration."""
    headers = {}
    requests = {REQUESTS: state[REQUESTS]} if REQUESTS in state else {}
    for name, reading in {**requests, **_total(state)}.items():
        headers[f"x-ratelimit-limit-{name}"] = str(reading.limit)
        headers[f"x-ratelimit-remaining-{name}"] = str(int(reading.remaining))
        headers[f"x-ratelimit-reset-{name}"] = _duration(reading.full_in)
    return headers


def _duration(seconds: float) -> str:
    """`120ms` below a second, else `1m30s`: rounded up."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1_000)}ms"
    minutes, seconds_left = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{seconds_left}s" if minutes else f"{seconds_left}s"


class Limits(Frozen):
    """Limits of a key that has none of its own; an organisation without limits may use what its largest key may."""

    requests_per_minute: int = Field(4_000, ge=1)
    input_tokens_per_minute: int = Field(2_000_000, ge=1, description="what a cache held is not counted")
    output_tokens_per_minute: int = Field(400_000, ge=1, description="counted as they are written")
    concurrency: int = Field(64, ge=1, description="requests under way at a time")
    set_output_aside: bool = Field(False, description="hold max_tokens back while a request is under way")
    user_share: float = Field(
        1.0, gt=0, le=1, description="share of a key's limits that one end user, whom requests name, may take"
    )
    counts_per_request: int = Field(
        8, ge=1, description="times as many calls that count, cut or join tokens a minute as requests"
    )


class TooMany(Refusal):
    """A request over a limit, 429. `retry_after` is in seconds, None if no wait would help; `headers` and
    `openai_headers` go with the answer."""

    def __init__(self, message: str, retry_after: float | None, state: State) -> None:
        super().__init__(message, 429)
        self.retry_after = retry_after
        wait = "" if retry_after is None else str(math.ceil(retry_after))
        hint = {"retry-after": wait} if wait else {"x-should-retry": "false"}
        self.headers = anthropic_headers(state) | hint
        self._openai = openai_headers(state) | hint

    def add(self, headers: Mapping[str, str]) -> None:
        """Adds headers to the answer."""
        self.headers |= headers
        self._openai |= headers

    def openai_headers(self) -> dict[str, str]:
        """The headers of the answer in OpenAI's names."""
        return dict(self._openai)


class _Bounds(NamedTuple):
    """Limits by bucket, and of simultaneous requests."""

    buckets: dict[str, int]
    at_once: int


def _steady() -> float:
    """Seconds since 1970 by a monotonic clock: a step forward would fill all buckets."""
    return _STARTED + time.monotonic()


class Admissions:
    """Admits requests, from any thread; `clock` gives seconds since 1970."""

    def __init__(self, defaults: Limits | None = None, clock: Callable[[], float] = _steady) -> None:
        self.defaults, self._clock = defaults or Limits(), clock
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._changed = set[str]()  # accounts that are not stored yet
        self._refused: LRUCache[str, tuple[int, float]] = LRUCache(REMEMBERED)  # how many, and the last one
        self._lock = threading.Lock()
        self._bounds = lru_cache(BOUNDS)(self._bounds_of)

    def admit(
        self,
        caller: Caller,
        input_tokens: int,
        max_output_tokens: int,
        factor: float = 1.0,
        *,
        background: bool = False,
        user: str = "",
        share: float = 1.0,
    ) -> Admission:
        """Admits a request, or raises TooMany and takes nothing. `factor` below 1 lowers all limits. Background work
        has separate limits of the same size. The end user `user` may take a `share` of the key's.

        The admission must be settled, or used as a context: until then it counts as running.
        """
        aside = max_output_tokens if self.defaults.set_output_aside else 0
        costs = {REQUESTS: 1, INPUT: input_tokens, OUTPUT: max(1, aside)}
        behind = "/background" if background else ""
        with self._lock:
            accounts = self._parties(caller, factor, behind)
            own_count = len(accounts)
            if user and share < 1:
                _, bounds = self._bounds(caller.limits, caller.siblings, caller.shared, factor * share, False)
                accounts.append(self._filled(f"{caller.organisation}/{user}{behind}", "end user", bounds))
            try:
                self._check(accounts, costs)
            except TooMany:
                self._note_refused(caller)
                raise
            for account in accounts:
                account.buckets[REQUESTS].level -= 1
                account.buckets[INPUT].level -= input_tokens
                account.buckets[OUTPUT].level -= aside
                account.under_way += 1
        return Admission(self, accounts, own_count, input_tokens, aside)

    def count(self, caller: Caller, factor: float = 1.0) -> dict[str, str]:
        """Admits a call that counts tokens, or raises TooMany. Returns the headers of its answer."""
        with self._lock:
            accounts = self._parties(caller, factor, "/counting", counting=True)
            try:
                self._check(accounts, {REQUESTS: 1})
            except TooMany:
                self._note_refused(caller)
                raise
            for account in accounts:
                account.buckets[REQUESTS].level -= 1
            return anthropic_headers(tightest([account.state() for account in accounts]))

    def note_refused(self, caller: Caller) -> None:
        """Counts a request that was refused for another limit."""
        with self._lock:
            self._note_refused(caller)

    def load(self, id: str) -> Load | None:
        """What an organisation or key, by its id, uses now; None if it sent nothing lately."""
        with self._lock:
            account, (refused, last) = self._accounts.get(id), self._refused.get(id, (0, 0.0))
            if account is None:
                return Load({}, {}, 0, refused, last) if refused else None
            account.refill(self._clock())
            return Load(account.used(), dict(account.limits), account.under_way, refused, last or None)

    def now(self) -> float:
        """Seconds since 1970, by the clock of the buckets."""
        return self._clock()

    def under_way(self, account: str) -> int:
        """Number of running requests of an account: an organisation's id, or that of a key with its own limits."""
        with self._lock:
            counted = self._accounts.get(account)
            return counted.under_way if counted else 0

    def changes(self) -> Iterable[list[Account]]:
        """Copies of the accounts that changed since the last call, some at a time."""
        with self._lock:
            names, self._changed = list(self._changed), set()
        for begin in range(0, len(names), PIECE):
            with self._lock:
                now = self._clock()
                copies = [
                    _copy(account, now)
                    for name in names[begin : begin + PIECE]
                    if (account := self._accounts.get(name)) is not None
                ]
            yield copies

    def note_changed(self, names: Iterable[str]) -> None:
        """Notes accounts that could not be stored."""
        with self._lock:
            self._changed.update(names)

    def restore(self, accounts: Iterable[Account]) -> None:
        """Begins with stored accounts. Their limits are those of their next request."""
        with self._lock:
            now = self._clock()
            for account in accounts:
                account.at = min(account.at, now)
                self._accounts[account.id] = account

    def _note_refused(self, caller: Caller) -> None:
        for id in (caller.organisation, caller.key):
            count, _ = self._refused.get(id, (0, 0.0))
            self._refused[id] = (count + 1, self._clock())

    def _check(self, accounts: Sequence[Account], costs: Mapping[str, int]) -> None:
        for account in accounts:
            for name, cost in costs.items():
                if cost > (limit := account.buckets[name].limit):
                    raise TooMany(
                        f"this request counts {cost:,} {bucket_words(name)}, and this {account.whose} may use "
                        f"{limit:,} a minute: it can never be admitted; send a smaller one, or ask for a higher limit",
                        None,
                        account.state(),
                    )
        wait, worst, name = 0.0, accounts[0], REQUESTS
        for account in accounts:
            for kind, cost in costs.items():
                if (longer := account.buckets[kind].wait(cost)) > wait:
                    wait, worst, name = longer, account, kind
        if wait > 0:
            raise TooMany(
                f"this request would exceed the limit of {worst.buckets[name].limit:,} {bucket_words(name)} a minute "
                f"of this {worst.whose}; try again in {math.ceil(wait)} seconds, or ask for a higher limit",
                wait,
                worst.state(),
            )
        for account in accounts:
            if account.under_way >= account.concurrency:
                raise TooMany(
                    f"this {account.whose} has {account.under_way:,} requests under way, and may have "
                    f"{account.concurrency:,} at a time; wait for one to end, or ask for a higher limit",
                    BUSY_SECONDS,
                    account.state(),
                )

    def _parties(self, caller: Caller, factor: float, behind: str, counting: bool = False) -> list[Account]:
        """The accounts of a caller's organisation and, if its limits are others, of its key."""
        shared_bounds, own_bounds = self._bounds(caller.limits, caller.siblings, caller.shared, factor, counting)
        accounts = [self._filled(caller.organisation + behind, "organisation", shared_bounds)]
        if own_bounds != shared_bounds:
            accounts.append(self._filled(caller.key + behind, "key", own_bounds))
        return accounts

    def _bounds_of(
        self, limits: KeyLimits, siblings: tuple[KeyLimits, ...], shared: KeyLimits, factor: float, counting: bool
    ) -> tuple[_Bounds, _Bounds]:
        """The limits of an organisation, each the one in `shared` or, if that is 0, that of its largest usable key; and
        those of a key. `counting`: those of calls that count."""
        own_numbers, several = self._numbers(limits), [self._numbers(key_limits) for key_limits in (limits, *siblings)]
        largest = [max(numbers) for numbers in zip(*several, strict=True)]
        together = [number or most for number, most in zip(astuple(shared), largest, strict=True)]
        return self._bound(together, factor, counting), self._bound(own_numbers, factor, counting)

    def _numbers(self, limits: KeyLimits) -> list[int]:
        """A key's limits, in the order of `KeyLimits`."""
        names = [field.name for field in fields(KeyLimits)]
        return [getattr(limits, name) or getattr(self.defaults, name) for name in names]

    def _bound(self, numbers: Sequence[int], factor: float, counting: bool) -> _Bounds:
        factor = min(1.0, factor)
        *buckets, at_once = (max(1, int(number * factor)) for number in numbers)
        if not counting:
            return _Bounds(dict(zip((REQUESTS, INPUT, OUTPUT), buckets, strict=True)), at_once)
        requests = self.defaults.counts_per_request * numbers[0]
        return _Bounds({REQUESTS: max(1, int(requests * factor))}, 1)

    def _filled(self, id: str, whose: str, bounds: _Bounds) -> Account:
        """An account with its buckets filled up to now."""
        account, now = self._accounts.get(id), self._clock()
        if account is None:
            self._make_room()
            buckets = {name: Bucket(float(limit), limit) for name, limit in bounds.buckets.items()}
            account = self._accounts[id] = Account(id, whose, buckets, now)
        else:
            self._accounts.move_to_end(id)
        account.whose, account.limits, account.concurrency = whose, bounds.buckets, bounds.at_once
        account.refill(now)
        self._changed.add(id)
        return account

    def _make_room(self) -> None:
        """Drops the least recently used account without running requests, if there are too many."""
        if len(self._accounts) >= REMEMBERED:
            idle = (id for id, account in self._accounts.items() if not account.under_way)
            if (quiet := next(idle, None)) is not None:
                del self._accounts[quiet]

    def _state(self, accounts: Sequence[Account]) -> State:
        with self._lock:
            now = self._clock()
            for account in accounts:
                account.refill(now)
            return tightest([account.state() for account in accounts])


class Admission:
    """An admitted request, running until it is settled; as a context it is settled at the end."""

    def __init__(
        self, admissions: Admissions, accounts: Sequence[Account], shown: int, input_tokens: int, aside: int
    ) -> None:
        """`shown`: the number of accounts, the first ones, whose rest the headers show."""
        self._admissions, self._accounts, self._shown = admissions, accounts, shown
        self._input, self._counted, self._written, self._settled = input_tokens, aside, 0, False

    def wrote(self, output_tokens: int) -> None:
        """Counts the total of tokens written so far; repeated or late calls change nothing."""
        with self._admissions._lock:
            if not self._settled:
                self._written = max(self._written, output_tokens)
                self._count(max(self._counted, self._written), 0)

    def settle(self, output_tokens: int | None = None, cached_tokens: int = 0) -> None:
        """Ends the request, once: counts the written tokens (default: those of `wrote`), and gives back reserved tokens
        and input tokens that were read from a cache."""
        with self._admissions._lock:
            if self._settled:
                return
            self._settled = True
            output = self._written if output_tokens is None else max(0, output_tokens)
            self._count(output, min(max(0, cached_tokens), self._input))
            for account in self._accounts:
                account.under_way -= 1

    @property
    def headers(self) -> dict[str, str]:
        """The present rest, in Anthropic's headers."""
        return anthropic_headers(self._admissions._state(self._accounts[: self._shown]))

    def openai_headers(self) -> dict[str, str]:
        """The present rest, in OpenAI's headers."""
        return openai_headers(self._admissions._state(self._accounts[: self._shown]))

    def __enter__(self) -> Admission:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()

    def _count(self, output_tokens: int, cached_tokens: int) -> None:
        """Takes output tokens, and gives back what was taken before and input tokens."""
        now, back = self._admissions._clock(), self._counted - output_tokens
        self._counted = output_tokens
        for account in self._accounts:
            # time first: else tokens given back to a full bucket would be lost, or count as time
            account.refill(now)
            for name, tokens in ((OUTPUT, back), (INPUT, cached_tokens)):
                bucket = account.buckets[name]
                bucket.level = min(float(bucket.limit), bucket.level + tokens)
            self._admissions._changed.add(account.id)


def _copy(account: Account, now: float) -> Account:
    account.refill(now)
    buckets = {name: Bucket(bucket.level, bucket.limit) for name, bucket in account.buckets.items()}
    return Account(account.id, account.whose, buckets, now, limits=account.limits)
