"""Best-of-n and few-shot sampling: assistants around another assistant, or around any function that replies.

`apply_strategy` wraps an assistant, `open_with_strategy` opens one and wraps it. Samples depend only on the seeds. The
first ranked sample is the reply that mode policy gives. Each prompt is ranked by itself and each text once, so other
prompts in the batch can't change a choice. A wrapped reply's `text` is the final text; its `ids` are all sampled
tokens.

The example conversations (HHH prompt, plain model): Askell 2021 (2112.00861) section 2 and appendix C; Ganguli 2022
(2209.07858) section 3. The words are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
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
from charter.ground.settings.sources import resolve, shipped
from charter.ground.text.dialogue import Message, Prompt, check_messages, system
from charter.ground.text.parsing import format_transcript
from charter.ground.text.records import read_dialogues

RULE = "-----"
STOPS = ("\nHuman:", "\nAssistant:", f"\n{RULE}")  # what a model writes when its turn is over
CHARACTER = (
    "What follows are conversations between people and an AI assistant. The assistant is there to be of use: it "
    "finds out what somebody really needs, and answers that fully and politely. It knows a good deal and says plainly "
    "what it doesn't know; what it isn't sure of it marks as such, and when it was wrong it says so. It treats people "
    "as adults and doesn't see danger where there is none. It won't help to hurt anybody; then it says so openly and "
    "kindly, and looks for something better that it can do."
)
_END = re.compile(rf"\n\s*(?:(?:Human|Assistant):|{RULE})")
_TURN_WITHIN = re.compile(r"\s*\n\s*\n(?=(?:Human|Assistant):)")
Reply = Callable[[Sequence[Prompt], Sampling, int, Sequence[int] | None], list[list[Completion]]]
# scores of replies to messages; higher is better
Score = Callable[[Sequence[Message], Sequence[str]], list[float]]
Fits = Callable[[Prompt, int], bool]  # whether a prompt and a reply of n tokens fit the context


@dataclass(frozen=True, slots=True)
class Shots:
    """A paragraph (or none) and example conversations that end with the assistant, before another conversation.

    As text: the paragraph, then conversations in the Human/Assistant form, separated by rule lines; the model continues
    the last one. As turns: the paragraph as system text, then the turns of all conversations in order.
    """

    paragraph: str
    conversations: tuple[tuple[Message, ...], ...]

    def last(self, count: int) -> Shots:
        """The same paragraph with the last `count` conversations."""
        return replace(self, conversations=self.conversations[max(0, len(self.conversations) - count) :])

    def text(self, messages: Sequence[Message]) -> str:
        """All as plain text that a model continues with the assistant's next turn, or with its open last one.

        Within a message, a blank line before a turn's name would forge a turn, so it becomes a line break. Raises
        CharterError for messages out of order.
        """
        prompt = check_messages(messages)
        guarded: list[Message] = [
            {"role": m["role"], "content": _TURN_WITHIN.sub("\n", m["content"].strip())} for m in prompt
        ]
        dialogue = format_transcript(guarded)
        if prompt[-1]["role"] == "user":
            dialogue += "\n\nAssistant:"
        blocks = [format_transcript(conversation).strip() for conversation in self.conversations]
        return f"\n\n{RULE}\n\n".join(filter(None, [self.paragraph, *blocks, dialogue.strip()]))

    def turns(self, messages: Sequence[Message]) -> list[Message]:
        """All as turns of one chat; the paragraph and the conversation's own system text come first.

        Raises CharterError for messages out of order.
        """
        dialogue = list(check_messages(messages))
        words = [self.paragraph, dialogue.pop(0)["content"] if dialogue[0]["role"] == "system" else ""]
        first = "\n\n".join(filter(None, words))
        examples = [message for conversation in self.conversations for message in conversation]
        return [*([system(first)] if first else []), *examples, *dialogue]


def end_of_turn(text: str) -> str:
    """The turn in text that a model continued: up to the next turn or rule, without trailing white space."""
    match = _END.search(text)
    return text[: match.start() if match else None].rstrip()


@cache
def hhh_prompt() -> Shots:
    """The paragraph and the 14 conversations of a helpful, honest and harmless assistant."""
    return Shots(CHARACTER, _read("hhh_prompt"))


@cache
def plain_example() -> Shots:
    """The one conversation that shows a plain language model the form, and no character."""
    return Shots("", _read("plain_example"))


def _read(name: str) -> tuple[tuple[Message, ...], ...]:
    conversations = tuple(dialogue.messages for dialogue in read_dialogues(shipped(name)))
    for number, messages in enumerate(conversations, 1):
        if messages[-1]["role"] != "assistant":
            raise CharterError(
                f"shipped:{name}: conversation {number} ends with a turn of {messages[-1]['role']!r}; examples must "
                "end with the assistant's"
            )
    return conversations


class FunctionAssistant:
    """An assistant from a function that replies; the capability "text" means that it continues plain text."""

    def __init__(self, ask: Reply, capabilities: frozenset[str] = frozenset({"sample"})) -> None:
        self.ask, self.capabilities = ask, capabilities - {"score"}

    def reply(
        self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """n completions of each prompt, in order; one seed per prompt."""
        return self.ask(prompts, sampling, n, seeds)

    def score(self, items: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        """Not supported: the replies don't follow the model's own distribution."""
        raise CharterError("a model with a sampling strategy only replies; score texts with the model itself")


class FewShot(FunctionAssistant):
    """A model prompted with example conversations; if they don't fit the context, the first ones are dropped.

    `form` "text": the dialogue as Human/Assistant text, with the reply cut at the next turn. "turns": as a chat.
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
            [_finish(sample, _continues_turn(prompt), bool(sampling.stops)) for sample in samples]
            for prompt, samples in zip(prompts, completions, strict=True)
        ]

    def prompt(self, prompt: Prompt, reply_tokens: int) -> Prompt:
        """The prompt with as many of the last examples as fit beside a whole reply."""
        messages = _messages(prompt)
        count = len(self.shots.conversations)
        request = self._format(messages, count)
        while self.fits is not None and count and not self.fits(request, reply_tokens):
            count -= 1
            request = self._format(messages, count)
        return request

    def _format(self, messages: Sequence[Message], count: int) -> Prompt:
        shots = self.shots.last(count)
        return shots.text(messages) if self.form == "text" else shots.turns(messages)


