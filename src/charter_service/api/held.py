"""What a model has written and nobody has checked yet: it is held back until the reply so far has passed.

It is checked where a sentence or a line ends, so that a reader gets whole sentences, and after `hold` pieces at most.
For an organisation that is exempt from a part of the policy, a text flagged by an exempt category is judged again under
the policy without that category, so that it can't hide another violation: places that match other categories are still
blocked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from charter.ground.artifact.steps import Steps
from charter.ground.moderation.actions import Level, Verdict
from charter.ground.moderation.policy import Actions, ByLevel
from charter.ground.moderation.screen import Screen
from charter.ground.text.dialogue import Message
from charter_service.api.model_request import Part, Piece

ALLOW_ALL = ByLevel(standard="allow", enhanced="allow")
FIRST = 16  # most pieces before the first check: a reader waits for it
LEAST = 8  # pieces between two checks, so that lists and abbreviations don't cost one each
_ENDS = re.compile(r"(?:[.!?\u2026\u3002\uff01\uff1f][\"')\]*_\u201d\u2019\u00bb]*\s*|\n\s*)\Z")


def ease(screen: Screen, exempt: Collection[str]) -> Screen:
    """A screen without exempt categories, and without disclosures for exempt high-risk uses."""
    policy = screen.policy
    nothing = Actions(prompt=ALLOW_ALL, reply=ALLOW_ALL)
    fields = {
        "categories": tuple(
            category.model_copy(update={"actions": nothing}) if category.id in exempt else category
            for category in policy.categories
        ),
        "high_risk": tuple(use for use in policy.high_risk if use.id not in exempt),
    }
    facts = {name: getattr(policy, name) for name in type(policy).model_fields}
    return Screen(type(policy)(**facts | fields), screen.classifiers, screen.thresholds)


class Watch:
    """Verdicts on one reply as it grows."""

    def __init__(self, screen: Screen, behind: Sequence[Message], sensitivity: Level) -> None:
        self._screen, self._behind, self._sensitivity = screen, behind, sensitivity
        self._read = screen.follow(behind, sensitivity)

    def read(self, text: str) -> Steps[Verdict]:
        """The verdict on the reply so far."""
        return self._read(text)

    def ease(self, exempt: Collection[str]) -> None:
        """Judges again without the categories of an exemption."""
        self._screen = ease(self._screen, exempt)
        self._read = self._screen.follow(self._behind, self._sensitivity)


@dataclass(slots=True)
class Held:
    """Unchecked pieces of one sample, at most `hold` of them."""

    hold: int
    watch: Watch | None  # None if the policy is off; its memory is freed with the sample
    text: str = ""
    count: int = 0
    checked: int = 0
    pieces: list[Part] = field(default_factory=list)
    ended: bool = False
    refused: bool = False

    def add(self, part: Part) -> None:
        """Holds a part back."""
        self.pieces.append(part)
        if isinstance(part, Piece):
            self.text += part.text
            self.count += 1
        else:
            self.ended = True

    @property
    def due(self) -> bool:
        """Whether the text must be checked now."""
        new = self.count - self.checked
        most = self.hold if self.checked else min(FIRST, self.hold)
        return self.ended or new >= most or (new >= LEAST and bool(_ENDS.search(self.text[-20:])))

    def release(self) -> list[Part]:
        """The pieces that may be sent. A blank reply was not checked: its tokens and their likeliest alternatives,
        which could reveal text, are left out."""
        self.checked = self.count
        pieces, self.pieces = self.pieces, []
        if self.text.strip():
            return pieces
        return [_without_tokens(part) for part in pieces]


def _without_tokens(part: Part) -> Part:
    """A part without its tokens."""
    return replace(part, tokens=()) if isinstance(part, Piece) else replace(part, token=None)
