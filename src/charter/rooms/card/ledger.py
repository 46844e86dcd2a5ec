"""What a card prints: each number with its source, or not at all.

Templates print through a `Ledger`. It notes each number shown (they become card.json) and refuses bare figures, so
that no figure is typed by hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.metric import PLAIN as PLAIN
from charter.ground.measure.metric import SHARE as SHARE
from charter.ground.reports.number import Number, figure, interval, words_of_size
from charter.rooms.card.free_text import WAY_OUT

# A share in a text. That of an interval's level is no result.
SHARE_IN_TEXT = re.compile(
    r"(\d[\d.,]*)[\s\u00a0]*(?:[%‰٪％﹪](?![\s\u00a0]interval)|per ?cent\b|percentage points?\b)", re.IGNORECASE
)


class Kept(str):
    """Words that an artifact of the run holds, such as a verdict on a grader: printed as they are."""

    __slots__ = ()


@dataclass
class Ledger:
    """Notes each number that is shown. The template engine calls `printed` for every expression.

    `names` may hold shares, as a stage that somebody called "T = 1, top 90 %" does.
    """

    names: tuple[str, ...] = ()
    shown: dict[str, Number] = field(default_factory=dict)
    # The figures of the numbers that were put into words.
    worded: set[str] = field(default_factory=set)
    # Labels of numbers that were not drawn, since too little is behind them.
    undrawn: dict[str, None] = field(default_factory=dict)

    def note(self, number: Number) -> Number:
        """Marks a number as shown. Raises CharterError if it has no source, or if another number has its key."""
        if not number.sources or any(not s.artifact or not s.file for s in number.sources):
            raise CharterError(
                f"the card would print {number.name} ({number.stage or 'no stage'}) without a source; "
                "give the artifact and the file it was computed from"
            )
        other = self.shown.setdefault(number.key, number)
        if other != number:
            raise CharterError(f"two numbers of the card are called {number.key}; give each its own key")
        return number

    def drawable(self, number: Number | None, words: str = "") -> bool:
        """Whether a number has a value and enough behind it to be drawn. If too little is behind it, its label (or
        `words`) is noted as left out."""
        if number is None or number.value is None:
            return False
        if number.few:
            self.undrawn[words or number.label] = None
            return False
        return True

    def printed(self, value: object) -> object:
        """The text of a template expression: numbers are noted and worded; bare figures, and texts with a share that
        no number of the card gave, are refused."""
        if isinstance(value, Number):
            return self.value(value)
        if isinstance(value, str) and not isinstance(value, Markup | Kept):
            self._check_text(value)
        if isinstance(value, int | float) and not isinstance(value, str):
            raise CharterError(
                f"the card would print the bare figure {value!r}; only numbers with a source may be printed"
            )
        return "" if value is None else value

    def value(self, number: Number) -> str:
        """The value in words."""
        self.note(number)
        return self._word(figure(number.value, number.unit, number.change))

    def span(self, number: Number) -> str:
        """The interval in words."""
        return self._word(interval(self.note(number)))

    def count(self, number: Number) -> str:
        """The number of rows, and of the prompts (or texts) that they belong to if there are fewer."""
        return words_of_size(self.note(number))

    def records(self) -> list[dict[str, Any]]:
        """The shown numbers as card.json has them."""
        return [n.record() for n in sorted(self.shown.values(), key=lambda n: n.key)]

    def _word(self, words: str) -> str:
        self.worded.update(re.findall(r"\d[\d.,]*", words))
        return words.replace(" ", "\u00a0")

    def _check_text(self, text: str) -> None:
        """Raises CharterError for a text with a share that was typed."""
        for name in self.names:
            text = text.replace(name, "")
        typed = next((m for m in SHARE_IN_TEXT.finditer(text) if m[1] not in self.worded), None)
        if typed:
            raise CharterError(
                f"the card would print {typed[0]!r} in {text[:80]!r}, which is no number of the run; {WAY_OUT}"
            )

    def source(self, number: Number) -> str:
        """Its source: step and file."""
        return "; ".join(f"{s.step}/{s.file}" for s in self.note(number).sources)
