"""The places of a conversation that may hold a request: each is screened separately, and the worst one counts.

Places are every user turn (the last one also after the turns before it), the system text (also joined with the last
turn), a reply that the caller began, and each sentence of these if there are several: a request may stand in a
document, or follow words meant to disarm the model. Earlier replies are places too, since a caller may have made them
up, and so are the decoded texts of all these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from charter.ground.moderation.encodings import decode_all, decode_runs, invisible, select
from charter.ground.moderation.pieces import assemble, join_turns
from charter.ground.moderation.spelling import respace, respell, to_plain
from charter.ground.text.dialogue import Message, user

SENTENCES = 64  # of one text, screened one by one
LONG = 40  # words from which a sentence is cut at commas
WORDS = 4  # least words of a sentence
ENDS = 1000  # characters at the end of a system text, and of the last user turn, that are joined
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")
_COMMENT = re.compile("<!--|-->")
_PAUSE = re.compile(r"(?<=[,;])\s+")
_ASKS = re.compile(
    r"^\W*(?:please )?(?:how|what|where|which|write|give|tell|explain|create|make|build|provide|show|teach|list|"
    r"describe|help|i want|i need|can you|could you)\b|\?",
    re.IGNORECASE,
)


# how a place's text was taken from the conversation: whole, cut out, in plain spelling, decoded, from all user turns
Kind = Literal["turn", "sentence", "respelled", "encoded", "joined"]


@dataclass(frozen=True, slots=True)
class Place:
    """A text to screen, the last message of `messages`, and the name of its place. `turn`: the number of the user
    turn, from 0, if the text is a whole turn. `kind`: how it was taken from a text; `siblings`: number of places of
    that text, this one included. The worst of many is high by chance, so that a threshold may grow with it."""

    name: str
    messages: Sequence[Message]
    turn: int | None = None
    kind: Kind = "turn"
    siblings: int = 1


def places(messages: Sequence[Message]) -> Iterator[Place]:
    """All places of a conversation, the last user turn first."""
    turns = [m for m in messages if m["role"] != "system"]
    last = max((n for n, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    user_turns = [n for n, turn in enumerate(turns) if turn["role"] == "user" and turn["content"].strip()]
    for number, n in sorted(enumerate(user_turns), key=lambda turn: turn[1] != last):
        text = turns[n]["content"]
        if n == last:  # its meaning may depend on the turns before
            yield from _read("last turn", text, number, turns[:n])
        else:
            yield from _read("earlier turn", text, number)
    asked = [turns[n]["content"] for n in user_turns]
    if len(user_turns) > 1:
        joined = join_turns(asked)
        texts = list(dict.fromkeys([decode_runs(joined), *assemble(joined), *decode_all(to_plain(joined))]))
        yield from (Place("joined turns", [user(text)], None, "joined", len(texts)) for text in texts)
    others = [("system text", message) for message in messages if message["role"] == "system"]
    others += [("earlier reply", turn) for turn in turns[:-1] if turn["role"] == "assistant"]
    others += [("begun reply", turn) for turn in turns[-1:] if turn["role"] == "assistant"]
    for _, message in (other for other in others if other[0] == "system text"):
        for text in with_system(message["content"], asked):
            yield Place("joined system text", [user(text)], kind="joined")
    for name, message in others:
        if message["content"].strip():
            yield from _read(name, message["content"])


def with_system(system_text: str, asked: Sequence[str]) -> list[str]:
    """The end of a system text with that of the last user turn, and with those of all: a request may begin in the one
    and end in the other."""
    ends = [text[-ENDS // len(asked) :] for text in asked]
    pairs = [[system_text[-ENDS:], *asked[-1:]], [system_text[-ENDS:], *ends]] if asked else []
    return list(dict.fromkeys(decode_runs(join_turns(texts, 2 * ENDS)) for texts in pairs))


def _read(name: str, text: str, number: int | None = None, before: Sequence[Message] = ()) -> Iterator[Place]:
    """A text, also after the messages `before` it; its sentences, as spelled and respelled; and the texts encoded in
    it."""
    readable = decode_runs(text)
    every = [Place(name, [*before, user(readable)], number)] if before else []
    every.append(Place(name, [user(readable)], number))
    parts = sentences(text)
    if len(parts) > 1 or (parts and parts[0] != text.strip()):
        every += [Place(f"sentence of the {name}", [user(part)], kind="sentence") for part in parts]
    meant = respace(respell(readable))
    if meant and meant != readable.strip():
        respelled = (meant, *(part for part in sentences(meant) if part not in parts))
        every += [Place(f"respelled {name}", [user(part)], kind="respelled") for part in respelled]
    plain = to_plain(text)
    decoded = [other for other in decode_all(plain, invisible(text)) if other.strip()]
    for other in dict.fromkeys([*([plain] if plain != text and plain.strip() else []), *decoded]):
        every.append(Place(f"encoded in the {name}", [user(other)], kind="encoded"))
    for other in assemble(readable):
        every.append(Place(f"pieces of the {name}", [user(other)], kind="joined"))
    yield from (replace(place, siblings=len(every)) for place in every)


def sentences(text: str) -> list[str]:
    """Sentences to read one by one: the first and last ones, and those of the others that ask for something."""
    parts = [part.strip() for long in _SENTENCE.split(_COMMENT.sub("\n", text)) for part in _split(long)]
    return select([part for part in parts if len(part.split()) >= WORDS], SENTENCES, _ASKS.search)


def _split(sentence: str) -> list[str]:
    """A sentence, or its parts between commas if it is very long."""
    return _PAUSE.split(sentence) if len(sentence.split()) > LONG else [sentence]
