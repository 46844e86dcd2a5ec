"""What a task works with: the models, its data and drawn questions, its protocol, and the ways to ask."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.manifest import digest_text
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import (
    Assistant,
    LocalAssistant,
    check_prompts,
    local_of,
    own_decoding,
)
from charter.ground.generate.engine import Completion, naming_prompts
from charter.ground.judge import choice as judging
from charter.ground.judge import essay
from charter.ground.judge.detect import training_digest
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, Message
from charter.ground.text.records import read_prompts
from charter.rooms.evaluate import (
    asking,
    asking_judge,
    behind_screen,
    conversations,
    declining,
    mapping,
    replies,
    topic_set,
)
from charter.rooms.evaluate.either import Asked
from charter.rooms.evaluate.models import Models
from charter.rooms.evaluate.screening import Screening
from charter.rooms.evaluate.settings import Settings
from charter.rooms.evaluate.task import Prompt, Protocol, Query, Row, Rows, Rule, Task

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """One task on one model. `facts`: what the task adds to its score's identity. `summary`: what report.json says of
    the task besides. `drawn`: how many questions of how many in the data were drawn."""

    settings: Settings
    inputs: Inputs
    out: Workspace
    models: Models
    task: Task
    protocol: Protocol
    screening: Screening
    facts: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    drawn: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task.detecting:
            self.facts["detectors"] = training_digest()

    @property
    def assistant(self) -> Assistant:
        """The model under test."""
        return self.models.assistant

    @property
    def local(self) -> LocalAssistant | None:
        """The model under test with its engine and template, if it runs on this machine."""
        return local_of(self.assistant)

    @property
    def sources(self) -> list[Path]:
        """The files or folders of the task's data."""
        return [entry.folder for entry in self.inputs.many(self.task.data_role)]

    @property
    def source(self) -> Path:
        """The one file or folder of the task's data."""
        return self.inputs.one(self.task.data_role).folder

    @property
    def title(self) -> str:
        """The text of progress bars."""
        return f"{self.settings.stage}: {self.task.name}"

    @property
    def answers_together(self) -> int:
        """How many answers are sampled together and saved at once."""
        return self.settings.chunk or self.task.chunk

    @property
    def chunk(self) -> int:
        """How many questions are asked together, so that a chunk has about `answers_together` answers."""
        return max(1, self.answers_together // self.protocol.samples)

    def absent(self, why: str, *metrics: str) -> None:
        """Says in report.json and to the user why the task has no such metric."""
        self.summary.setdefault("absent", {}).update(dict.fromkeys(metrics, why))
        self.out.note(f"{self.task.name}: no {', '.join(metrics)}: {why}")

    def seed(self, *names: str | int) -> int:
        """A seed that depends only on the draw seed, the task and `names`; it is equal for every stage."""
        return derive_seed(self.settings.draw_seed, self.task.name, *names)

    def draw(self, rows: Sequence[T], seed: int | None = None) -> list[T]:
        """At most `limit` rows (0: all) in their order, the same for every stage."""
        limit = self.protocol.limit
        all_of_them = not limit or limit >= len(rows)
        self.drawn.update({"asked": len(rows) if all_of_them else limit, "of": len(rows)})
        if all_of_them:
            return list(rows)
        rng = random.Random(self.seed("draw") if seed is None else seed)
        return [rows[i] for i in sorted(rng.sample(range(len(rows)), limit))]

    def draw_evenly(self, rows: Sequence[T], stratum: Callable[[T], object]) -> list[T]:
        """At most `limit` rows (0: all), as many of each stratum as it has and the limit allows, in their order; the
        same for tasks that share a role."""
        limit = self.protocol.limit
        self.drawn.update({"asked": min(limit or len(rows), len(rows)), "of": len(rows)})
        if not limit or limit >= len(rows):
            return list(rows)
        rng = random.Random(derive_seed(self.settings.draw_seed, "draw", self.task.data_role))
        places: dict[object, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(stratum(row), []).append(place)
        strata = list(places.values())
        for one in strata:
            rng.shuffle(one)
        rng.shuffle(strata)
        in_turn = (place for layer in zip_longest(*strata) for place in layer if place is not None)
        return [rows[place] for place in sorted(islice(in_turn, limit))]

    def draw_of_role(self, rows: Sequence[T]) -> list[T]:
        """The same, by the seed of the data's role."""
        return self.draw(rows, derive_seed(self.settings.draw_seed, "draw", self.task.data_role))

    def prompts(self, reader: Callable[[Iterable[Path]], list[Dialogue]] = read_prompts) -> list[Dialogue]:
        """The drawn dialogues of the task's data, by default without the assistant's reference answers. Raises
        CharterError for a broken row, and for a dialogue that is too long for the model under test."""
        prompts = self.draw_of_role(reader(self.sources))
        self.check_prompts(prompts)
        return prompts

    def check_prompts(self, prompts: Sequence[Dialogue]) -> None:
        """Raises CharterError for a dialogue that is too long for the model under test."""
        check_prompts(self.assistant, prompts)

    def examples(self, pool: Sequence[T], what: str = "") -> list[T]:
        """The protocol's number of worked examples, drawn from a pool that is not scored.

        Raises CharterError if the pool is too small.
        """
        shots = self.protocol.shots
        if shots > len(pool):
            raise CharterError(
                f"{self.task.name} needs {shots} worked examples and {what or self.source} has {len(pool)}; "
                f"give more, or set change.{self.task.name}.shots"
            )
        if shots == len(pool):
            return list(pool)
        return random.Random(self.seed("examples", what)).sample(list(pool), shots)

    def fits(self, query: Query, answer_tokens: int) -> bool:
        """Whether a question and its answer fit into the context of a local model; always True for a server."""
        return self.holds(query.prompt(self.protocol.form), answer_tokens)

    def holds(self, prompt: Prompt, answer_tokens: int) -> bool:
        """The same for a prompt."""
        local = self.local
        return local is None or len(local.encode(prompt)) + answer_tokens <= local.engine.context

    def answer(self, queries: Sequence[Query], grade: asking.Grade, stops: tuple[str, ...] = ()) -> Rows:
        """One row a sampled answer; see `asking.answer`."""
        return asking.answer(self, queries, grade, stops)

    def complete(self, queries: Sequence[Query]) -> list[Sequence[Completion] | None]:
        """Sampled answers to each question of a chunk; see `asking.complete`."""
        return asking.complete(self, queries)

    def answer_or_decline(self, key: str, queries: Sequence[Query], marks: Rule) -> Rows:
        """One row a question that may be declined; see `declining.answer_or_decline`."""
        return declining.answer_or_decline(self, key, queries, marks)

    def follow_up(self, items: Sequence[tuple[Row, Prompt]], request: str) -> list[str]:
        """The replies to a further request behind prompts and their replies; see `declining.follow_up`."""
        return declining.follow_up(self, items, request, self.protocol.max_tokens)

    def choose(self, queries: Sequence[Query], options: Sequence[str] | None = None) -> Rows:
        """One row a choice among options; see `asking.choose`."""
        return asking.choose(self, queries, options)

    def two_answers(self, asked: Sequence[Asked]) -> list[asking.Logprobs]:
        """The probabilities of two answers to each version of a question; see `asking.two_answers`."""
        return asking.two_answers(self, asked)

    def replies(
        self, prompts: Sequence[Dialogue], grade: Callable[[Rows], None], most: int | None = None
    ) -> Rows:
        """One row a reply to a dialogue; see `replies.replies`."""
        return replies.replies(self, prompts, grade, most)

    def converse(self, scripts: Sequence[topic_set.Asked]) -> Rows:
        """One row a turn of scripts held with the model; see `conversations.converse`."""
        return conversations.converse(self, scripts)

    def behind_screen(self, rows: Rows) -> Rows:
        """The rows with what the acceptable-use screen does; see `behind_screen.add_actions`."""
        return behind_screen.add_actions(self, rows)

    def ask_judge(self, name: str, questions: Sequence[tuple[str, str]], **how: Any) -> list[list[str]]:
        """The judge's answers to each question (id, text); `how`: fields of `asking_judge.Asking`."""
        return asking_judge.ask(self, name, questions, asking_judge.Asking(**how))

    def rate(self, rows: Rows) -> list[float]:
        """The rater's rating of each row's reply after its messages, not clipped. The report must have a rater."""
        rater = self.models.rater
        assert rater is not None

        def produce(part: Sequence[Row], _: int) -> list[float]:
            scores = rater.score([(row["messages"], [row["reply"]]) for row in part])
            return [score for (score,) in scores]

        return self.out.chunks(f"{self.task.name}_rater", rows, self.answers_together, produce, self.title)

    @property
    def can_score(self) -> bool:
        """Whether the model under test returns log-probabilities of texts."""
        return asking.can_score(self)

    def need_scores(self) -> None:
        """Refuses a model that only samples. Raises CharterError."""
        asking.need_scores(self)

    def text_logprobs(
        self, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], key: str = ""
    ) -> list[asking.Logprobs]:
        """Log-probability of each text after its prompt; see `asking.text_logprobs`."""
        return asking.text_logprobs(self, prompts, texts, key or self.task.name)

    def short_answers(self, prompts: Sequence[Prompt], names: Sequence[str]) -> list[list[str]]:
        """Sampled answers of a few tokens to each prompt; see `asking.short_answers`."""
        return asking.short_answers(self, prompts, names, self.task.name)

    def token_logprobs(self, part: Sequence[Sequence[int]], length: int) -> list[list[float]]:
        """Log-probability of each token of documents; see `asking.token_logprobs`."""
        return asking.token_logprobs(self, part, length)

    def map_to_closest(self, pairs: Sequence[tuple[str, Sequence[str]]]) -> list[int | None]:
        """The index of the option that the helper maps each answer to; see `mapping.find_closest`."""
        mappings = [mapping.Mapping(text, tuple(options)) for text, options in pairs]
        return mapping.find_closest(self.models.helper, mappings)

    def read_essays(self, requests: Sequence[tuple[str, str]]) -> list[list[float | None]]:
        """The examiners' readings of each (task, essay); see `essay.read_thrice`."""
        return essay.read_thrice(self.models.examiners, requests)

    def prefer(
        self,
        pairs: Sequence[tuple[str, Sequence[Message], str, str]],
        principle: str,
        shots: Sequence[Mapping[str, Any]],
        seed: int,
    ) -> list[judging.Choice]:
        """Which of two replies the model under test prefers, by letter and in both orders; a pair is (id, messages,
        first, second)."""
        questions = [judging.Question(*pair, principle) for pair in pairs]
        return judging.choose(self.assistant, questions, judging.How(shots=shots, seed=seed))

    def first_option(self, requests: Sequence[Prompt], questions: Sequence[str], seed: int) -> list[float]:
        """Probability of (A) after each request, asked once; see `judge/choice.py`."""
        return judging.first_option(self.assistant, requests, questions, judging.How(seed=seed))

    def reply_logprobs(
        self, items: Sequence[tuple[str, Sequence[Message], Sequence[str]]]
    ) -> list[list[float]]:
        """Mean log-probability of a token of each reply to its messages; the model must be a local one. An item is (id,
        messages, replies)."""
        assert self.local is not None
        with naming_prompts(name for name, _, _ in items):
            return self.local.score_replies([(messages, each) for _, messages, each in items])

    @property
    def grade_harm(self) -> Callable[[Rows], None]:
        """Adds the scores of grader, reward model and rater to rows."""
        return partial(replies.grade_harm, self)

    @property
    def grade_help(self) -> Callable[[Rows], None]:
        """Adds the grader's score to rows."""
        return partial(replies.grade_help, self)

    @property
    def grade_rating(self) -> Callable[[Rows], None]:
        """Adds the rater's rating of harm to rows."""
        return partial(replies.grade_rating, self)

    @property
    def grade_beside_fixed(self) -> Callable[[Rows], None]:
        """Adds the grader's scores of the reply and of the fixed one to rows."""
        return partial(replies.grade_beside_fixed, self)

    def show(self, query: Query) -> None:
        """Writes the first prompt as the model reads it, for people to look at."""
        self.show_prompt(query.prompt(self.protocol.form))

    def show_prompt(self, prompt: Prompt) -> None:
        """The same for a prompt."""
        local = self.local
        if local is not None:
            text = local.engine.tokenizer.decode(local.encode(prompt), skip_special=False)
        elif isinstance(prompt, str):
            text = prompt
        else:
            text = "\n\n".join(f"{m['role']}: {m['content']}" for m in prompt)
        self.out.write_text(f"prompts/{self.task.name}.txt", text + "\n")

    def identity(self) -> Row:
        """The facts that must be equal if two scores of this task are compared."""
        protocol, takes = self.protocol, self.task.takes
        data = [{"ref": entry.name, "id": entry.id} for entry in self.inputs.many(self.task.data_role)]
        facts: Row = {
            "data": data[0] if len(data) == 1 else data,
            "limit": protocol.limit,
            "draw_seed": self.settings.draw_seed,
            "version": self.task.version,
        }
        if takes == ("limit",) and not self.task.group:
            return facts | self.facts
        facts |= {"shots": protocol.shots, "form": protocol.form}
        scoring = not protocol.max_tokens and self.can_score
        facts["scored"] = "options" if scoring else "samples"
        if not scoring:
            facts |= protocol.decoding.facts | {
                "samples": protocol.samples,
                "max_tokens": protocol.max_tokens,
            }
        if protocol.form == "chat":
            local = local_of(self.models.policy)
            facts["template"] = digest_text(local.template.jinja) if local else "remote"
        return facts | self.facts


def open_contexts(settings: Settings, inputs: Inputs, out: Workspace) -> list[Context]:
    """A context for every task of a report. Models are loaded at their first use."""
    models, screening = Models(inputs, out, settings.show), Screening(settings, inputs, out)
    contexts = []
    for task in settings.evaluations:
        if not task.role.required and not inputs.many(task.data_role):
            # such as revisions without transcripts
            continue
        change = settings.change_of(task.name)
        protocol = task.protocol.apply_change(settings.limit, change)
        if settings.decoding == "own" and protocol.max_tokens:
            protocol = protocol.use_decoding(own_decoding(models.policy), change)
        contexts.append(Context(settings, inputs, out, models, task, protocol, screening))
    return contexts
