"""The text of a growing sample: the new characters that are safe to show, and the search for stop strings.

Both read the text once: the bytes of each token are looked up, and a character comes out once it is whole. Each stop
has its own automaton (Knuth, Morris and Pratt 1977), which also knows how much of the text's end may still become that
stop.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from charter.ground.generate.requests import Completion
from charter.ground.text.tokenizer import Tokenizer


class TokenText:
    """The text of tokens that come one by one; together it equals `Tokenizer.decode` of all tokens.

    There is one exception: if a tokenizer falls back to bytes and a run of bytes is not UTF-8, `decode` replaces the
    whole run, but the whole characters in it were already returned here.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._first = tokenizer, True
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """The characters that this token completes."""
        spelled = self._tokenizer.spelling(token, self._first)
        if spelled is None:
            return ""
        self._first = False
        return self._utf8.decode(spelled)


class StopSearch:
    """Looks for stop strings in a text that grows. `match`: the position and text of the first stop. If one addition
    completes several stops, it is the one that begins first."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [(stop, _fallbacks(stop)) for stop in stops if stop]
        self._matched = [0] * len(self._stops)  # for each stop: how many of its characters the text ends with
        self._length = 0
        self.match: tuple[int, str] | None = None

    @property
    def pending(self) -> int:
        """How many characters at the end of the text may belong to a stop."""
        return self._length - self.match[0] if self.match else max(self._matched, default=0)

    def add(self, text: str) -> None:
        """Reads the characters that were added to the text."""
        ends = [self._follow(n, text) for n in range(len(self._stops))] if self.match is None else []
        matches = [(self._length + end - len(self._stops[n][0]), n) for n, end in enumerate(ends) if end]
        if matches:
            begin, n = min(matches)
            self.match = begin, self._stops[n][0]
        self._length += len(text)

    def _follow(self, n: int, text: str) -> int:
        """The place in the addition right behind stop n; 0 if it doesn't end there."""
        (stop, fallbacks), matched = self._stops[n], self._matched[n]
        for at, char in enumerate(text, 1):
            while matched and stop[matched] != char:
                matched = fallbacks[matched - 1]
            matched += stop[matched] == char
            if matched == len(stop):
                return at
        self._matched[n] = matched
        return 0


class TokenSearch:
    """Looks for stop strings in the text of tokens that come one by one."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._text, self._search = TokenText(tokenizer), StopSearch(stops)

    def add(self, token: int) -> tuple[int, str] | None:
        """The position at which to cut the text and the stop, once there is one."""
        self._search.add(self._text.add(token))
        return self._search.match


class TextPieces:
    """Cuts a sample's text into pieces as it grows: never half a character, never the beginning of a stop string or a
    loop that may still be completed. Together the pieces are the text of the finished completion."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        self._text, self._search = TokenText(tokenizer), StopSearch(stops)
        self._seen, self._sent = 0, 0
        self._waiting = ""  # text that was not returned yet

    def add(self, completion: Completion) -> str:
        """The new text since the last call that is safe to show; all the rest once the completion is done. Call it when
        the completion can't change: in the engine's thread, or once it is done."""
        if completion.done:
            piece = completion.text[self._sent :]
            self._seen, self._waiting = len(completion.ids), ""
        else:
            settled = len(completion.ids) - completion.held
            new = "".join(self._text.add(token) for token in completion.ids[self._seen : settled])
            self._seen = settled
            self._search.add(new)
            self._waiting += new
            piece = self._waiting[: len(self._waiting) - self._search.pending]
            self._waiting = self._waiting[len(piece) :]
        self._sent += len(piece)
        return piece


def _fallbacks(stop: str) -> list[int]:
    """For each prefix of a stop: the length of its longest proper suffix that is also a prefix."""
    lengths = [0] * len(stop)
    matched = 0
    for at in range(1, len(stop)):
        while matched and stop[matched] != stop[at]:
            matched = lengths[matched - 1]
        matched += stop[matched] == stop[at]
        lengths[at] = matched
    return lengths
