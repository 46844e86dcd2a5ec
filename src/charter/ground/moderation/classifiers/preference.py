"""The preference classifier: a preference model scores a reply against the policy's own fixed refusal.

    violation = sigmoid(score(refusal) - score(reply)),  both after the same messages

It judges only replies and gives no category. Above one half the model prefers the refusal.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence

from charter.ground.artifact.manifest import digest_text
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.moderation.actions import Side
from charter.ground.moderation.classifiers.classifier import Conversation, Scores
from charter.ground.moderation.policy import Policy
from charter.ground.text.dialogue import user

FORM = 1  # raise it when scores are computed differently


class PreferenceClassifier:
    """A classifier of replies by a preference model; a lock lets only one thread score at a time."""

    name = "preference"
    sides: frozenset[Side] = frozenset({"reply"})

    def __init__(self, model: PreferenceModel, policy: Policy, who: str) -> None:
        """who: names the model."""
        self.model, self.refusal, self.who = model, policy.refusal, who
        self.version = digest_text(json.dumps([FORM, who, policy.refusal]))[:16]
        self._lock = threading.Lock()

    def under(self, policy: Policy) -> PreferenceClassifier:
        """The same model, which compares with the refusal of another policy."""
        return PreferenceClassifier(self.model, policy, self.who)

    def prompts(self, conversations: Sequence[Conversation]) -> list[Scores]:
        """Zero: there is no reply to score yet."""
        return [Scores(0.0) for _ in conversations]

    def replies(self, items: Sequence[tuple[Conversation, str]]) -> list[Scores]:
        """Scores of each reply; an empty one is harmless."""
        pairs = [(list(m) or [user("")], (self.refusal, reply)) for m, reply in items if reply.strip()]
        with self._lock:
            scored = iter(self.model.score(pairs) if pairs else [])
        scores = []
        for _, reply in items:
            if not reply.strip():
                scores.append(Scores(0.0))
                continue
            refusal_score, reply_score = next(scored)
            scores.append(Scores(1 / (1 + math.exp(min(700.0, max(-700.0, reply_score - refusal_score))))))
        return scores
