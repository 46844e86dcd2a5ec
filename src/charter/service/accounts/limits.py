"""Limits of a key by minute and by simultaneous requests: token buckets in this process's memory, with the numbers and
the headers of Anthropic's API, and OpenAI's.

A bucket holds one minute's worth and refills continuously (limit / 60 a second). What counts, after Anthropic's rate
limits (platform.claude.com/docs/en/api/rate-limits, read in November 2026):

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType

from pydantic import Field

from charter.ground.settings.frozen import Frozen
from charter.service.accounts.keys import Caller
from charter.service.web.refusal import Refusal

MINUTE = 60.0
REMEMBERED = 20_000  # keys at a time; the least recently used is dropped first
BUSY_SECONDS = 1.0  # to wait for a running request to end
ROUNDING = 1e-6  # tokens
REQUESTS, INPUT, OUTPUT = "requests", "input-tokens", "output-tokens"


class Limits(Frozen):
    """Limits of a key that has none of its own."""

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

    def __init__(self, message: str, retry_after: float | None, state: Mapping[str, _Reading]) -> None:
        super().__init__(message, 429)
        self.retry_after = retry_after
        wait = "" if retry_after is None else str(math.ceil(retry_after))
        hint = {"retry-after": wait} if wait else {"x-should-retry": "false"}
        self.headers = _headers(state) | hint
        self._openai = _openai_headers(state) | hint

    def add(self, headers: Mapping[str, str]) -> None:
        """Adds headers to the answer."""
        self.headers |= headers
        self._openai |= headers

    def openai_headers(self) -> dict[str, str]:
        """The headers of the answer in OpenAI's names."""
        return dict(self._openai)


@dataclass(frozen=True, slots=True)
class _Reading:
    """The state of a bucket at a time: its limit a minute, its rest, and the seconds until it is full."""

    limit: int
    remaining: float
    full_in: float
    at: float


@dataclass(slots=True)
class _Bucket:
    """The rest of a minute's limit; below zero if more was written than was left."""

    level: float
    limit: int

    def refill(self, seconds: float, limit: int) -> None:
        self.limit = limit
        self.level = min(float(limit), self.level + seconds * limit / MINUTE)

    def wait(self, cost: float) -> float:
        """Seconds until `cost` is available; 0 if it is, up to rounding."""
        short = cost - self.level
        return short * MINUTE / self.limit if short > ROUNDING else 0.0

    def read(self, at: float) -> _Reading:
        return _Reading(self.limit, max(0.0, self.level), self.wait(self.limit), at)


@dataclass(frozen=True, slots=True)
class Load:
    """What a key uses now: the share of each minute's limit, the requests under way, and how many were refused since
    the start, the last one when (seconds since 1970)."""

    used: Mapping[str, float]
    limits: Mapping[str, int]
    under_way: int
    refused: int
    last_refused: float | None


_STARTED = time.time() - time.monotonic()


@dataclass(slots=True)
class _Account:
    """A key's buckets, the time of their last refill, and its running requests."""

    buckets: dict[str, _Bucket]
    at: float
    under_way: int = 0
    limits: dict[str, int] = field(default_factory=dict)

    def refill(self, now: float) -> None:
        # a clock set back gives nothing and takes nothing
        seconds, self.at = max(0.0, now - self.at), now
        for name, bucket in self.buckets.items():
            bucket.refill(seconds, self.limits[name])

    def state(self) -> dict[str, _Reading]:
        return {name: bucket.read(self.at) for name, bucket in self.buckets.items()}


def _steady() -> float:
    """Seconds since 1970 by a monotonic clock: a step forward would fill all buckets."""
    return _STARTED + time.monotonic()


