"""What a classifier is: it gives a prompt, or a reply to a prompt, a score of violation and shares by category."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from charter.ground.artifact.steps import Steps
from charter.ground.moderation.actions import Side
from charter.ground.text.dialogue import Message

Conversation = Sequence[Message]


@dataclass(frozen=True, slots=True)
class Scores:
    """`violation` in [0, 1]: higher is more surely against the policy. `categories`: which one, by id, as shares that
    sum to 1, empty where the classifier can't tell. `high_risk`: a score in [0, 1] by rule, empty likewise. `places`:
    those of the other parts of the text, where it has several; `violation` is the worst of all. `turns`: violation of
    each user turn, in the order in which they were said, empty where the classifier doesn't read them apart."""

    violation: float
    categories: Mapping[str, float] = field(default_factory=dict)
    high_risk: Mapping[str, float] = field(default_factory=dict)
    places: tuple[Scores, ...] = ()
    turns: tuple[float, ...] = ()


class Classifier(Protocol):
    """Safe to be asked from several threads; the same texts get the same scores."""

    name: str
    version: str  # a digest of all that its scores follow from
    sides: frozenset[Side]

    def prompts(self, conversations: Sequence[Conversation]) -> list[Scores]:
        """Scores of what is asked last in each conversation, read with what stands before it."""
        ...

    def replies(self, items: Sequence[tuple[Conversation, str]]) -> list[Scores]:
        """Scores of each reply, whole or as far as it was written, behind its conversation."""
        ...


@runtime_checkable
class ReadsInSteps(Protocol):
    """A classifier that reads long prompts step by step."""

    def steps(self, messages: Conversation, whose: str) -> Steps[Scores]:
        """Scores of a prompt, those of `prompts` up to rounding. What is remembered of it is told by no shorter time to
        anybody but `whose` it is."""
        ...


@runtime_checkable
class Follows(Protocol):
    """A classifier that keeps what it read of a reply while that is written."""

    def follow(self, messages: Conversation) -> Callable[[str], Steps[Scores]]:
        """Scores of one reply as it grows, those of `replies` up to rounding; what is kept is freed with the function,
        which is for one thread at a time."""
        ...


def read_prompt(classifier: Classifier, messages: Conversation, whose: str) -> Steps[Scores]:
    """Scores of a prompt, in steps where the classifier has any."""
    if isinstance(classifier, ReadsInSteps):
        return (yield from classifier.steps(messages, whose))
    return classifier.prompts([messages])[0]


def follow(classifier: Classifier, messages: Conversation) -> Callable[[str], Steps[Scores]]:
    """Scores of one reply as it grows, by a classifier that keeps what it read, or that reads all of it each time."""
    if isinstance(classifier, Follows):
        return classifier.follow(messages)

    def whole(reply: str) -> Steps[Scores]:
        yield from ()
        return classifier.replies([(messages, reply)])[0]

    return whole
