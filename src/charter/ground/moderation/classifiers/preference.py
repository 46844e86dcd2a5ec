"""The preference classifier: a preference model scores a reply against the policy's own fixed refusal.

    violation = sigmoid(score(refusal) - score(reply)),  both behind the same messages

It judges replies alone and tells no category. Above one half it would rather have refused.
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

FORM = 1  # goes up when scores are made in another way


class Preferred:
    """A classifier of replies by a preference model; one text at a time, whatever the thread."""

    name = "preference"
    sides: frozenset[Side] = frozenset({"reply"})

    def __init__(self, model: PreferenceModel, policy: Policy, who: str) -> None:
        """who: names the model."""
        self.model, self.refusal = model, policy.refusal
        self.version = digest_text(json.dumps([FORM, who, policy.refusal]))[:16]
        self._lock = threading.Lock()

    def prompts(self, conversations: Sequence[Conversation]) -> list[Scores]:
        """Nothing: there is no reply to score yet."""
        return [Scores(0.0) for _ in conversations]

    def replies(self, items: Sequence[tuple[Conversation, str]]) -> list[Scores]:
        """Scores of each reply; one that has not begun is harmless."""
        asked = [(list(m) or [user("")], (self.refusal, reply)) for m, reply in items if reply.strip()]
        with self._lock:
            scored = iter(self.model.score(asked) if asked else [])
        found = []
        for _, reply in items:
            if not reply.strip():
                found.append(Scores(0.0))
                continue
            refused, said = next(scored)
            found.append(Scores(1 / (1 + math.exp(min(700.0, max(-700.0, said - refused))))))
        return found
