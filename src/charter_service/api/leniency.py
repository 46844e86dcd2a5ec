"""The policy for an organisation that is exempt from a part of it.

A text flagged by an exempt category is judged again under the policy without that category, so that it can't hide
another violation: places that match other categories are still blocked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from charter.ground.artifact.steps import Steps
from charter.ground.moderation.actions import Level, Verdict
from charter.ground.moderation.policy import Actions, ByLevel
from charter.ground.moderation.screen import Screen
from charter.ground.text.dialogue import Message

NOTHING = ByLevel(standard="allow", enhanced="allow")


def ease(screen: Screen, exempt: Collection[str]) -> Screen:
    """A screen without exempt categories, and without disclosures for exempt high-risk uses."""
    policy = screen.policy
    nothing = Actions(prompt=NOTHING, reply=NOTHING)
    changed = {
        "categories": tuple(
            one.model_copy(update={"actions": nothing}) if one.id in exempt else one
            for one in policy.categories
        ),
        "high_risk": tuple(one for one in policy.high_risk if one.id not in exempt),
    }
    facts = {name: getattr(policy, name) for name in type(policy).model_fields}
    return Screen(type(policy)(**facts | changed), screen.classifiers, screen.thresholds)


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
