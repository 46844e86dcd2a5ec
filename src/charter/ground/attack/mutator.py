"""A mutator: one family of attacks as a pure function of messages and a seed.

It rewrites the last user turn, and may put turns before it. A family has one or more forms; the seed chooses one. It
has an inverse if every form can be read back. Two families write by a model, which a callable stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from charter.ground.artifact.errors import CharterError
from charter.ground.attack.codecs import same
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, Message, user

FAMILY = "family"
SLOT = "{request}"
Messages = tuple[Message, ...]
# the text that a model writes to a request, and a seed for its sampling
Writer = Callable[[str, int], str]
Inverse = Callable[[Sequence[Message]], Messages | None]
# In a chain, words are changed first, then their letters, then the frame around them, then turns are put before.
Kind = Literal["words", "letters", "frame", "turns"]
KINDS: tuple[Kind, ...] = ("words", "letters", "frame", "turns")


@dataclass(frozen=True, slots=True)
class Form:
    """One way to ask: the last user turn with a place for the request, turns before it, how the request is written, and
    how it is read back (None: it isn't)."""

    text: str
    before: Messages = ()
    encode: Callable[[str], str] = same
    decode: Callable[[str], str] | None = same

    def apply(self, request: str) -> Messages:
        """The turns that ask the request in this form."""
        return (*self.before, user(self.text.replace(SLOT, self.encode(request))))

    def invert(self, messages: Sequence[Message]) -> Messages | None:
        """The messages before this form was put on; None if they don't have it."""
        *earlier, last = messages
        head, tail = self.text.split(SLOT)
        content, kept = last["content"], len(earlier) - len(self.before)
        fits = content.startswith(head) and content.endswith(tail) and len(head + tail) <= len(content)
        if self.decode is None or not fits or kept < 0 or tuple(earlier[kept:]) != self.before:
            return None
        try:
            request = self.decode(content[len(head) : len(content) - len(tail)])
        except ValueError:
            return None
        return (*earlier[:kept], user(request))


@dataclass(frozen=True, slots=True)
class Mutator:
    """A family: its name, title, what it does, and its forms. With `asks`, a writer gets that request with the text in
    its place, and its answer goes into the form; `needs_writer`: there is no other way."""

    name: str
    title: str
    what: str
    kind: Kind
    forms: tuple[Form, ...]
    asks: str = ""
    needs_writer: bool = False

    @property
    def inverse(self) -> Inverse | None:
        """Reads messages back, None for those that this family didn't make; None for a family that loses words."""
        return None if self.asks or any(form.decode is None for form in self.forms) else self._invert

    def apply(self, messages: Sequence[Message], seed: int, writer: Writer | None = None) -> Messages:
        """The messages with their last turn, a user's, mutated. Raises CharterError without a needed writer."""
        *earlier, last = messages
        if last["role"] != "user":
            raise CharterError(f"{self.name} rewrites a user's turn; the last one is the {last['role']}'s")
        form, request = self.forms[seed % len(self.forms)], last["content"]
        if self.asks and writer is not None:
            form, request = Form(form.text, form.before), _written(self, request, seed, writer)
        elif self.needs_writer:
            raise CharterError(f"the family {self.name} needs a model that writes: give one, or leave it out")
        return (*earlier, *form.apply(request))

    def wrap(self, dialogue: Dialogue, seed: int = 0, writer: Writer | None = None) -> Dialogue:
        """The prompt mutated under a seed of its own; `meta.family` names the family."""
        messages = self.apply(dialogue.messages, derive_seed(seed, self.name, dialogue.id), writer)
        return replace(dialogue, messages=messages, meta={**dialogue.meta, FAMILY: self.name})

    def unwrap(self, dialogue: Dialogue) -> Dialogue | None:
        """The dialogue that `wrap` made this one of; None for one that it didn't make, or that has no inverse."""
        messages = self.inverse(dialogue.messages) if self.inverse is not None else None
        if messages is None:
            return None
        meta = {key: value for key, value in dialogue.meta.items() if key != FAMILY}
        return replace(dialogue, messages=messages, meta=meta)

    def _invert(self, messages: Sequence[Message]) -> Messages | None:
        found = (form.invert(messages) for form in self.forms)
        return next((inverted for inverted in found if inverted is not None), None)


def _written(mutator: Mutator, request: str, seed: int, writer: Writer) -> str:
    """The writer's text for a request; an empty one leaves the request as it is."""
    return writer(mutator.asks.replace(SLOT, request), seed).strip() or request
