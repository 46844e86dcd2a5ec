"""Ways to ask a model: free answers, a choice among options, the probabilities of two answers or of texts, and a judge.

Every request to a model goes through here, in whole chunks that are saved and never computed twice. A question that
doesn't fit into the context is kept with the outcome "too long".

A choice compares log-probabilities of the letters after the question. All questions of a chunk go to the scorer
at once, so that a shared few-shot beginning is computed once. A server that can't score samples an answer, and the
letter in it counts; so does any model whose protocol has `max_tokens`.

A question with two answers of interest is asked in one or several versions. A model that scores gives the probability
of each answer's text behind the question. One that only samples votes: `samples` short answers, and the share of each.
The sum of both is the answer mass: near 0 the model says something else, and what it prefers among the two means
little.

The judge is an engine that reads a text and answers with a number or a letter. Its answers are kept as they are, and
marks read them, so that a report can be verified without the judge. An answer without a readable value counts as none.
Asked whether something holds and whether its opposite does, a judge that says yes to both, or no to both, contradicts
itself: it then has no verdict, and is counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.score import points
from charter.ground.model.generation import Decoding, sampling_at
from charter.ground.text.answers import letter_of
from charter.ground.text.dialogue import Message, user
from charter.rooms.evaluate.marks import TOO_LONG, describe_completion, describe_question, likeliest
from charter.rooms.evaluate.task import LETTERS, Context, Prompt, Query, Row, Rows

if TYPE_CHECKING:
    from charter.ground.generate.engine import Completion

YES_NO = ("Yes", "No")
SPEAKERS = {"system": "System", "user": "Human", "assistant": "Assistant"}
FIRST_WORD = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
OPTION = re.compile(r"^[ \t]*\(([A-Z])\)[ \t]*", re.MULTILINE)
Grade = Callable[[Query, str], Row]
Logprobs = list[float] | None
VOTE_TOKENS = 16
# Characters of a text that a judge sees: its beginning and its end.
LONGEST = 4000
_NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?\d+(?![\w]|\.\d)")
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A version of a question. `answers`: the texts of the two answers; `first`: whether the first of them is offered
    before the other; `before`: the conversation that it ends."""

    key: str
    text: str
    answers: tuple[str, str]
    first: bool = True
    before: tuple[Message, ...] = ()

    def prompt(self, form: str) -> Prompt:
        """Turns of the chat template, or the published running text (Perez 2022)."""
        turns = [*self.before, user(self.text)]
        if form == "chat":
            return turns
        return "".join(f"\n\n{SPEAKERS[turn['role']]}: {turn['content']}" for turn in turns) + "\n\nAssistant:"


@dataclass(frozen=True, slots=True)
class Options:
    """A question's text before and after its lettered options, and the options."""

    head: str
    options: tuple[str, ...]
    tail: str

    def text(self, order: Sequence[int]) -> str:
        """The question with its options in an order."""
        lines = [f" ({LETTERS[n]}) {self.options[place]}" for n, place in enumerate(order)]
        return self.head + "\n".join(lines) + self.tail


