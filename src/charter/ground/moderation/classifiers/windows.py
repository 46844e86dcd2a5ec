"""The windows of a conversation to read: those of each place that may hold a request, and those of a reply."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from charter.ground.constitution.wording import conversation_text
from charter.ground.moderation.classifiers.classifier import Conversation
from charter.ground.moderation.classifiers.reader import Reader, Window
from charter.ground.moderation.encodings import common_words, decodings
from charter.ground.moderation.places import places
from charter.ground.moderation.spelling import respell
from charter.ground.text.dialogue import Message

SHORT = 5  # mean letters below which texts are pieces of words
SURER = 2  # a decoded text needs this many common words more than the reply
DECODED = 4  # texts that a reply is encoded in
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|$)')  # of JSON that may be incomplete
_APART = re.compile(r"\w[_/|*~`^]\w|(?:\b\w[ .,\-']){4}")  # marks within words, single letters in a row
MOST_BEFORE = 4096  # characters of the text before: more than any reader takes


@dataclass(frozen=True, slots=True)
class PlacedWindow:
    """A window of a conversation. `turn`: the number, from 0, of the user turn whose whole text the window belongs to;
    None for windows of other places and of parts of a turn. `many`: number of places, or of windows if these are more,
    that the window's text is read in."""

    window: Window
    turn: int | None
    many: int = 1


def prompt_windows(reader: Reader, messages: Conversation) -> list[PlacedWindow]:
    """The windows of all places, those of the last user turn first; it is also read after the turns before it."""
    windows = [entry for group in windows_by_place(reader, messages) for entry in group]
    return windows or [PlacedWindow(window, None) for window in reader.windows("")]


def windows_by_place(reader: Reader, messages: Conversation) -> Iterator[list[PlacedWindow]]:
    """The windows of each place, one after another."""
    for place in places(messages):
        *before, last = place.messages
        windows = reader.windows(last["content"].strip(), _context(before)[-MOST_BEFORE:])
        many = max(place.siblings, len(windows))
        yield [PlacedWindow(window, place.turn, many) for window in windows]


def reply_windows(reader: Reader, messages: Conversation, reply: str) -> list[Window]:
    """A reply after the turn that it answers; an assistant's turn at the end is its beginning. If a format or
    spelling breaks up its words, the joined or decoded text is read as well."""
    turns = [m for m in messages if m["role"] != "system"]
    if turns and turns[-1]["role"] == "assistant":
        turns, reply = turns[:-1], turns[-1]["content"] + reply
    before = _context(turns[-1:])
    return [window for text in expand_reply(reply.strip()) for window in reader.windows(text, before)]


def _context(turns: Sequence[Message]) -> str:
    return f"{conversation_text(turns)}\n\n" if turns else ""


def expand_reply(reply: str) -> list[str]:
    """A reply, and its hidden texts if it has any: strings of JSON joined, spaced-out words joined, decoded text."""
    texts_read = [reply]
    if reply[:1] in ("[", "{"):
        texts = [text for text in _STRING.findall(reply) if text]
        short = sum(map(len, texts)) < SHORT * len(texts)
        texts_read += [" ".join(texts), *(["".join(texts)] if short else [])]
    if _APART.search(reply):
        texts_read.append(respell(reply))
    least = common_words(reply) + SURER
    texts_read += [text for text in decodings(reply) if common_words(text) > least][:DECODED]
    return list(dict.fromkeys(text for text in texts_read if text.strip())) or [reply]
