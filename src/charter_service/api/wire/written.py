"""A text of a prompt beside the part of it that the caller wrote.

The server puts words and frames of its own around what callers write. The model reads all of it; the policy reads, and
charges, the callers' part alone. Who puts a text into a prompt says here whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from charter.ground.moderation.places import WORDS, join_turns
from charter.ground.text.dialogue import Message, Role, system
from charter_service.api.model_request import Said
from charter_service.api.wire.content import BETWEEN


@dataclass(frozen=True, slots=True)
class Written:
    """A text as the model reads it, and what the caller wrote of it. `pieces`: texts of the caller's beside others of
    their role (titles, results, values of one key), which may be a request together."""

    read: str
    said: str
    pieces: tuple[tuple[str, str], ...] = ()


class Conversation(NamedTuple):
    """The messages that a model reads, and what the caller wrote of them."""

    prompt: list[Message]
    said: Said


LONGEST_PIECE, MOST_ROLES = 40, 32  # characters of one that is read beside others
Spoken = Sequence[tuple[Role, Written]]
NO_TEXT = Written("", "")


def callers(text: str) -> Written:
    """A text that the caller wrote."""
    return Written(text, text)


def servers(text: str) -> Written:
    """A text of the server's own."""
    return Written(text, "")


def join(texts: Iterable[Written], between: str = BETWEEN) -> Written:
    """Texts one after another; empty ones leave no gap."""
    texts = list(texts)
    return Written(
        between.join(text.read for text in texts if text.read),
        between.join(text.said for text in texts if text.said),
        tuple(piece for text in texts for piece in text.pieces),
    )


def _put_together(texts: Iterable[Written]) -> list[str]:
    """The short pieces of each role as one text."""
    by_role: dict[str, list[str]] = {}
    for role, piece in (piece for text in texts for piece in text.pieces):
        if piece.strip() and len(piece) <= LONGEST_PIECE:
            by_role.setdefault(role, []).append(piece)
    # the same again and again, such as types, says nothing
    joined = (join_turns(pieces) for pieces in by_role.values() if len({*pieces}) > 1)
    return [text for text in dict.fromkeys(joined) if len(text.split()) >= WORDS][:MOST_ROLES]


def converse(instructions: Written, more: Written, spoken: Spoken) -> Conversation:
    """The messages of a conversation: the system text with `more` after it, on tools and citations, and the turns."""
    opening = join([instructions, more]).read
    more_said = "\n".join(filter(None, [more.said, *_put_together([more, *(text for _, text in spoken)])]))
    about_tools = [system(more_said)] if more_said else []
    prompt = [system(opening)] if opening else []
    prompt += [Message(role=role, content=text.read) for role, text in spoken]
    caller_turns = [Message(role=role, content=text.said) for role, text in spoken]
    return Conversation(prompt, Said(instructions.said, (*about_tools, *caller_turns)))
