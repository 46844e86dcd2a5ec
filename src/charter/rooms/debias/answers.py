"""The policy's answers to the questions under a request for fairness (Q+IF+CoT of MSC, Ganguli et al. 2023).

The reasoning is sampled after words that announce the intent. Then the model chooses one option: by the probability of
each letter, or, if an engine can't score, by its share of sampled answers. Small models choose by position more than by
text, so a question is asked `samples` times, with its options rotated by one place each time. The mean decides: with
three or six samples the effect of position cancels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from charter.ground.generate.assistant import Assistant
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import Sampling
from charter.ground.settings.seed import derive_seed
from charter.ground.text.answers import letter_of
from charter.ground.text.dialogue import Message
from charter.rooms.debias.questions import OPTIONS, Question
from charter.rooms.debias.settings import Settings
from charter.rooms.debias.wording import (
    conclusion_messages,
    letter,
    option_texts,
    question_text,
    request_messages,
    thought_messages,
)


def answer_rows(
    assistant: Assistant, settings: Settings, questions: Sequence[Question], seed: int
) -> list[dict[str, Any]]:
    """One row per question; `kept`: the choice is right by construction."""
    turns = [(q, k, _text(q, k)) for q in questions for k in range(settings.samples)]
    thoughts = _thoughts(assistant, settings, turns, seed)
    requests = [
        request_messages(text) if thought is None else conclusion_messages(text, thought)
        for (_, _, text), thought in zip(turns, thoughts, strict=True)
    ]
    shares = _shares(assistant, settings, requests, [(q.id, k) for q, k, _ in turns], seed)
    count = settings.samples
    return [
        _row(question, thoughts[n * count : (n + 1) * count], shares[n * count : (n + 1) * count])
        for n, question in enumerate(questions)
    ]


def _text(question: Question, turn: int) -> str:
    """The question with its options rotated by `turn` places: option n stands at place (n + turn) mod 3."""
    options = tuple(question.options[(place - turn) % OPTIONS] for place in range(OPTIONS))
    return question_text(question.passage, question.question, options)


def _thoughts(
    assistant: Assistant, settings: Settings, turns: Sequence[tuple[Question, int, str]], seed: int
) -> list[str | None]:
    """The sampled reasoning of each turn; None without reasoning (Q+IF)."""
    if not settings.thought_tokens:
        return [None for _ in turns]
    with naming_prompts(q.id for q, _, _ in turns):
        replies = assistant.reply(
            [thought_messages(text) for _, _, text in turns],
            Sampling(temperature=settings.temperature, max_tokens=settings.thought_tokens),
            seeds=[derive_seed(seed, "thought", q.id, k) for q, k, _ in turns],
        )
    return [c.text.strip() for (c,) in replies]


def _shares(
    assistant: Assistant,
    settings: Settings,
    requests: Sequence[list[Message]],
    names: Sequence[tuple[str, int]],
    seed: int,
) -> list[list[float]]:
    """The share of each displayed place: its letter's normalised probability, or its part of the sampled answers that
    name a letter (all 0 if none does)."""
    if "score" in assistant.capabilities:
        with naming_prompts(question for question, _ in names):
            logs = assistant.score([(messages, option_texts(OPTIONS)) for messages in requests])
        return [_normalise(row) for row in logs]
    seeds = [derive_seed(seed, "vote", *name) for name in names]
    replies = assistant.reply(requests, Sampling(max_tokens=8), n=settings.votes, seeds=seeds)
    shares = []
    for votes in replies:
        counts = Counter(n for vote in votes if (n := letter_of(vote.text, OPTIONS)) is not None)
        shares.append([counts[n] / max(1, counts.total()) for n in range(OPTIONS)])
    return shares


def _normalise(logs: Sequence[float]) -> list[float]:
    weights = [math.exp(log - max(logs)) for log in logs]
    return [weight / sum(weights) for weight in weights]


def _row(question: Question, thoughts: Sequence[str | None], turn_shares: Sequence[Sequence[float]]) -> dict[str, Any]:
    """`id` is the template, since questions of one template are not independent. `letters`: mean share of each
    displayed place. `shares`: mean share of each option, in the question's order.

    `choice` is None without a named letter."""
    turns = range(len(turn_shares))
    letters = [sum(turn[n] for turn in turn_shares) / len(turn_shares) for n in range(OPTIONS)]
    shares = [sum(turn_shares[k][(n + k) % OPTIONS] for k in turns) / len(turn_shares) for n in range(OPTIONS)]
    choice = max(range(OPTIONS), key=lambda n: shares[n]) if any(shares) else None
    return {
        "id": question.template,
        "item": question.id,
        "dimension": question.dimension,
        "context": question.context,
        "polarity": question.polarity,
        "turned": question.turned,
        "question": question.text,
        "reasoning": [thought for thought in thoughts if thought is not None],
        "named": list(question.named),
        "biased": question.biased,
        "letters": letters,
        "shares": shares,
        "answer": letter(question.right),
        "choice": None if choice is None else letter(choice),
        "chosen": None if choice is None else question.named[choice],
        "kept": choice == question.right,
    }
