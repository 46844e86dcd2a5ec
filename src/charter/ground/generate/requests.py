"""What is asked of the engine and what it gives: requests, completions, events, and the refusal of long prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.constraint import Constraint
from charter.ground.generate.prefill import Prefilled
from charter.ground.generate.sampling import Sampling
from charter.ground.model.cache import Cache

Stop = Literal["end", "stop", "length"]


class PromptTooLong(CharterError):
    """A prompt that leaves no room for a reply; `place` is its number among those given together, from 0."""

    def __init__(self, tokens: int, context: int, place: int = 0) -> None:
        super().__init__(
            f"the prompt has {tokens} tokens, the context holds {context} with the reply; shorten it"
        )
        self.tokens, self.context, self.place = tokens, context, place


@contextmanager
def naming_prompts(names: Iterable[str]) -> Iterator[None]:
    """Says which of some prompts, sampled together and in this order, is too long."""
    try:
        yield
    except PromptTooLong as error:
        name = next(islice(names, error.place, None))
        raise CharterError(f"prompt {name}: {error}") from None


@dataclass(slots=True)
class Completion:
    """One sample: its tokens (with the end-of-turn token when it ended), text without it, log-probabilities of the
    tokens under the distribution sampled from, the probe's value before each token, why it stopped and by which stop
    string; the likeliest tokens in each token's place, if they were asked for; how many tokens of the prompt were kept
    from earlier and not read anew. Text and reason are there once it is `done`."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    stop: Stop = "length"
    stopped_by: str | None = None
    top: list[list[tuple[int, float]]] = field(default_factory=list)
    cached: int = 0
    done: bool = False


@dataclass(slots=True)
class Event:
    """What one step did for one sample: the token and text so far; `done` once it is complete, or once its constraint
    failed, which is the `error`."""

    request: int
    sample: int
    token: int
    completion: Completion
    done: bool
    error: Exception | None = None


@dataclass(slots=True, eq=False)
class Request:
    """Samples that somebody wants of one prompt."""

    number: int
    prompt: list[int]
    sampling: Sampling
    seeds: list[int]
    longest: int  # tokens of the prompt with the longest reply
    account: str = ""
    constraint: Callable[[], Constraint] | None = None
    background: bool = False
    partly: Cache | None = None  # one slot with what is read of a prompt that takes several steps
    cached: int = 0  # tokens of the prompt that were kept from earlier
    read: Prefilled | None = None
    started: int = 0

    @property
    def unread(self) -> int:
        """Tokens of the prompt that are still to be read, before it is known what is kept of them."""
        return len(self.prompt) - (self.partly.lengths[0] if self.partly else 0)
