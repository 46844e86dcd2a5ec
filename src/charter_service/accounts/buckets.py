"""Token buckets of accounts, and their state as the headers of Anthropic's and OpenAI's APIs.

A bucket holds one minute's worth and refills continuously (limit / 60 a second).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

MINUTE = 60.0
ROUNDING = 1e-6  # tokens
REQUESTS, INPUT, OUTPUT = "requests", "input-tokens", "output-tokens"


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
    """The rest of a minute's limit; below zero if more was written than was left."""

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
        name: min((reading, *(other[name] for other in others)), key=lambda one: one.remaining)
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
        left = int(reading.remaining) if name == REQUESTS else _thousands(reading)
        reset = datetime.fromtimestamp(math.ceil(reading.at + reading.full_in), UTC)
        headers[f"anthropic-ratelimit-{name}-limit"] = str(reading.limit)
        headers[f"anthropic-ratelimit-{name}-remaining"] = str(left)
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
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
