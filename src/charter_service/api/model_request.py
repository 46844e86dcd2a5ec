"""A request to a model, the parts of its answer, and the protocol of models' backends, for all shapes of the API.

Every wire format turns a request into a `ModelRequest`, and the parts of the answer into its own events: pieces of text
while a sample is written, then its end. A backend is an engine on this machine, or a server elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal, Protocol

from charter.ground.generate.constraint import Constraint
from charter.ground.generate.sampling import Sampling
from charter.ground.model.generation import Decoding
from charter.ground.text.dialogue import Message, Prompt, system, user
from charter_service.accounts.keys import Caller
from charter_service.accounts.requests import RequestRow
from charter_service.forms.grammars import Form

# the organisation of the present request, for caches
WHOSE: ContextVar[str] = ContextVar("whose", default="")

# the model ended its turn; a stop sequence; max_tokens; the context is full; the acceptable-use policy; the reply
# repeated itself
Stop = Literal["end", "stop", "length", "context", "refused", "loop"]
LOOP = "repetition"  # the word for the last one in all shapes


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the API: its caller, its id, its surface (such as "messages"), a digest of the user that the
    caller names, whether it is background work (a batch's), and the row of its figures."""

    caller: Caller
    request_id: str
    surface: str
    user: str = ""
    background: bool = False
    row: RequestRow = field(default_factory=RequestRow, compare=False)  # stored of it, without any text


@dataclass(frozen=True, slots=True)
class Ids:
    """Plain text as token ids, from programs that cut text themselves, and the text that they spell; `runs`: the texts
    between special tokens, such as a reply between the markers of its turn."""

    ids: tuple[int, ...]
    text: str
    runs: tuple[str, ...] = ()


PromptInput = Prompt | Ids


@dataclass(frozen=True, slots=True)
class Said:
    """What a caller wrote of a prompt, without the server's own words: its system text, and all else as messages. What
    it says of tools stands in a system message before the turns, and so does a system text of the end user's."""

    system: str
    messages: tuple[Message, ...]

    @property
    def all(self) -> list[Message]:
        """All of it as messages, the system text first."""
        return [*([system(self.system)] if self.system else []), *self.messages]

    @property
    def by_user(self) -> Said:
        """The same, with a system text that an end user wrote."""
        return Said("", tuple(self.all))


def said_in(prompt: PromptInput) -> Said:
    """What a caller wrote of a prompt that is wholly the caller's; plain text counts as a user's."""
    if isinstance(prompt, str | Ids):
        return Said("", (user(prompt if isinstance(prompt, str) else prompt.text),))
    leading = prompt[0]["role"] == "system"
    return Said(prompt[0]["content"] if leading else "", tuple(prompt[int(leading) :]))


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """Samples of a prompt: messages (a last one of the assistant's is continued) or plain text.

    `said`: what the caller wrote of the prompt, which alone the policy reads; None: all of it. `constraint` makes the
    constraint of a sample; `seed` None draws one; `own_decoding`: the request sets no decoding, so `sampling` has the
    model's own.
    """

    model: str
    prompt: PromptInput
    sampling: Sampling
    n: int = 1
    seed: int | None = None
    constraint: Callable[[], Constraint] | None = None
    own_decoding: bool = False
    said: Said | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token with log-probabilities: its text, its bytes, its natural log-probability, the likeliest ones, and its id
    if the model is on this machine."""

    text: str
    raw: bytes
    logprob: float
    top: tuple[tuple[str, bytes, float], ...] = ()
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Newly written text, its tokens if the request wants log-probabilities, and the sample's number of tokens so
    far."""

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
    kept_tokens: int = 0  # of the prompt, newly kept for later
    reason: str = ""  # what the policy refused
    category: str = ""  # of the policy, under which it was refused
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
    """A whole sample."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    end: End | None = None


class Holder(Protocol):
    """A form ready to hold replies (see `Compiled`); None stands for a free reply."""

    def start(self, max_tokens: int) -> Callable[[], Constraint]:
        """Holds a reply from its first token on. Raises CharterError, with the numbers, if no document fits."""
        ...

    def start_after(self, marker: str, again: bool = False) -> Callable[[], Constraint] | None:
        """Holds a reply from a marker on."""
        ...


class Backend(Protocol):
    """Runs one model. `capabilities`: what it can do beside sampling dialogues, some of text (continue plain text),
    form (hold replies to one), logprobs, score (given text) and count (tokens, exactly)."""

    capabilities: frozenset[str]
    context: int  # tokens of prompt plus reply
    version: str  # of its weights, if they may change
    decoding: Decoding  # the model's own, for requests that set none

    async def count(self, prompt: PromptInput) -> int:
        """Tokens of a prompt. Raises CharterError if it can't be encoded."""
        ...

    def stream(self, model_request: ModelRequest, account: str, background: bool) -> AsyncGenerator[Part, None]:
        """The parts of all samples as they are written, each sample's end last. Closing the iterator ends the work.

        Raises CharterError if the request can't be done, and `Overloaded` if too much waits.
        """
        ...

    async def compile(self, form: Form, account: str, background: bool) -> Holder:
        """A form ready to hold this model's replies. Raises CharterError if replies can't be held to it, and
        `Overloaded` if too much waits."""
        ...

    async def cut(self, prompt: PromptInput, opening: bool) -> list[int]:
        """The ids of a prompt; plain text without the start token of its family unless `opening`."""
        ...

    async def spell(self, ids: Sequence[int]) -> Ids:
        """Token ids with their text. Raises CharterError for ids that the model doesn't have."""
        ...

    async def score(self, text: str | Ids, top: int, account: str, background: bool) -> list[Token]:
        """The tokens of a text with their log-probabilities, the first token's being NaN (nothing precedes it), and
        the `top` likeliest in each place. Raises `Overloaded` if too much waits."""
        ...

    def figures(self) -> dict[str, float]:
        """Its state for metrics: queue, slots, cache."""
        ...

    @property
    def waits(self) -> dict[str, float]:
        """Seconds that the first in line has waited, by the name of its queue; background work is left out."""
        ...

    @property
    def slow_steps(self) -> int:
        """Number of steps so far that were long enough to delay everybody else."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...
