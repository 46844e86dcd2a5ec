"""Backends of models: an engine on this machine, or a server elsewhere, behind one protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from charter.ground.generate.constraint import Constraint
from charter.ground.model.generation import Decoding
from charter_service.api.model_request import Ids, ModelRequest, Part, PromptInput, Token
from charter_service.forms.grammars import Form


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

    def stream(
        self, model_request: ModelRequest, account: str, background: bool
    ) -> AsyncGenerator[Part, None]:
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
