"""The text of a sample while it grows: what is new and safe to show, and the search for stop strings.

Both go once over the text, whatever its length: a token's bytes are looked up, characters come out when they are
whole, and each stop is followed by its own automaton (Knuth, Morris and Pratt 1977), which also knows how much of the
text's end may still become that stop.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from charter.ground.generate.requests import Completion
from charter.ground.text.tokenizer import Tokenizer


class TokenText:
    """The text of tokens that come one by one: together what `Tokenizer.decode` makes of all.

    But for one case: where a tokenizer falls back to bytes and a run of them turns out to be no UTF-8, `decode`
    replaces the whole run, of which the whole characters were given here already.
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
    """Looks for stop strings in a text that grows. `found`: where the first stop begins and which it is (the one that
    begins first, of those that one addition completes)."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [(stop, _fallbacks(stop)) for stop in stops if stop]
        self._matched = [0] * len(self._stops)  # characters of each stop that the text ends with
        self._length = 0
        self.found: tuple[int, str] | None = None

    @property
    def held(self) -> int:
        """Characters at the end of the text that may belong to a stop."""
        return self._length - self.found[0] if self.found else max(self._matched, default=0)

    def add(self, text: str) -> None:
        """Goes on over what was added to the text."""
        ends = [self._follow(n, text) for n in range(len(self._stops))] if self.found is None else []
        found = [(self._length + end - len(self._stops[n][0]), n) for n, end in enumerate(ends) if end]
        if found:
            begin, n = min(found)
            self.found = begin, self._stops[n][0]
        self._length += len(text)

    def _follow(self, n: int, text: str) -> int:
        """Characters of the addition up to the end of stop n, 0 where it doesn't end there."""
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
        """Where the text is to be cut and by which stop, once there is one."""
        self._search.add(self._text.add(token))
        return self._search.found


class TextPieces:
    """Cuts a sample's text into pieces as it grows: never half a character, never the beginning of a stop string that
    may still be completed. The pieces together are the text of the finished completion."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        self._text, self._search = TokenText(tokenizer), StopSearch(stops)
        self._seen, self._sent = 0, 0
        self._waiting = ""  # what is known of the text and was not given yet

    def add(self, completion: Completion) -> str:
        """The text that is new since the last call and safe to show; all that is left once the completion is done.
        Call it where the completion doesn't change meanwhile: in the thread of the engine, or when it is done."""
        if completion.done:
            piece = completion.text[self._sent :]
            self._seen, self._waiting = len(completion.ids), ""
        else:
            new = "".join(self._text.add(token) for token in completion.ids[self._seen :])
            self._seen = len(completion.ids)
            self._search.add(new)
            self._waiting += new
            piece = self._waiting[: len(self._waiting) - self._search.held]
            self._waiting = self._waiting[len(piece) :]
        self._sent += len(piece)
        return piece


def _fallbacks(stop: str) -> list[int]:
    """For each beginning of a stop: the length of the longest shorter beginning that it ends with."""
    found = [0] * len(stop)
    matched = 0
    for at in range(1, len(stop)):
        while matched and stop[matched] != stop[at]:
            matched = found[matched - 1]
        matched += stop[matched] == stop[at]
        found[at] = matched
    return found
