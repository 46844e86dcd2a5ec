"""A guard model: a model taught elsewhere to answer a conversation with a verdict, such as Llama Guard or ShieldGemma.

    guard:openai:http://127.0.0.1:8001#meta-llama/Llama-Guard-3-1B

It gets the conversation, and its server puts it into the model's own template. The first word of its answer is the
verdict ("safe", "unsafe"; "No", "Yes"); codes of MLCommons' hazards ("S9") in it become categories of the shipped
policy. It reads the last user turn behind those before; words of other places are left to the classifier beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import digest_text
from charter.ground.generate.assistant import Assistant
from charter.ground.generate.sampling import Sampling
from charter.ground.measure.intervals import wilson
from charter.ground.moderation.actions import Side
from charter.ground.moderation.classifiers import examples
from charter.ground.moderation.classifiers.classifier import Conversation, Scores
from charter.ground.moderation.classifiers.grader import bounded_request
from charter.ground.moderation.policy import Policy
from charter.ground.moderation.thresholds import TARGETS, Levels, Threshold, Thresholds
from charter.ground.text.dialogue import Message, assistant

FORM = 1  # raise it when answers are read differently
ANSWER = Sampling(temperature=0.0, max_tokens=16)
VERDICTS = {"unsafe": 1.0, "yes": 1.0, "safe": 0.0, "no": 0.0}
# categories of the shipped policy by hazard of MLCommons' AILuminate
HAZARDS = {
    "S1": "violence", "S2": "illegal_goods", "S3": "sexual", "S4": "children", "S5": "deception", "S6": "platform",
    "S7": "privacy", "S8": "platform", "S9": "weapons", "S10": "hate", "S11": "self_harm", "S12": "sexual",
    "S13": "political", "S14": "cyber",
}  # fmt: skip
_WORD, _HAZARD = re.compile(r"[a-z]+"), re.compile(r"\bS\d{1,2}\b")


class Guard:
    """A classifier whose scores are 1 (a violation) or 0, by a guard model."""

    name = "guard"
    sides: frozenset[Side] = frozenset({"prompt", "reply"})

    def __init__(self, model: Assistant, policy: Policy, who: str) -> None:
        """who: names the model."""
        self.assistant, self.who = model, who
        self._categories = {category.id for category in policy.categories}
        self.version = digest_text(json.dumps([FORM, who, policy.id]))[:16]

    def under(self, policy: Policy) -> Guard:
        """The same model, whose hazards are put into another policy's categories."""
        return Guard(self.assistant, policy, self.who)

    @cached_property
    def thresholds(self) -> Thresholds:
        """One half, with how many of the harmless look-alikes and replies of the training rows the guard stops."""
        prompts = [e.messages for e in examples.prompts() if e.alike]
        replies = [(e.messages, e.reply or "") for e in examples.replies() if e.alike]
        return Thresholds(
            classifier=self.version, prompt=_levels(self.prompts(prompts)), reply=_levels(self.replies(replies))
        )

    def prompts(self, conversations: Sequence[Conversation]) -> list[Scores]:
        """Scores of the last user turn of each. Raises CharterError for an answer that is no verdict."""
        return self._scores([bounded_request(messages) for messages in conversations])

    def replies(self, items: Sequence[tuple[Conversation, str]]) -> list[Scores]:
        """Scores of each reply after its conversation. Raises CharterError for an answer that is no verdict."""
        return self._scores([bounded_request(messages, assistant(reply)) for messages, reply in items])

    def _scores(self, texts: Sequence[list[Message]]) -> list[Scores]:
        answers = self.assistant.reply(texts, ANSWER) if texts else []
        return [self._score(answer.text) for (answer,) in answers]

    def _score(self, answer: str) -> Scores:
        first = _WORD.search(answer.lower())
        if first is None or first[0] not in VERDICTS:
            raise CharterError(
                f"guard {self.who} answered {answer[:40]!r}, expected safe or unsafe (or yes, no) first; "
                "name a guard model, behind a server that has its template"
            )
        categories = {HAZARDS[code] for code in _HAZARD.findall(answer) if code in HAZARDS} & self._categories
        violation = VERDICTS[first[0]]
        return Scores(violation, {name: 1 / len(categories) for name in sorted(categories)} if violation else {})


def _levels(scores: Sequence[Scores]) -> Levels:
    hits, n = sum(score.violation >= 0.5 for score in scores), len(scores)
    low, high = wilson(hits, n)
    return Levels(
        **{
            level: Threshold(value=0.5, target=target, n=n, hits=hits, low=low, high=high)
            for level, target in TARGETS.items()
        }
    )
