"""A model's choice between two replies as a probability. Each question is put in both orders.

The labeller sees the conversation, a principle and options (A) and (B). The normalised probabilities of the two
letters are the soft label (Bai 2022b, section 4.1). With l = log p(A) - log p(B), the label over both orders is

    p(first is better) = sigma((l of the first order - l of the second) / 2)

A position bias adds a constant to the letter A: l = content + bias in one order, -content + bias in the other. It
cancels, and the label is sigma(content). An engine that can't score gives the share of k sampled votes, and the label
says so. A labeller that was taught to read principles (`principle_reader.py`) gives a label that has no order. Shares
of votes and means over sampled thoughts are averaged as probabilities: they are often 0 or 1, and the logit of 0 or 1
is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.constitution.lessons import Lesson
from charter.ground.constitution.wording import OPTIONS, answer_messages, choice_messages, thought_messages
from charter.ground.generate.assistant import Assistant, open_assistant
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.principle_reader import PrincipleReader
from charter.ground.settings.seed import derive_seed
from charter.ground.text.answers import letter_of
from charter.ground.text.dialogue import Message, Prompt


@dataclass(frozen=True, slots=True)
class Question:
    """Which of two replies to a conversation is better under a principle."""

    id: str
    messages: Sequence[Message]
    first: str
    second: str
    principle: str


@dataclass(frozen=True, slots=True)
class Choice:
    """p_first: probability that the first reply is better, over both orders. shown_first: mean probability of the
    option in first place over both orders (0.5: no order bias). orders: that probability in each order, as asked and
    with the replies exchanged."""

    p_first: float
    shown_first: float
    voted: bool = False
    orders: tuple[float, float] = field(default=(0.5, 0.5), compare=False)


@dataclass(frozen=True, slots=True)
class How:
    """Settings of a choice: worked examples, chain of thought (tokens, samples), votes if the labeller can't score.
    `labels` of the replies in first and in second place, without a chain of thought."""

    shots: Sequence[Mapping[str, Any]] = ()
    thought_tokens: int = 0
    thought_samples: int = 1
    votes: int = 8
    seed: int = 0
    labels: tuple[str, str] = OPTIONS


Labeller = Assistant | PrincipleReader


def open_labeller(source: Input, device: str = "cpu", precision: str = "float32") -> Labeller:
    """The model that chooses: a policy or a server, which answers with a letter, or a reader of principles, which
    scores."""
    if source.variant == "labeller":
        return PrincipleReader.open(source.folder, device, precision)
    return open_assistant(source, device, precision=precision)


def choose(labeller: Labeller, questions: Sequence[Question], how: How) -> list[Choice]:
    """One choice per question, over both orders; with `thought_tokens` the labeller reasons step by step first.

    Raises CharterError for a chain of thought of a reader of principles.
    """
    if isinstance(labeller, PrincipleReader):
        if how.thought_tokens:
            raise CharterError("the labeller scores replies and doesn't reason: leave thought out")
        pairs_read = [Lesson(q.id, q.principle, q.messages, q.first, q.second) for q in questions]
        labels = [_sigma(gap) for gap in labeller.score(pairs_read)]
        return [Choice(label, 0.5, orders=(label, 1 - label)) for label in labels]
    orders = [(q, q.first, q.second) for q in questions] + [(q, q.second, q.first) for q in questions]
    half = len(questions)
    scored = "score" in labeller.capabilities
    if how.thought_tokens:
        probabilities = _after_thought(labeller, orders, how)
    else:
        requests = [choice_messages(q.messages, a, b, q.principle, how.shots, how.labels) for q, a, b in orders]
        if scored:
            logits = _logits(labeller, requests, [q.id for q, _, _ in orders], how.labels)
            pairs = list(zip(logits[:half], logits[half:], strict=True))
            return [_of_logits(a, b) for a, b in pairs]
        names = [(q.id, f"{q.id}-{i >= half}") for i, (q, _, _) in enumerate(orders)]
        probabilities = _votes(labeller, requests, names, how)
    turned = zip(probabilities[:half], probabilities[half:], strict=True)
    return [Choice((a + 1 - b) / 2, (a + b) / 2, not scored, (a, b)) for a, b in turned]


def _of_logits(straight: float, exchanged: float) -> Choice:
    orders = _sigma(straight), _sigma(exchanged)
    return Choice(_sigma((straight - exchanged) / 2), sum(orders) / 2, orders=orders)


def on_first(labeller: Assistant, requests: Sequence[list[Message]], names: Sequence[str], how: How) -> list[float]:
    """The probability of the letter in first place of each request that ends before it, or its share of sampled
    votes. `names` seed the votes, and name a request in errors."""
    if "score" in labeller.capabilities:
        return [_sigma(logit) for logit in _logits(labeller, requests, names, how.labels)]
    return _votes(labeller, requests, [(name, name) for name in names], how)


def first_option(labeller: Assistant, requests: Sequence[Prompt], questions: Sequence[str], how: How) -> list[float]:
    """Probability of (A) after each request, asked once and not in both orders; the share of votes of a labeller that
    can't score, 0.5 without a readable one. `questions`: an id for each request."""
    if "score" in labeller.capabilities:
        return [_sigma(logit) for logit in _logits(labeller, requests, questions)]
    return _votes(labeller, requests, [(question, question) for question in questions], how)