class BestOfN(FunctionAssistant):
    """Samples several replies to a dialogue; a preference model picks the best, or those nearest to the median."""

    def __init__(
        self, ask: Reply, score: Score, samples: int, order: Callable[[Sequence[float]], list[int]] = best_first
    ) -> None:
        super().__init__(ask)
        self.grade, self.samples, self.order = score, samples, order

    def reply(
        self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """The n chosen completions of each dialogue. Raises CharterError for plain text and for n above `samples`."""
        if n > self.samples:
            raise CharterError(f"{n} replies can't be chosen among {self.samples} samples; sample {n} at least")
        dialogues = [_messages(prompt) for prompt in prompts]
        completions = self.ask(prompts, sampling, self.samples, seeds)
        return [self._choose(*pair, n) for pair in zip(dialogues, completions, strict=True)]

    def _choose(self, messages: Sequence[Message], samples: Sequence[Completion], n: int) -> list[Completion]:
        texts = [sample.text if _continues_turn(messages) else sample.text.strip() for sample in samples]
        different = list(dict.fromkeys(texts))
        scores = dict(zip(different, self.grade(messages, different), strict=True))
        order = repeats_last(self.order([scores[text] for text in texts]), texts)
        return [samples[i] for i in order[:n]]


def apply_strategy(
    assistant: Assistant, strategy: SamplingStrategy, score: Score | None = None, fits: Fits | None = None
) -> Assistant:
    """The assistant with a sampling strategy. `score` ranks replies; `fits` checks the context (None: a checkpoint's
    own context; no limit for a server).

    Raises CharterError if the assistant can't follow the strategy or a ranking lacks `score`.
    """
    local = local_of(assistant)
    sampler = _apply_prompting(
        assistant, strategy, context_check(local) if fits is None and local is not None else fits
    )
    if not strategy.ranks:
        return sampler
    if score is None:
        raise CharterError(f"mode {strategy.mode} ranks by a preference model; name one as grader")
    return BestOfN(sampler.reply, score, strategy.count, best_first if strategy.mode == "rejection" else nearest_median)


def _apply_prompting(assistant: Assistant, strategy: SamplingStrategy, fits: Fits | None) -> Assistant:
    texts = "text" in assistant.capabilities
    if strategy.prompting == "policy":
        return assistant
    if not texts and (strategy.prompting == "plain" or strategy.form == "text"):
        raise CharterError(
            f"{strategy.words} needs an engine that continues plain text, and this server takes only dialogues; use an "
            "openai: server or a checkpoint"
        )
    if strategy.prompting == "plain":
        return FewShot(assistant.reply, plain_example(), "text", fits)
    form = strategy.form or ("text" if texts else "turns")
    return FewShot(assistant.reply, hhh_prompt().last(strategy.examples), form, fits)


def context_check(assistant: LocalAssistant) -> Fits:
    """A function that checks whether a prompt and its reply fit a checkpoint's context."""
    return lambda prompt, tokens: len(assistant.encode(prompt)) + tokens <= assistant.engine.context


def scores_of(grader: PreferenceModel) -> Score:
    """A function that scores the replies to one dialogue with a preference model."""
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
    """Opens the assistant of a role with a sampling strategy; without `grader`, opens the grader that the settings
    name."""
    assistant = open_assistant(source, device, precision=precision, memory=memory)
    if strategy.ranks and grader is None and strategy.grader:
        grader = open_grader(strategy.grader, device=device, precision=precision)
    return apply_strategy(assistant, strategy, None if grader is None else scores_of(grader))


def _messages(prompt: Prompt) -> Sequence[Message]:
    if isinstance(prompt, str):
        raise CharterError("a sampling strategy needs dialogues; give messages of role and content, not plain text")
    return prompt


def _continues_turn(prompt: Prompt) -> bool:
    """Whether the reply continues an open assistant turn, so its leading white space counts."""
    return not isinstance(prompt, str) and prompt[-1]["role"] == "assistant"


def _finish(completion: Completion, continued: bool, own_stops: bool) -> Completion:
    """The reply as one turn: cut where the next turn begins. It counts as ended, unless the caller's stop ended it."""
    text = end_of_turn(completion.text)
    ended = text != completion.text.rstrip() or (completion.stop == "stop" and not own_stops)
    return replace(completion, text=text if continued else text.lstrip(), stop="end" if ended else completion.stop)
