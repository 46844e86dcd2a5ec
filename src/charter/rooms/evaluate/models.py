"""The models of a report, each loaded once, at its first use, and what is asked of their engines; so it needs torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import Assistant, LocalAssistant, check_prompts, local_of, open_assistant
from charter.ground.generate.engine import Completion, naming_prompts
from charter.ground.generate.response_cache import Memory
from charter.ground.generate.scorer import score, score_document
from charter.ground.judge import choice
from charter.ground.judge.best_of_n import apply_strategy, scores_of
from charter.ground.judge.preference_score import PreferenceModel, encode_item
from charter.ground.judge.sampling_strategy import SamplingStrategy
from charter.ground.model.generation import Sampling
from charter.ground.model.opening import checkpoint_folder
from charter.ground.moderation.opening import open_screen
from charter.ground.moderation.screen import Screen
from charter.ground.text.dialogue import Dialogue, Message, Prompt
from charter.rooms.evaluate import essay, mapping

# Tokens; longer documents are scored one by one, a piece at a time.
TOGETHER = 8192
# Of first, second and third readings of essays.
EXAMINERS = ("examiner", "second_examiner", "third_examiner")


def examiner_role(inputs: Inputs) -> str:
    """The role of the model that reads essays first: the helper, else the model under test, if no examiner is given."""
    return next((role for role in (EXAMINERS[0], "helper") if inputs.optional(role)), "policy")


class Models:
    """The models of a report. Each is loaded once, at its first use.

    `helper` maps free answers to options; without one the model under test does. `reward` is the preference model that
    RL maximised; its scores stand beside the frozen grader's. `rater` rates harm from 0 to 4. `judge` reads replies and
    answers questions about them. `start` scores how likely each reply is. The last four are None if a report has none.
    `show` says how the model under test is sampled.
    """

    def __init__(self, inputs: Inputs, out: Workspace, show: SamplingStrategy | None = None) -> None:
        self.inputs, self.out, self.show = inputs, out, show or SamplingStrategy()
        self._memory = Memory.of(out)

    @cached_property
    def policy(self) -> Assistant:
        """The model under test by itself. Raises CharterError for a labeller, which writes nothing."""
        source = self.inputs.one("policy")
        if source.variant == "labeller":
            raise CharterError(
                f"{source.name} is a labeller, which scores replies and writes none; of the tasks it takes principles "
                "alone"
            )
        return self._assistant("policy")

    @cached_property
    def labeller(self) -> choice.Labeller:
        """The model under test as a labeller."""
        source = self.inputs.one("policy")
        if source.variant == "labeller":
            return choice.open_labeller(source, self.out.device, self.out.precision)
        return self.assistant

    @cached_property
    def assistant(self) -> Assistant:
        """The model under test, sampled as the report shows it. Raises CharterError if the ranker is the grader."""
        source = self.inputs.optional("ranker")
        if source is None:
            return apply_strategy(self.policy, self.show)
        grader = self.inputs.optional("grader")
        if grader is not None and grader.id == source.id:
            raise CharterError(
                f"ranker and grader are one model ({source.name}): a model can't grade the replies that it chose; give "
                "a ranker of other comparisons (`pairs.part`)"
            )
        ranker = PreferenceModel.open(source.folder, self.out.device, self.out.precision)
        return apply_strategy(self.policy, self.show, scores_of(ranker))

    @cached_property
    def helper(self) -> Assistant:
        """The model that maps free answers to options."""
        return self._assistant("helper") if self.inputs.optional("helper") else self.policy

    @cached_property
    def judge(self) -> Assistant | None:
        """The engine that judges replies in words."""
        return self._assistant("judge") if self.inputs.optional("judge") else None

    @cached_property
    def start(self) -> LocalAssistant | None:
        """The model that training started from."""
        source = self.inputs.optional("start")
        if source is None:
            return None
        return LocalAssistant.open(checkpoint_folder(source), self.out.device, precision=self.out.precision)

    @cached_property
    def grader(self) -> PreferenceModel:
        """The frozen preference model that judges all stages."""
        return PreferenceModel.open(self.inputs.one("grader").folder, self.out.device, self.out.precision)

    @cached_property
    def reward(self) -> PreferenceModel | None:
        """The preference model that RL maximised. Raises CharterError if it is the grader itself."""
        source = self.inputs.optional("reward")
        if source is not None and source.id == self.inputs.one("grader").id:
            raise CharterError(
                f"grader and reward are one model ({source.name}): a model can't grade what was trained to please it; "
                "give a grader of other prompts (`pairs.part`), or leave `reward` out if nothing maximised it"
            )
        return PreferenceModel.open(source.folder, self.out.device, self.out.precision) if source else None

    @cached_property
    def rater(self) -> PreferenceModel | None:
        """The model that rates harm."""
        source = self.inputs.optional("rater")
        if source is None:
            return None
        return PreferenceModel.open(source.folder, self.out.device, self.out.precision, "rating")

    @cached_property
    def examiners(self) -> list[Assistant]:
        """The models that read essays first, second and third; without a role of its own, the one before reads."""
        return [self._assistant(role) for role in self._examiner_roles]

    @property
    def examiner_ids(self) -> list[str]:
        """The ids of these models, each once, in order."""
        return list(dict.fromkeys(self.inputs.one(role).id for role in self._examiner_roles))

    @property
    def _examiner_roles(self) -> list[str]:
        before, roles = examiner_role(self.inputs), []
        for role in EXAMINERS:
            before = role if self.inputs.optional(role) else before
            roles.append(before)
        return roles

    def _assistant(self, role: str) -> Assistant:
        source = self.inputs.one(role)
        return open_assistant(source, self.out.device, precision=self.out.precision, memory=self._memory)

    @property
    def local(self) -> LocalAssistant | None:
        """The model under test with its engine and template, if it runs on this machine."""
        return local_of(self.assistant)

    @property
    def of_policy(self) -> LocalAssistant | None:
        """The same of the model under test by itself."""
        return local_of(self.policy)

    def holds(self, prompt: Prompt, tokens: int, role: str = "assistant") -> bool:
        """Whether a prompt and an answer of some tokens fit into the context of a role's local model; always True for a
        server."""
        return mapping.holds(getattr(self, role), prompt, tokens)

    def check_prompts(self, prompts: Sequence[Dialogue]) -> None:
        """Raises CharterError for a dialogue that is too long for the model under test."""
        check_prompts(self.assistant, prompts)

    def reply(
        self, dialogues: Sequence[Dialogue], sampling: Sampling, samples: int, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        """Replies of the model under test. An error names the dialogue that is too long."""
        with naming_prompts(dialogue.id for dialogue in dialogues):
            return self.assistant.reply([list(d.messages) for d in dialogues], sampling, samples, seeds)

    def token_logprobs(self, part: Sequence[Sequence[int]], length: int) -> list[list[float]]:
        """Log-probability of each token of documents after the first token. Documents have up to `length` tokens. The
        model must be a local one."""
        assert self.local is not None
        model = self.local.engine.model
        if length > TOGETHER:
            return [score_document(model, ids) for ids in part]
        return [scores[0] for scores in score(model, [(ids[:1], [ids[1:]]) for ids in part])]

    def reply_logprobs(self, items: Sequence[tuple[str, Sequence[Message], Sequence[str]]]) -> list[list[float]]:
        """Mean log-probability of a token of each reply to its messages; the model must be a local one. An item is (id,
        messages, replies)."""
        assert self.local is not None
        with naming_prompts(name for name, _, _ in items):
            return self.local.score_replies([(messages, each) for _, messages, each in items])

    def prefer(
        self,
        pairs: Sequence[tuple[str, Sequence[Message], str, str]],
        principle: str,
        shots: Sequence[Mapping[str, Any]],
        seed: int,
    ) -> list[choice.Choice]:
        """Which of two replies the model under test prefers, by letter and in both orders; a pair is (id, messages,
        first, second)."""
        questions = [choice.Question(*pair, principle) for pair in pairs]
        return choice.choose(self.assistant, questions, choice.How(shots=shots, seed=seed))

    def label(
        self,
        pairs: Sequence[tuple[str, Sequence[Message], str, str, str]],
        shots: Sequence[Mapping[str, Any]],
        seed: int,
    ) -> list[choice.Choice]:
        """Which of two replies is the better one under a principle; a pair is (id, messages, first, second,
        principle)."""
        questions = [choice.Question(*pair) for pair in pairs]
        return choice.choose(self.labeller, questions, choice.How(shots=shots, seed=seed))

    def first_option(self, requests: Sequence[Prompt], questions: Sequence[str], seed: int) -> list[float]:
        """Probability of (A) after each request, asked once; see `judge/choice.py`."""
        return choice.first_option(self.assistant, requests, questions, choice.How(seed=seed))

    def map_to_closest(self, pairs: Sequence[tuple[str, Sequence[str]]]) -> list[int | None]:
        """The index of the option that the helper maps each answer to; see `mapping.py`."""
        mappings = [mapping.Mapping(text, tuple(options)) for text, options in pairs]
        return mapping.find_closest(self.helper, mappings)

    def read_essays(self, requests: Sequence[tuple[str, str]]) -> list[list[float | None]]:
        """The examiners' readings of each (task, essay); see `essay.py`."""
        return essay.read_thrice(self.examiners, requests)

    def open_screen(self, policy: Path, names: Sequence[str]) -> Screen | None:
        """The acceptable-use screen of some classifiers; None without any."""
        return open_screen(policy, names, device=self.out.device) if names else None

    def add_start_scores(self, rows: Sequence[dict[str, Any]]) -> None:
        """Adds the start model's loss on each reply; nothing without a start model."""
        if self.start is not None:
            score_under_start(self.start, rows)


def score_under_start(start: LocalAssistant, rows: Sequence[dict[str, Any]]) -> None:
    """Adds nll_start, the nats of a reply under the start model, and tokens_start, its tokens there.

    If both are too long for the start's context, the reply loses its far end, then the prompt its oldest tokens. An
    empty reply has 0 tokens.
    """
    items = [encode_item(start.template, row["messages"], [row["reply"]], start.engine.context) for row in rows]
    scores = score(start.engine.model, [(item.prompt, [item.replies[0][:-1]]) for item in items])
    for row, (logprobs,) in zip(rows, scores, strict=True):
        row["nll_start"], row["tokens_start"] = -sum(logprobs), len(logprobs)
