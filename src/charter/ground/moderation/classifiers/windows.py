"""Which windows of a conversation are read: those of each place where something may be asked, and those of a reply."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from charter.ground.constitution.wording import conversation_text
from charter.ground.moderation.classifiers.classifier import Conversation
from charter.ground.moderation.classifiers.reader import Reader, Window
from charter.ground.moderation.places import common_words, decodings, places, respelled
from charter.ground.text.dialogue import Message

SHORT = 5  # letters of texts in the mean that are pieces of words
SURER = 2  # common words that a decoded text has more than the reply
DECODED = 4  # texts that a reply is encoded in
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|$)')  # of JSON, as far as it is written
_APART = re.compile(r"\w[_/|*~`^]\w|(?:\b\w[ .,\-']){4}")  # marks within words, single letters in a row
MOST_BEFORE = 4096  # characters of what stands before a text: more than any reader takes


@dataclass(frozen=True, slots=True)
class Placed:
    """A window of a conversation. `turn`: the number of the user turn, from 0, of which it is a part as a whole; None
    for windows of other places and of parts of a turn."""

    window: Window
    turn: int | None


def prompt_windows(reader: Reader, messages: Conversation) -> list[Placed]:
    """The windows of all places, those of the last user turn first, the last turn also behind the turns before it."""
    found = [placed for group in windows_by_place(reader, messages) for placed in group]
    return found or [Placed(window, None) for window in reader.windows("")]


def windows_by_place(reader: Reader, messages: Conversation) -> Iterator[list[Placed]]:
    """The windows of each place, one after another."""
    for place in places(messages):
        *before, last = place.messages
        windows = reader.windows(last["content"].strip(), _context(before)[-MOST_BEFORE:])
        yield [Placed(window, place.turn) for window in windows]


def reply_windows(reader: Reader, messages: Conversation, reply: str) -> list[Window]:
    """A reply behind the turn that it answers; an assistant's turn at the end is its beginning. One that a form or a
    spelling takes apart is read as it is meant as well."""
    turns = [m for m in messages if m["role"] != "system"]
    if turns and turns[-1]["role"] == "assistant":
        turns, reply = turns[:-1], turns[-1]["content"] + reply
    before = _context(turns[-1:])
    return [window for text in meant(reply.strip()) for window in reader.windows(text, before)]


def _context(turns: Sequence[Message]) -> str:
    return f"{conversation_text(turns)}\n\n" if turns else ""


def meant(reply: str) -> list[str]:
    """A reply, and what it says where that is something else: texts of JSON put together, words that were spelled
    apart, what is encoded in it."""
    found = [reply]
    if reply[:1] in ("[", "{"):
        texts = [text for text in _STRING.findall(reply) if text]
        short = sum(map(len, texts)) < SHORT * len(texts)
        found += [" ".join(texts), *(["".join(texts)] if short else [])]
    if _APART.search(reply):
        found.append(respelled(reply))
    least = common_words(reply) + SURER
    found += [text for text in decodings(reply) if common_words(text) > least][:DECODED]
    return list(dict.fromkeys(text for text in found if text.strip())) or [reply]
