"""What is asked of a model and what comes back, whatever shape of API it came in.

Every wire format makes an `Asked` of a request, and its own events of the parts of the answer: pieces of text while a
sample is written, then its end.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from charter.ground.generate.constraint import Constraint
from charter.ground.generate.sampling import Sampling
from charter.ground.text.dialogue import Prompt
from charter.service.accounts.keys import Caller

# the organisation whose request this is, for what is remembered
WHOSE: ContextVar[str] = ContextVar("whose", default="")

# the model ended its turn; a stop sequence; max_tokens; the context is full; the acceptable-use policy
Stop = Literal["end", "stop", "length", "context", "refused"]


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the API: who makes it, its id, the surface that it came by ("messages", say), a digest of the
    user that the caller names, and whether it may wait for everybody else (a batch's)."""

    caller: Caller
    request_id: str
    surface: str
    user: str = ""
    background: bool = False


@dataclass(frozen=True, slots=True)
class Ids:
    """Plain text given as token ids, by programs that cut text themselves, and what they spell; `runs`: what those
    between special tokens spell, such as a reply between the markers of its turn."""

    ids: tuple[int, ...]
    text: str
    runs: tuple[str, ...] = ()


Given = Prompt | Ids


@dataclass(frozen=True, slots=True)
class Asked:
    """Samples of a prompt: messages (where the last is the assistant's, that one is continued) or plain text.

    `constraint` makes what holds a sample to a form; `seed` None draws one; `own`: the request names no decoding, so
    that `sampling` has the model's own.
    """

    model: str
    prompt: Given
    sampling: Sampling
    n: int = 1
    seed: int | None = None
    constraint: Callable[[], Constraint] | None = None
    own: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """A token as log-probabilities are given: its text, its bytes, its natural log-probability, the likeliest ones, and
    its id where the model is on this machine."""

    text: str
    raw: bytes
    logprob: float
    top: tuple[tuple[str, bytes, float], ...] = ()
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that was written, its tokens where log-probabilities were asked for, and how many tokens the sample has."""

    sample: int
    text: str
    tokens: tuple[Token, ...] = ()
    written: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens [start, end) of a reply, and the version of the weights that wrote them."""

    version: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class End:
    """The end of a sample, and why it ended."""

    sample: int
    stop: Stop
    stopped_by: str | None = None  # which stop sequence
    output_tokens: int = 0  # written, the end token included
    cached_tokens: int = 0  # of the prompt, not read anew
    reason: str = ""  # what the policy refused
    input_tokens: int = 0  # of the prompt, if they were only estimated before
    token: Token | None = None  # the end token, if log-probabilities were asked for
    spans: tuple[Span, ...] = ()  # which weights wrote which tokens, if the model's weights may change


Part = Piece | End


@dataclass(slots=True)
class Usage:
    """Tokens of a request."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass(slots=True)
class Whole:
    """A sample put together."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    end: End | None = None