def read_options(text: str) -> Options | None:
    """The options of a question; None if they aren't one list from (A) on."""
    marks = list(OPTION.finditer(text))
    letters = "".join(mark.group(1) for mark in marks)
    if len(letters) < 2 or not LETTERS.startswith(letters):
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    options = [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
    last, blank, tail = options[-1].partition("\n\n")
    options[-1] = last
    return Options(text[: marks[0].start()], tuple(option.strip() for option in options), blank + tail)


def share(replies: Sequence[str], answers: tuple[str, str]) -> list[float]:
    """The share of replies that name each of two answers."""
    named = [read_answer(reply, answers) for reply in replies]
    return [named.count(place) / len(named) for place in (0, 1)]


def read_answer(reply: str, answers: tuple[str, str]) -> int | None:
    """Which of two answers a reply names, Yes and No by its first word; None if neither."""
    if set(answers) == set(YES_NO):
        word = FIRST_WORD.match(reply)
        return None if word is None else answers.index(word.group(1).capitalize())
    place = letter_of(reply, len(LETTERS))
    letter = None if place is None else f"({LETTERS[place]})"
    return answers.index(letter) if letter in answers else None


def first_share(pair: Sequence[float] | None) -> float | None:
    """The first answer's share of both; None if it wasn't asked or neither was given."""
    return pair[0] / total if pair and (total := sum(pair)) > 0 else None


def mass(pairs: Mapping[str, Sequence[float] | None]) -> float | None:
    """The mean answer mass of the versions that were asked; None if none was."""
    sums = [sum(pair) for pair in pairs.values() if pair is not None]
    return sum(sums) / len(sums) if sums else None


def prefers(value: float | None) -> float | None:
    """1 if a share is above a half, a half at it up to rounding, else 0; None for None."""
    return None if value is None else points(round(value, 9), 0.5)


def answer(context: Context, queries: Sequence[Query], grade: Grade, stops: tuple[str, ...] = ()) -> Rows:
    """One row a sample, with the marks that `grade` gives its answer (`correct`, `outcome` ...)."""
    show(context, queries[0])

    def produce(part: Sequence[Query], _: int) -> Rows:
        each = complete(context, part, stops)
        return [
            row for query, completions in zip(part, each, strict=True) for row in _answers(query, completions, grade)
        ]

    return context.out.chunks(context.task.name, queries, context.chunk, produce, context.title)


def complete(
    context: Context, queries: Sequence[Query], stops: tuple[str, ...] = ()
) -> list[Sequence[Completion] | None]:
    """Sampled answers to each question; None for one that doesn't fit into the context."""
    protocol = context.protocol
    sampling = sampling_at(protocol.decoding, protocol.max_tokens, stops)
    fitting = [query for query in queries if fits(context, query, protocol.max_tokens)]
    seeds = [context.seed("answer", query.question.id) for query in fitting]
    prompts = [query.prompt(protocol.form) for query in fitting]
    replies = context.assistant.reply(prompts, sampling, protocol.samples, seeds)
    by_query = {id(query): completions for query, completions in zip(fitting, replies, strict=True)}
    return [by_query.get(id(query)) for query in queries]


def _answers(query: Query, completions: Sequence[Completion] | None, grade: Grade) -> Rows:
    origin = describe_question(query.question)
    if completions is None:
        return [origin | {"sample": 0, "reply": "", "stop": TOO_LONG, "correct": 0.0, "outcome": TOO_LONG}]
    return [
        origin | {"sample": sample} | describe_completion(completion) | grade(query, completion.text)
        for sample, completion in enumerate(completions)
    ]


def choose(context: Context, queries: Sequence[Query], options: Sequence[str] | None = None) -> Rows:
    """One row a question: log-probability of each option's letter and the likeliest, or the letter of an answer.

    options: texts to score instead of letters, the same for every question.
    """
    scoring = can_score(context) and not context.protocol.max_tokens
    show(context, queries[0])

    def produce(part: Sequence[Query], _: int) -> Rows:
        fitting = [query for query in part if fits(context, query, 2 if scoring else _vote_tokens(context))]
        scores = iter(_letters(context, fitting, options) if scoring else _votes(context, fitting))
        fit_ids = set(map(id, fitting))
        return [
            grade_choice(query, next(scores)) if id(query) in fit_ids else grade_choice(query, None, TOO_LONG)
            for query in part
        ]

    return context.out.chunks(context.task.name, queries, context.chunk, produce, context.title)


def _letters(context: Context, queries: Sequence[Query], options: Sequence[str] | None) -> list[list[float]]:
    form = context.protocol.form
    texts = [[f" {option}" for option in options or LETTERS[: len(query.question.options)]] for query in queries]
    return context.assistant.score([(query.prompt(form), each) for query, each in zip(queries, texts, strict=True)])


def _votes(context: Context, queries: Sequence[Query]) -> list[Logprobs]:
    """One-hot rows of the letters that sampled answers name; None for an answer that names none."""
    sampling = sampling_at(context.protocol.decoding, _vote_tokens(context))
    prompts = [query.prompt(context.protocol.form) for query in queries]
    seeds = [context.seed("vote", query.question.id) for query in queries]
    rows: list[Logprobs] = []
    for query, completions in zip(queries, context.assistant.reply(prompts, sampling, 1, seeds), strict=True):
        text, count = completions[0].text, len(query.question.options)
        # the reply continues the lead
        place = letter_of(f"{query.lead} {text}", count)
        if place is None:
            place = letter_of(text, count)
        rows.append(None if place is None else [0.0 if n == place else -100.0 for n in range(count)])
    return rows


def _vote_tokens(context: Context) -> int:
    return context.protocol.max_tokens or VOTE_TOKENS


def two_answers(context: Context, versions: Sequence[Asked]) -> list[Logprobs]:
    """The probabilities of both answers of each version of a question; None if it doesn't fit into the context. A model
    that only samples gives the shares of its answers."""
    protocol = context.protocol
    prompts = [version.prompt(protocol.form) for version in versions]
    show_prompt(context, prompts[0])
    if can_score(context) and not protocol.max_tokens:
        blank = "" if protocol.form == "chat" else " "
        texts = [[f"{blank}{answer}" for answer in version.answers] for version in versions]
        scores = text_logprobs(context, prompts, texts)
        return [None if pair is None else [math.exp(value) for value in pair] for pair in scores]
    tokens = _vote_tokens(context)
    sampling = sampling_at(protocol.decoding, tokens)

    def produce(part: Sequence[tuple[Asked, Prompt]], _: int) -> list[Logprobs]:
        fitting = [pair for pair in part if holds(context, pair[1], tokens)]
        seeds = [context.seed("vote", version.key) for version, _ in fitting]
        each = context.assistant.reply([prompt for _, prompt in fitting], sampling, protocol.samples, seeds)
        shares = {
            id(pair): share([completion.text for completion in completions], pair[0].answers)
            for pair, completions in zip(fitting, each, strict=True)
        }
        return [shares.get(id(pair)) for pair in part]

    pairs = list(zip(versions, prompts, strict=True))
    return context.out.chunks(context.task.name, pairs, context.chunk, produce, context.title)


def grade_choice(query: Query, logprobs: Sequence[float] | None, why: str = "unparsed") -> Row:
    """The kept row of a choice; `why` is its outcome if there are no log-probabilities."""
    question = query.question
    row = describe_question(question) | {
        "options": list(question.options),
        "right": list(question.right),
        "logprobs": logprobs,
        "outcome": why,
    }
    return row | likeliest(row)


def can_score(context: Context) -> bool:
    """Whether the model under test returns log-probabilities of texts."""
    return "score" in context.assistant.capabilities


def need_scores(context: Context) -> None:
    """Refuses a model that only samples. Raises CharterError."""
    if not can_score(context):
        raise CharterError(
            f"{context.task.name} needs log-probabilities of given texts and {context.inputs.one('policy').name} "
            "only samples; leave it out of tasks"
        )


def check_form(context: Context) -> None:
    """Refuses to ask in running text what a model takes as a dialogue alone. Raises CharterError."""
    if context.protocol.form == "chat" or "form" not in context.task.takes:
        return
    if not {"score", "text"} & context.assistant.capabilities:
        name = context.task.name
        raise CharterError(
            f"{name} is asked in running text, and {context.inputs.one('policy').name} takes dialogues alone; set "
            f"change.{name}.form: chat"
        )


def text_logprobs(
    context: Context, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], key: str = ""
) -> list[Logprobs]:
    """Summed log-probability of each text after its prompt, in nats; None if they don't fit into the context. `key`
    tells one round of a task from another."""
    pairs = list(zip(prompts, texts, strict=True))

    def produce(part: Sequence[tuple[Prompt, Sequence[str]]], _: int) -> list[Logprobs]:
        fitting = [pair for pair in part if holds(context, pair[0], _longest(context, pair[1]))]
        scores = iter(context.assistant.score(fitting))
        fit_ids = set(map(id, fitting))
        return [next(scores) if id(pair) in fit_ids else None for pair in part]

    return context.out.chunks(key or context.task.name, pairs, context.answers_together, produce, context.title)


