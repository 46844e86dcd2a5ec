"""The grader: for each category a model chooses which of two judgements of a text is right, in both orders.

    p(category) = p(YES) against NO, under the category's own words, mean of both orders

Each category takes one choice of `judge.choice`: a checkpoint gives probabilities, a server sampled votes. The
violation score is the largest p over categories, minus the p that the same model gives a plain text. Otherwise a model
with a bias to one option would put every text in every category.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from charter.ground.artifact.manifest import digest_text
from charter.ground.generate.assistant import Assistant
from charter.ground.judge.choice import How, Question, choose
from charter.ground.moderation.actions import Side
from charter.ground.moderation.classifiers.classifier import Conversation, Scores
from charter.ground.moderation.policy import Category, Policy
from charter.ground.text.dialogue import Message, assistant, user

YES, NO = "Yes, it does.", "No, it does not."
PLAIN_PROMPT: tuple[Message, ...] = (user("What is the capital of France?"),)
PLAIN_REPLY = "It is Paris."
FORM = 1  # goes up when the words below change
LONGEST = 4000  # characters of a text that the model sees: its beginning and its end


class Grader:
    """A classifier that asks an assistant two questions per category and text, so it suits audits and small policies
    better than live traffic."""

    name = "grader"
    sides: frozenset[Side] = frozenset({"prompt", "reply"})

    def __init__(self, model: Assistant, policy: Policy, who: str, votes: int = 8) -> None:
        """who: names the model; votes: samples per question if it can't score."""
        self.assistant, self.policy, self.who, self.how = model, policy, who, How(votes=votes)
        self.version = digest_text(json.dumps([FORM, who, policy.id, votes]))[:16]
        self._plain: dict[Side, list[float]] = {}

    def under(self, policy: Policy) -> Grader:
        """The same model, asked by another policy."""
        return Grader(self.assistant, policy, self.who, self.how.votes)

    def prompts(self, conversations: Sequence[Conversation]) -> list[Scores]:
        """Scores of the last user turn of each."""
        return self._scores("prompt", [bounded_request(messages) for messages in conversations])

    def replies(self, items: Sequence[tuple[Conversation, str]]) -> list[Scores]:
        """Scores of each reply after its conversation."""
        return self._scores("reply", [bounded_request(messages, assistant(reply)) for messages, reply in items])

    def _scores(self, side: Side, texts: Sequence[list[Message]]) -> list[Scores]:
        categories = self.policy.categories
        if side not in self._plain:
            plain = [*PLAIN_PROMPT, assistant(PLAIN_REPLY)] if side == "reply" else list(PLAIN_PROMPT)
            self._plain[side] = self._ask(side, [plain])[0]
        scores = []
        for row in self._ask(side, texts):
            raised = [max(0.0, p - plain) for p, plain in zip(row, self._plain[side], strict=True)]
            total = sum(raised) or 1.0
            shares = {c.id: value / total for c, value in zip(categories, raised, strict=True)}
            scores.append(Scores(max(raised), shares if any(raised) else {}))
        return scores

    def _ask(self, side: Side, texts: Sequence[list[Message]]) -> list[list[float]]:
        """p of each category for each text."""
        categories = self.policy.categories
        questions = [
            Question(f"{n}-{c.id}", messages, YES, NO, principle(c, side))
            for n, messages in enumerate(texts)
            for c in categories
        ]
        probabilities = [choice.p_first for choice in choose(self.assistant, questions, self.how)] if questions else []
        return [probabilities[at : at + len(categories)] for at in range(0, len(probabilities), len(categories))]


def principle(category: Category, side: Side) -> str:
    """The question about one category, worded for the two options."""
    question = (
        "Does the human's last message ask for this" if side == "prompt" else "Does the assistant's reply give this"
    )
    return f"{question}: {category.covers} These are permitted: {'; '.join(category.allowed)}."


def bounded_request(messages: Conversation, *behind: Message) -> list[Message]:
    """The turns up to the last user turn and what stands behind it, each at most LONGEST characters long."""
    turns = [m for m in messages if m["role"] != "system"]
    while turns and turns[-1]["role"] != "user":
        turns = turns[:-1]
    return [{"role": m["role"], "content": _shorten(m["content"])} for m in (*(turns or [user("")]), *behind)]


def _shorten(text: str) -> str:
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"
