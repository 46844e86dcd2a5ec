"""Models as they are shown: assistants around an assistant, or around any function that replies.

`shown` wraps an assistant, `open_shown` opens one and wraps it. What is sampled depends on the seeds alone. The first
of the samples that are ranked is the reply that the model gives when shown as it is. Prompts are ranked one by one,
each text once, so that neighbours can't change a choice.

A wrapped reply's `text` is what is shown; its `ids` are all that was sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.generate.assistant import Assistant, LocalAssistant, local_of, open_assistant
from charter.ground.generate.engine import Completion
from charter.ground.generate.response_cache import Memory
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.judge.sampling_strategy import SamplingStrategy, best_first, nearest_median, repeats_last
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.sources import resolve
from charter.ground.text.dialogue import Message, Prompt
from charter.ground.text.shots import STOPS, Shots, end_of_turn, hhh_prompt, plain_example

Reply = Callable[[Sequence[Prompt], Sampling, int, Sequence[int] | None], list[list[Completion]]]
Score = Callable[[Sequence[Message], Sequence[str]], list[float]]  # of replies to messages, higher is better
Fits = Callable[[Prompt, int], bool]  # whether a prompt and a reply of so many tokens fit the context


class FunctionAssistant:
    """An assistant made of a function that replies; "text" among its capabilities says that it continues plain text."""

    def __init__(self, ask: Reply, capabilities: frozenset[str] = frozenset({"sample"})) -> None:
        self.ask, self.capabilities = ask, capabilities - {"score"}

    def reply(
        self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """n completions of each prompt, in order; one seed a prompt."""
        return self.ask(prompts, sampling, n, seeds)

    def score(self, items: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        """Not offered: what is shown is no longer the model's own distribution."""
        raise CharterError("a model that is shown to people only replies; score texts with the model itself")


