"""The input and output of the engine: requests, completions, events, and the refusal of long prompts."""

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

# the end of the turn, a stop string, the limit of tokens, a loop that the loop stop ended
Stop = Literal["end", "stop", "length", "loop"]


class PromptTooLong(CharterError):
    """A prompt that leaves no room for a reply; `place` is its number in its batch, from 0."""

    def __init__(self, tokens: int, context: int, place: int = 0) -> None:
        super().__init__(f"the prompt has {tokens} tokens, the context holds {context} with the reply; shorten it")
        self.tokens, self.context, self.place = tokens, context, place


@contextmanager
def naming_prompts(names: Iterable[str]) -> Iterator[None]:
    """Puts the name of a prompt that is too long into the error; `names` are those of the batch, in order."""
    try:
        yield
    except PromptTooLong as error:
        name = next(islice(names, error.place, None))
        raise CharterError(f"prompt {name}: {error}") from None


@dataclass(slots=True)
class Completion:
    """One sample. `ids` include the end-of-turn token, if there is one; `text` doesn't. `logprobs` are those of the
    distribution sampled from. `probes`: the probe's value before each token. `stop`, `stopped_by`: why it stopped, and
    by which stop string. `top`: the likeliest tokens in each token's place, if requested. `cached`: tokens of the
    prompt that were kept from earlier, `kept`: those newly kept for later. `held`: the latest tokens that may begin a
    loop, so that their text waits. `text` and `stop` are set once it is `done`."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    stop: Stop = "length"
    stopped_by: str | None = None
    top: list[list[tuple[int, float]]] = field(default_factory=list)
    cached: int = 0
    kept: int = 0
    held: int = 0
    done: bool = False


@dataclass(slots=True)
class Event:
    """The result of one step for one sample: the token and the completion so far. `done` once it is complete or its
    constraint failed; `error` is that failure."""

    request: int
    sample: int
    token: int
    completion: Completion
    done: bool
    error: Exception | None = None


@dataclass(slots=True, eq=False)
class Request:
    """A prompt and the samples to draw from it."""

    number: int
    prompt: list[int]
    sampling: Sampling
    seeds: list[int]
    longest: int  # tokens of the prompt with the longest reply
    account: str = ""
    constraint: Callable[[], Constraint] | None = None
    background: bool = False
    partly: Cache | None = None  # one slot with the tokens read so far, if the prompt takes several steps
    cached: int = 0  # tokens of the prompt that were kept from earlier
    kept: int = 0  # tokens of the prompt that are newly kept for later
    read: Prefilled | None = None
    started: int = 0

    @property
    def begun(self) -> Completion:
        """The beginning of a sample, once the prompt was read."""
        return Completion(cached=self.cached, kept=self.kept)

    @property
    def unread(self) -> int:
        """Tokens of the prompt that are still to be read, before the cache of beginnings is looked up."""
        return len(self.prompt) - (self.partly.lengths[0] if self.partly else 0)