class Admissions:
    """Admits requests, from any thread; `clock` gives seconds since 1970. `whose`: the name of the caller in errors."""

    def __init__(
        self, defaults: Limits | None = None, clock: Callable[[], float] = _steady, whose: str = "key"
    ) -> None:
        self.defaults, self._clock, self._whose = defaults or Limits(), clock, whose
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._refused: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, and the last one
        self._lock = threading.Lock()

    def admit(
        self, caller: Caller, input_tokens: int, max_output_tokens: int, factor: float = 1.0
    ) -> Admission:
        """Admits a request, or raises TooMany and takes nothing. `factor` below 1 lowers all of the key's limits.

        The admission must be settled, or used as a context: until then it counts as running.
        """
        aside = max_output_tokens if self.defaults.set_output_aside else 0
        costs = {REQUESTS: 1, INPUT: input_tokens, OUTPUT: max(1, aside)}
        with self._lock:
            account, concurrency = self._account(caller, factor)
            try:
                self._check(account, costs, concurrency)
            except TooMany:
                self._note_refused(caller.key)
                raise
            account.buckets[REQUESTS].level -= 1
            account.buckets[INPUT].level -= input_tokens
            account.buckets[OUTPUT].level -= aside
            account.under_way += 1
        return Admission(self, account, input_tokens, aside)

    def count(self, caller: Caller, factor: float = 1.0) -> dict[str, str]:
        """Admits a call that counts tokens, or raises TooMany. Returns the headers of its answer."""
        with self._lock:
            limit = self.defaults.counts_per_request * self._requests(caller)
            account = self._filled(f"{caller.key}/counting", {REQUESTS: _lowered(limit, factor)})
            self._check(account, {REQUESTS: 1}, 1)
            account.buckets[REQUESTS].level -= 1
            return _headers(account.state())

    def note_refused(self, key: str) -> None:
        """Counts a request that was refused for another limit."""
        with self._lock:
            self._note_refused(key)

    def load(self, key: str) -> Load | None:
        """What a key uses now; None if it sent nothing lately."""
        with self._lock:
            account, (refused, last) = self._accounts.get(key), self._refused.get(key, (0, 0.0))
            if account is None:
                return Load({}, {}, 0, refused, last) if refused else None
            account.refill(self._clock())
            used = {
                name: 1 - max(0.0, bucket.level) / bucket.limit for name, bucket in account.buckets.items()
            }
            return Load(used, dict(account.limits), account.under_way, refused, last or None)

    def under_way(self, key: str) -> int:
        """Number of running requests of a key."""
        with self._lock:
            account = self._accounts.get(key)
            return account.under_way if account else 0

    def _note_refused(self, key: str) -> None:
        count, _ = self._refused.pop(key, (0, 0.0))
        self._refused[key] = (count + 1, self._clock())
        if len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)

    def _check(self, account: _Account, costs: Mapping[str, int], concurrency: int) -> None:
        waits = {name: account.buckets[name].wait(cost) for name, cost in costs.items()}
        worst = max(waits, key=lambda name: waits[name])
        for name, cost in costs.items():
            if cost > (limit := account.buckets[name].limit):
                raise TooMany(
                    f"this request counts {cost:,} {_words(name)}, and this {self._whose} may use {limit:,} a "
                    "minute: it can never be admitted; send a smaller one, or ask for a higher limit",
                    None,
                    account.state(),
                )
        if waits[worst] > 0:
            raise TooMany(
                f"this request would exceed the limit of {account.buckets[worst].limit:,} {_words(worst)} a minute of "
                f"this {self._whose}; try again in {math.ceil(waits[worst])} seconds, or ask for a higher limit",
                waits[worst],
                account.state(),
            )
        if account.under_way >= concurrency:
            raise TooMany(
                f"this {self._whose} has {account.under_way:,} requests under way, and may have {concurrency:,} at a "
                "time; wait for one to end, or ask for a higher limit",
                BUSY_SECONDS,
                account.state(),
            )

    def _account(self, caller: Caller, factor: float) -> tuple[_Account, int]:
        """A key's account with its buckets filled up to now, and its limit of simultaneous requests."""
        key_limits, base = caller.limits, self.defaults
        limits = {
            REQUESTS: self._requests(caller),
            INPUT: key_limits.input_tokens_per_minute or base.input_tokens_per_minute,
            OUTPUT: key_limits.output_tokens_per_minute or base.output_tokens_per_minute,
        }
        limits = {name: _lowered(limit, factor) for name, limit in limits.items()}
        return self._filled(caller.key, limits), _lowered(key_limits.concurrency or base.concurrency, factor)

    def _requests(self, caller: Caller) -> int:
        return caller.limits.requests_per_minute or self.defaults.requests_per_minute

    def _filled(self, key: str, limits: dict[str, int]) -> _Account:
        """An account with its buckets filled up to now."""
        account, now = self._accounts.pop(key, None), self._clock()
        if account is None:
            self._make_room()
            account = _Account({name: _Bucket(float(limit), limit) for name, limit in limits.items()}, now)
        self._accounts[key], account.limits = account, limits
        account.refill(now)
        return account

    def _make_room(self) -> None:
        """Drops the least recently used key without running requests, if there are too many."""
        if len(self._accounts) >= REMEMBERED:
            idle = (key for key, account in self._accounts.items() if not account.under_way)
            if (quiet := next(idle, None)) is not None:
                del self._accounts[quiet]

    def _state(self, account: _Account) -> dict[str, _Reading]:
        with self._lock:
            account.refill(self._clock())
            return account.state()


