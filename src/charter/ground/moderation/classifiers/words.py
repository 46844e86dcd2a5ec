"""The words of a policy: finds obvious requests by their words, regardless of other classifiers.

A phrase is a verb and its object, at most GAP words later in the same sentence: "make" and "bomb" match "how do I make
a small bomb". Words that show another meaning ("bath", "in the game") excuse a sentence. It reads every place of a
prompt, also decoded. It matches only literal words, so use it beside a classifier that knows meanings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from charter.ground.artifact.manifest import digest_text
from charter.ground.artifact.steps import Steps, drain
from charter.ground.moderation.actions import Side
from charter.ground.moderation.classifiers import examples
from charter.ground.moderation.classifiers.classifier import Conversation, Scores
from charter.ground.moderation.places import places
from charter.ground.moderation.policy import Policy
from charter.ground.moderation.thresholds import Thresholds, choose_levels

GAP = 6  # words between the verb and its object
PIECE, OVERLAP = 20_000, 200  # characters read in one step, and read again in the next
_SENTENCE = re.compile(r"[.!?\n]+")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


class Words:
    """A classifier of prompts: 1 if any place has a phrase of the policy, else 0."""

    name = "words"
    sides: frozenset[Side] = frozenset({"prompt"})

    def __init__(self, policy: Policy) -> None:
        self.version = digest_text(f"words {GAP} {policy.id}")[:16]
        self._excuses = _either(policy.excuses)
        self._phrases = [
            (category.id, _either(phrase.verbs), _either(phrase.objects), _either(phrase.excuses))
            for category in policy.categories
            for phrase in category.phrases
        ]

    def under(self, policy: Policy) -> Words:
        """The words of another policy."""
        return Words(policy)

    @cached_property
    def thresholds(self) -> Thresholds:
        """Chosen on the harmless training rows: above 0 if few of them have a phrase."""
        harmless = [e.messages for e in examples.prompts() if e.label == examples.HARMLESS]
        return Thresholds(classifier=self.version, prompt=choose_levels([s.violation for s in self.prompts(harmless)]))

    def prompts(self, conversations: Sequence[Conversation]) -> list[Scores]:
        """Scores of all places of each conversation."""
        return [drain(self.steps(messages, "")) for messages in conversations]

    def replies(self, items: Sequence[tuple[Conversation, str]]) -> list[Scores]:
        """Zero: a single word says little about a reply."""
        return [Scores(0.0) for _ in items]

    def steps(self, messages: Conversation, whose: str) -> Steps[Scores]:
        """Scores of a prompt, one piece of text per step."""
        ids: list[str] = []
        for text in dict.fromkeys(place.messages[-1]["content"] for place in places(messages)):
            for start in range(0, max(1, len(text)), PIECE):
                # a phrase cut by one piece is complete in the next
                ids += self._categories_in(text[max(0, start - OVERLAP) : start + PIECE])
                if len(text) > PIECE:
                    yield
        categories = list(dict.fromkeys(ids))
        if not categories:
            return Scores(0.0)
        return Scores(1.0, {categories[0]: 1.0}, places=tuple(Scores(1.0, {id: 1.0}) for id in categories[1:]))

    def _categories_in(self, text: str) -> list[str]:
        """Categories whose phrases a text has."""
        ids: list[str] = []
        for sentence in _SENTENCE.split(text.lower()):
            if self._excuses and self._excuses.search(sentence):
                continue
            for id, verbs, objects, excuses in self._phrases:
                if id in ids or (excuses and excuses.search(sentence)):
                    continue
                if _near(verbs, objects, sentence):
                    ids.append(id)
        return ids


def _near(verbs: re.Pattern[str] | None, objects: re.Pattern[str] | None, sentence: str) -> bool:
    """Whether an object follows a verb, at most GAP words later. Without verbs the object alone counts."""
    if objects is None:
        return False
    ends = [match.start() for match in objects.finditer(sentence)]
    if not ends or verbs is None:
        return bool(ends)
    for verb in verbs.finditer(sentence):
        after = next((at for at in ends if at >= verb.end()), None)
        if after is not None and len(_WORD.findall(sentence[verb.end() : after])) <= GAP:
            return True
    return False


def _either(words: Sequence[str]) -> re.Pattern[str] | None:
    """A pattern for any of `words`, as whole words; a star at the end stands for any ending."""
    if not words:
        return None
    spelled = [re.escape(word.lower().removesuffix("*")) + (r"\w*" if word.endswith("*") else "") for word in words]
    return re.compile(rf"\b(?:{'|'.join(spelled)})\b")