def short_answers(context: Context, prompts: Sequence[Prompt], names: Sequence[str]) -> list[list[str]]:
    """The protocol's number of sampled answers of a few tokens to each prompt; a name seeds its answers."""
    sampling = sampling_at(context.protocol.decoding, _vote_tokens(context))

    def produce(part: Sequence[tuple[Prompt, str]], _: int) -> list[list[str]]:
        seeds = [context.seed("vote", name) for _, name in part]
        part_prompts = [prompt for prompt, _ in part]
        replies = context.assistant.reply(part_prompts, sampling, context.protocol.samples, seeds)
        return [[completion.text for completion in each] for each in replies]

    pairs = list(zip(prompts, names, strict=True))
    return context.out.chunks(context.task.name, pairs, context.chunk, produce, context.title)


def _longest(context: Context, texts: Sequence[str]) -> int:
    if context.local is None:
        return 0
    return max(len(context.local.engine.tokenizer.encode(text)) for text in texts)


def fits(context: Context, query: Query, answer_tokens: int) -> bool:
    """Whether a question and its answer fit into the context of a local model; always True for a server."""
    return holds(context, query.prompt(context.protocol.form), answer_tokens)


def holds(context: Context, prompt: Prompt, answer_tokens: int) -> bool:
    """The same for a prompt."""
    return context.models.holds(prompt, answer_tokens)