class Admission:
    """An admitted request, running until it is settled; as a context it is settled at the end."""

    def __init__(self, admissions: Admissions, account: _Account, input_tokens: int, aside: int) -> None:
        self._admissions, self._account = admissions, account
        self._input, self._counted, self._written, self._settled = input_tokens, aside, 0, False

    def wrote(self, output_tokens: int) -> None:
        """Counts the total of tokens written so far; repeated or late calls change nothing."""
        with self._admissions._lock:
            if not self._settled:
                self._written = max(self._written, output_tokens)
                self._count(max(self._counted, self._written))

    def settle(self, output_tokens: int | None = None, cached_tokens: int = 0) -> None:
        """Ends the request, once: counts the written tokens (default: those of `wrote`), and gives back reserved tokens
        and input tokens that were read from a cache."""
        with self._admissions._lock:
            if self._settled:
                return
            self._settled = True
            self._count(self._written if output_tokens is None else max(0, output_tokens))
            self._add(INPUT, min(max(0, cached_tokens), self._input))
            self._account.under_way -= 1

    @property
    def headers(self) -> dict[str, str]:
        """The present rest, in Anthropic's headers."""
        return _headers(self._admissions._state(self._account))

    def openai_headers(self) -> dict[str, str]:
        """The present rest, in OpenAI's headers."""
        return _openai_headers(self._admissions._state(self._account))

    def __enter__(self) -> Admission:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()

    def _count(self, output_tokens: int) -> None:
        self._add(OUTPUT, self._counted - output_tokens)
        self._counted = output_tokens

    def _add(self, name: str, tokens: int) -> None:
        # time first: else tokens given back to a full bucket would be lost, or count as time
        self._account.refill(self._admissions._clock())
        bucket = self._account.buckets[name]
        bucket.level = min(float(bucket.limit), bucket.level + tokens)


def _lowered(limit: int, factor: float) -> int:
    return max(1, int(limit * min(1.0, factor)))


def _words(name: str) -> str:
    return name.replace("-", " ")


def _total(state: Mapping[str, _Reading]) -> dict[str, _Reading]:
    """Input and output tokens together, as "tokens"; empty if they have no limits."""
    if INPUT not in state:
        return {}
    a, b = state[INPUT], state[OUTPUT]
    together = _Reading(a.limit + b.limit, a.remaining + b.remaining, max(a.full_in, b.full_in), a.at)
    return {"tokens": together}


def _thousands(reading: _Reading) -> int:
    """The rest, to the nearest thousand, but not more than the limit."""
    return min(reading.limit, int(reading.remaining / 1_000 + 0.5) * 1_000)


def _headers(state: Mapping[str, _Reading]) -> dict[str, str]:
    headers = {}
    for name, reading in {**state, **_total(state)}.items():
        left = int(reading.remaining) if name == REQUESTS else _thousands(reading)
        reset = datetime.fromtimestamp(math.ceil(reading.at + reading.full_in), UTC)
        headers[f"anthropic-ratelimit-{name}-limit"] = str(reading.limit)
        headers[f"anthropic-ratelimit-{name}-remaining"] = str(left)
        headers[f"anthropic-ratelimit-{name}-reset"] = reset.strftime("%Y-%m-%dT%H:%M:%SZ")
    return headers


def _openai_headers(state: Mapping[str, _Reading]) -> dict[str, str]:
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
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