def _sigma(logit: float) -> float:
    return 1 / (1 + math.exp(min(700.0, -logit)))


def _logits(
    labeller: Assistant, requests: Sequence[Prompt], questions: Sequence[str], labels: tuple[str, str] = OPTIONS
) -> list[float]:
    """The log-probability of the label in first place less that of the other, of each request."""
    with naming_prompts(questions):
        pairs = labeller.score([(messages, labels) for messages in requests])
    return [a - b for a, b in pairs]


def _votes(labeller: Assistant, requests: Sequence[Prompt], names: Sequence[tuple[str, str]], how: How) -> list[float]:
    """Share of votes for the option in first place, per request.

    names: for each request the id of its question and the name that seeds its votes.
    """
    seeds = [derive_seed(how.seed, "vote", name) for _, name in names]
    replies = labeller.reply(requests, Sampling(temperature=1.0, max_tokens=8), n=how.votes, seeds=seeds)
    shares = []
    for votes in replies:
        letters = [place for v in votes if (place := letter_of(v.text, 2)) is not None]
        shares.append(letters.count(OPTIONS.index(how.labels[0])) / len(letters) if letters else 0.5)
    return shares


def _after_thought(labeller: Assistant, orders: Sequence[tuple[Question, str, str]], how: How) -> list[float]:
    """Mean probability of the option in first place, over sampled chains of thought."""
    requests = [thought_messages(q.messages, a, b, q.principle, how.shots) for q, a, b in orders]
    seeds = [derive_seed(how.seed, "thought", q.id, n) for n, (q, _, _) in enumerate(orders)]
    sampling = Sampling(temperature=1.0, max_tokens=how.thought_tokens)
    with naming_prompts(q.id for q, _, _ in orders):
        chains = labeller.reply(requests, sampling, n=how.thought_samples, seeds=seeds)
    concluded, names = [], []
    for number, (messages, thoughts) in enumerate(zip(requests, chains, strict=True)):
        for k, thought in enumerate(thoughts):
            concluded.append(answer_messages(messages, thought.text))
            question = orders[number][0].id
            names.append((question, f"{question}-{number >= len(orders) // 2}-{k}"))
    if "score" in labeller.capabilities:
        probabilities = [_sigma(logit) for logit in _logits(labeller, concluded, [question for question, _ in names])]
    else:
        probabilities = _votes(labeller, concluded, names, how)
    size = how.thought_samples
    return [sum(probabilities[i : i + size]) / size for i in range(0, len(probabilities), size)]


def clamp(p: float, low: float) -> float:
    """A probability clamped to [low, 1 - low]: chain-of-thought labels are overconfident (the paper: 0.40-0.60)."""
    return min(1 - low, max(low, p))
