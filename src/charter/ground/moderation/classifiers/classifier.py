"""The interface of classifiers: each gives a prompt, or a reply, a score of violation and shares by category."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from charter.ground.artifact.steps import Steps
from charter.ground.moderation.actions import Side
from charter.ground.moderation.policy import Policy
from charter.ground.text.dialogue import Message

Conversation = Sequence[Message]


@dataclass(frozen=True, slots=True)
class Scores:
    """`violation` in [0, 1]: higher means a more likely violation. `categories`: shares by id that sum to 1, empty
    if the classifier can't tell categories. `high_risk`: a score in [0, 1] by rule, empty likewise. `places`: scores of
    the other parts of the text, if it has several; `violation` is the worst of all. `turns`: violation of each user
    turn, in their order, empty if the classifier doesn't read turns separately."""

    violation: float
    categories: Mapping[str, float] = field(default_factory=dict)
    high_risk: Mapping[str, float] = field(default_factory=dict)
    places: tuple[Scores, ...] = ()
    turns: tuple[float, ...] = ()


class Classifier(Protocol):
    """Safe to call from several threads; equal texts get equal scores."""

    name: str
    version: str  # a digest of everything that its scores depend on
    sides: frozenset[Side]

    def prompts(self, conversations: Sequence[Conversation]) -> list[Scores]:
        """Scores of the last request of each conversation, read with the messages before it."""
        ...

    def replies(self, items: Sequence[tuple[Conversation, str]]) -> list[Scores]:
        """Scores of each reply, complete or not, after its conversation."""
        ...


@runtime_checkable
class ReadsInSteps(Protocol):
    """A classifier that reads long prompts step by step."""

    def steps(self, messages: Conversation, whose: str) -> Steps[Scores]:
        """Scores of a prompt, equal to those of `prompts` up to rounding. A cached result serves only its owner
        `whose`: nobody else gets a shorter time."""
        ...


@runtime_checkable
class OfPolicy(Protocol):
    """A classifier that depends on the text of the policy."""

    def under(self, policy: Policy) -> Classifier:
        """The same classifier for another policy; it loads nothing anew."""
        ...


@runtime_checkable
class Follows(Protocol):
    """A classifier that keeps what it has read of a reply while the reply grows."""

    def follow(self, messages: Conversation) -> Callable[[str], Steps[Scores]]:
        """Scores of one reply as it grows, equal to those of `replies` up to rounding. Its memory is freed with the
        function, which is for one thread at a time."""
        ...


def read_prompt(classifier: Classifier, messages: Conversation, whose: str) -> Steps[Scores]:
    """Scores of a prompt, in steps if the classifier has them."""
    if isinstance(classifier, ReadsInSteps):
        return (yield from classifier.steps(messages, whose))
    return classifier.prompts([messages])[0]


def follow(classifier: Classifier, messages: Conversation) -> Callable[[str], Steps[Scores]]:
    """Scores of one reply as it grows; the classifier keeps what it has read, or reads all of it each time."""
    if isinstance(classifier, Follows):
        return classifier.follow(messages)

    def read_all(reply: str) -> Steps[Scores]:
        yield from ()
        return classifier.replies([(messages, reply)])[0]

    return read_all
