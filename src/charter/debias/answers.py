"""The policy's answers to the questions under a request for fairness (Q+IF+CoT of MSC, Ganguli et al. 2023).

The reasoning is sampled behind words that announce the intent, then one choice is asked for: the likeliest letter, or,
where an engine can't score, the letter that most sampled answers name. Each sampled reasoning is one kept row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from charter.debias.questions import OPTIONS, Question
from charter.debias.settings import Settings
from charter.ground.constitution.unbiased import conclusion_messages, request_messages, thought_messages
from charter.ground.generate.assistant import Assistant
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import Sampling
from charter.ground.settings.seed import derive_seed
from charter.ground.text.choices import letter, named_option, option_texts
from charter.ground.text.dialogue import Message


def answer_rows(
    assistant: Assistant, settings: Settings, questions: Sequence[Question], seed: int
) -> list[dict[str, Any]]:
    """One row for each question and sampled reasoning; `kept`: its choice is right by construction."""
    thoughts = _thoughts(assistant, settings, questions, seed)
    asked, names = [], []
    for question, some in zip(questions, thoughts, strict=True):
        for number, thought in enumerate(some):
            text = question.text
            asked.append(request_messages(text) if thought is None else conclusion_messages(text, thought))
            names.append((question, number, thought))
    chosen = _choices(assistant, settings, asked, [(q.id, n) for q, n, _ in names], seed)
    return [
        _row(question, number, thought, shares)
        for (question, number, thought), shares in zip(names, chosen, strict=True)
    ]


def _thoughts(
    assistant: Assistant, settings: Settings, questions: Sequence[Question], seed: int
) -> list[list[str | None]]:
    """The sampled reasonings of each question; None where none is asked for (Q+IF)."""
    if not settings.thought_tokens:
        return [[None] for _ in questions]
    with naming_prompts(q.id for q in questions):
        replies = assistant.reply(
            [thought_messages(q.text) for q in questions],
            Sampling(temperature=settings.temperature, max_tokens=settings.thought_tokens),
            n=settings.samples,
            seeds=[derive_seed(seed, "thought", q.id) for q in questions],
        )
    return [[c.text.strip() for c in some] for some in replies]


def _choices(
    assistant: Assistant,
    settings: Settings,
    asked: Sequence[list[Message]],
    names: Sequence[tuple[str, int]],
    seed: int,
) -> list[list[float]]:
    """The share of each letter: its normalised probability, or its part of the sampled answers that name one (all 0
    where none does)."""
    if "score" in assistant.capabilities:
        with naming_prompts(question for question, _ in names):
            logs = assistant.score([(messages, option_texts(OPTIONS)) for messages in asked])
        return [_normalised(some) for some in logs]
    seeds = [derive_seed(seed, "vote", *name) for name in names]
    replies = assistant.reply(asked, Sampling(max_tokens=8), n=settings.votes, seeds=seeds)
    shares = []
    for votes in replies:
        counts = Counter(n for vote in votes if (n := named_option(vote.text, OPTIONS)) is not None)
        shares.append([counts[n] / max(1, counts.total()) for n in range(OPTIONS)])
    return shares


def _normalised(logs: Sequence[float]) -> list[float]:
    weights = [math.exp(one - max(logs)) for one in logs]
    return [weight / sum(weights) for weight in weights]


def _row(question: Question, number: int, thought: str | None, shares: Sequence[float]) -> dict[str, Any]:
    """`id` is the template: questions of one are not independent. `choice` is None where no answer named a letter."""
    choice = max(range(OPTIONS), key=lambda n: shares[n]) if any(shares) else None
    return {
        "id": question.template,
        "item": question.id,
        "sample": number,
        "dimension": question.dimension,
        "context": question.context,
        "polarity": question.polarity,
        "turned": question.turned,
        "question": question.text,
        "reasoning": thought,
        "named": list(question.named),
        "biased": question.biased,
        "answer": letter(question.right),
        "choice": None if choice is None else letter(choice),
        "chosen": None if choice is None else question.named[choice],
        "p_answer": shares[question.right],
        "kept": choice == question.right,
    }