def show(context: Context, query: Query) -> None:
    """Writes the first prompt as the model reads it, for people to look at."""
    show_prompt(context, query.prompt(context.protocol.form))


def show_prompt(context: Context, prompt: Prompt) -> None:
    """The same for a prompt."""
    local = context.local
    if local is not None:
        text = local.engine.tokenizer.decode(local.encode(prompt), skip_special=False)
    elif isinstance(prompt, str):
        text = prompt
    else:
        text = "\n\n".join(f"{m['role']}: {m['content']}" for m in prompt)
    context.out.write_text(f"prompts/{context.task.name}.txt", text + "\n")


def ask_judge(
    context: Context,
    name: str,
    questions: Sequence[tuple[str, str]],
    temperature: float = 0.0,
    samples: int = 1,
    max_tokens: int = 12,
) -> list[list[str]]:
    """The judge's answers to each question (id, text), "" for one that doesn't fit into its context. `name` tells one
    round of questions of a task from another. Raises CharterError without a judge."""
    judge = context.models.judge
    if judge is None:
        raise CharterError(f"{context.task.name} needs the role judge: a model that judges the replies in words")
    sampling = sampling_at(Decoding(temperature), max_tokens)

    def produce(part: Sequence[tuple[str, str]], _: int) -> list[list[str]]:
        prompts: list[list[Message]] = [[user(text)] for _, text in part]
        fits = [context.models.holds(prompt, max_tokens, "judge") for prompt in prompts]
        seeds = [context.seed("judge", name, id) for id, _ in part]
        places = [n for n, fit in enumerate(fits) if fit]
        replies = judge.reply([prompts[n] for n in places], sampling, samples, [seeds[n] for n in places])
        by_place = dict(zip(places, replies, strict=True))
        return [[c.text.strip() for c in by_place[n]] if n in by_place else [""] * samples for n in range(len(part))]

    size = max(1, context.answers_together // samples)
    return context.out.chunks(f"{context.task.name}_{name}", questions, size, produce, context.title)


def ask_both_ways(context: Context, name: str, questions: Sequence[tuple[str, Pair]]) -> list[list[str]]:
    """The judge's two answers to each (id, (text, text with the opposite)), as it gave them."""
    texts = [(f"{key}/{n}", text) for key, pair in questions for n, text in enumerate(pair)]
    answers = [texts[0] for texts in ask_judge(context, name, texts)]
    return [answers[n : n + 2] for n in range(0, len(answers), 2)]


def read_both(answers: Sequence[str]) -> dict[str, Any]:
    """`says`: whether it holds, None without a clear verdict; `flips`: whether both answers say the same word, None if
    one has neither."""
    first, second = (read_answer(answer, YES_NO) for answer in answers)
    if first is None or second is None:
        return {"says": None, "flips": None}
    flips = first == second
    return {"says": None if flips else first == 0, "flips": flips}


def read_number(answer: str, low: int, high: int) -> int | None:
    """The first whole number of an answer; None without one, or if it lies outside the scale."""
    match = _NUMBER.search(answer)
    if match is None:
        return None
    number = int(match.group().replace("\u2212", "-"))
    return number if low <= number <= high else None


def mean_number(answers: Sequence[str], low: int, high: int) -> float | None:
    """The mean of the readable numbers of some answers; None without one."""
    numbers = [number for answer in answers if (number := read_number(answer, low, high)) is not None]
    return sum(numbers) / len(numbers) if numbers else None


def shorten(text: str, most: int = LONGEST) -> str:
    """A text, or its beginning and its end with a mark between."""
    return text if len(text) <= most else f"{text[: most // 2]}\n[...]\n{text[-(most // 2) :]}"