class FewShot(FunctionAssistant):
    """A model asked behind example conversations, of which those that find no room are left out, the first ones first.

    `form` "text": the dialogue as Human/Assistant text, the reply cut at the next turn. "turns": as a chat.
    """

    def __init__(self, ask: Reply, shots: Shots, form: str = "text", fits: Fits | None = None) -> None:
        super().__init__(ask)
        self.shots, self.form, self.fits = shots, form, fits

    def reply(
        self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """n completions of each dialogue. Raises CharterError for a prompt that is plain text."""
        requests = [self.prompt(prompt, sampling.max_tokens) for prompt in prompts]
        if self.form == "turns":
            return self.ask(requests, sampling, n, seeds)
        stopped = replace(sampling, stops=(*sampling.stops, *STOPS))
        completions = self.ask(requests, stopped, n, seeds)
        return [
            [_finish(one, _continues_turn(prompt), bool(sampling.stops)) for one in samples]
            for prompt, samples in zip(prompts, completions, strict=True)
        ]

    def prompt(self, prompt: Prompt, reply_tokens: int) -> Prompt:
        """What the model is asked to continue: with as many of the last examples as fit beside a whole reply."""
        messages = _messages(prompt)
        count = len(self.shots.conversations)
        request = self._worded(messages, count)
        while self.fits is not None and count and not self.fits(request, reply_tokens):
            count -= 1
            request = self._worded(messages, count)
        return request

    def _worded(self, messages: Sequence[Message], count: int) -> Prompt:
        shots = self.shots.last(count)
        return shots.text(messages) if self.form == "text" else shots.turns(messages)


class BestOfN(FunctionAssistant):
    """Of `samples` replies to a dialogue those that a preference model puts first, or in the middle."""

    def __init__(
        self,
        ask: Reply,
        score: Score,
        samples: int,
        order: Callable[[Sequence[float]], list[int]] = best_first,
    ) -> None:
        super().__init__(ask)
        self.grade, self.samples, self.order = score, samples, order

    def reply(
        self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """The n chosen completions of each dialogue. Raises CharterError for plain text and for n above `samples`."""
        if n > self.samples:
            raise CharterError(
                f"{n} replies can't be chosen among {self.samples} samples; sample {n} at least"
            )
        dialogues = [_messages(prompt) for prompt in prompts]
        completions = self.ask(prompts, sampling, self.samples, seeds)
        return [self._chosen(*pair, n) for pair in zip(dialogues, completions, strict=True)]

    def _chosen(self, messages: Sequence[Message], samples: Sequence[Completion], n: int) -> list[Completion]:
        texts = [sample.text if _continues_turn(messages) else sample.text.strip() for sample in samples]
        different = list(dict.fromkeys(texts))
        scores = dict(zip(different, self.grade(messages, different), strict=True))
        order = repeats_last(self.order([scores[text] for text in texts]), texts)
        return [samples[i] for i in order[:n]]


def apply_strategy(
    assistant: Assistant, strategy: SamplingStrategy, score: Score | None = None, fits: Fits | None = None
) -> Assistant:
    """The assistant as it is shown; `score` ranks, `fits` tells how many examples find room (None: as a checkpoint's
    context says, all of them elsewhere).

    Raises CharterError where the assistant or what was given can't do it.
    """
    local = local_of(assistant)
    sampler = _apply_prompting(
        assistant, strategy, context_check(local) if fits is None and local is not None else fits
    )
    if not strategy.ranks:
        return sampler
    if score is None:
        raise CharterError(f"mode {strategy.mode} ranks by a preference model; name one as grader")
    return BestOfN(
        sampler.reply, score, strategy.count, best_first if strategy.mode == "rejection" else nearest_median
    )


def _apply_prompting(assistant: Assistant, strategy: SamplingStrategy, fits: Fits | None) -> Assistant:
    texts = "text" in assistant.capabilities
    if strategy.prompting == "policy":
        return assistant
    if not texts and (strategy.prompting == "plain" or strategy.form == "text"):
        raise CharterError(
            f"{strategy.words} needs an engine that continues plain text, and this server takes dialogues alone; use an "
            "openai: server or a checkpoint"
        )
    if strategy.prompting == "plain":
        return FewShot(assistant.reply, plain_example(), "text", fits)
    form = strategy.form or ("text" if texts else "turns")
    return FewShot(assistant.reply, hhh_prompt().last(strategy.examples), form, fits)


def context_check(assistant: LocalAssistant) -> Fits:
    """Whether a prompt and its reply fit a checkpoint's context."""
    return lambda prompt, tokens: len(assistant.encode(prompt)) + tokens <= assistant.engine.context


def scores_of(grader: PreferenceModel) -> Score:
    """A preference model as a function that scores the replies to one dialogue."""
    return lambda messages, replies: grader.score([(messages, replies)])[0]


def open_grader(
    ref: str, folder: Path | None = None, device: str = "cpu", precision: str = "float32"
) -> PreferenceModel:
    """The preference model of a reference; relative paths start at `folder`."""
    target = resolve(ref, folder)
    source = Input("grader", ref, target.kind, target.variant, target.path, target.ref, target.digest)
    return PreferenceModel.open(checkpoint_folder(source), device, precision)


def open_with_strategy(
    source: Input,
    strategy: SamplingStrategy,
    grader: PreferenceModel | None = None,
    device: str = "cpu",
    precision: str = "float32",
    memory: Memory | None = None,
) -> Assistant:
    """The assistant behind a role, as it is shown; without `grader`, the one that the settings name is opened."""
    assistant = open_assistant(source, device, precision=precision, memory=memory)
    if strategy.ranks and grader is None and strategy.grader:
        grader = open_grader(strategy.grader, device=device, precision=precision)
    return apply_strategy(assistant, strategy, None if grader is None else scores_of(grader))


def _messages(prompt: Prompt) -> Sequence[Message]:
    if isinstance(prompt, str):
        raise CharterError("a model is shown in dialogues; give messages of role and content, not plain text")
    return prompt


def _continues_turn(prompt: Prompt) -> bool:
    """Whether the reply goes on with an open turn of the assistant's, so that white space before it counts."""
    return not isinstance(prompt, str) and prompt[-1]["role"] == "assistant"


def _finish(completion: Completion, continued: bool, own_stops: bool) -> Completion:
    """The reply as a turn: text cut where another turn begins, and ended there unless the caller's stop ended it."""
    text = end_of_turn(completion.text)
    ended = text != completion.text.rstrip() or (completion.stop == "stop" and not own_stops)
    return replace(
        completion, text=text if continued else text.lstrip(), stop="end" if ended else completion.stop
    )
