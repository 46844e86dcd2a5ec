"""Assistants: engines that speak dialogues or continue plain text. Local checkpoints and remote servers behind one
protocol.

An assistant declares what it can do: "sample", "text" (continue plain text), and "score" (log-probabilities of given
texts).
Rooms that need what it lacks fall back openly or refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.generate.engine import Completion, Engine
from charter.ground.generate.remote import RemoteAssistant, is_remote
from charter.ground.generate.response_cache import Memory, key_of
from charter.ground.generate.sampling import Sampling
from charter.ground.generate.scorer import score
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.generation import UNKNOWN, Decoding, decoding_of, talk_decoding
from charter.ground.model.opening import checkpoint_folder
from charter.ground.text.dialogue import Dialogue, Message
from charter.ground.text.dialogue import Prompt as Prompt
from charter.ground.text.template import Template

SLOTS = 48


class Assistant(Protocol):
    """What a room needs from a model."""

    capabilities: frozenset[str]

    def reply(
        self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """n completions of each prompt, in order; one seed a prompt."""
        ...

    def score(self, items: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        """Summed log-probability of each text as the continuation of its prompt, in nats."""
        ...


class LocalAssistant:
    """A checkpoint on this machine; `decoding` is its own, `talk` another default for people who talk with it."""

    capabilities = frozenset({"sample", "text", "score"})
    decoding = UNKNOWN
    talk: Decoding | None = None

    def __init__(self, engine: Engine, template: Template) -> None:
        self.engine, self.template = engine, template
        self.decoding = decoding_of(engine.model.generation)

    @classmethod
    def open(cls, folder: Path, device: str = "cpu", slots: int = SLOTS, precision: str = "float32") -> LocalAssistant:
        """Load a policy checkpoint folder."""
        model, tokenizer = load_policy(folder, device)
        model.precision = precision
        template = Template(tokenizer, tokenizer.template)
        return cls(Engine(model, tokenizer, slots, ends=[template.end_id]), template)

    def reply(
        self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """n completions of each prompt, in order; the samples of a prompt share its prefill."""
        return self.engine.generate([self.encode(prompt) for prompt in prompts], sampling, n, seeds)

    def score(self, items: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        """Summed log-probability of each text as the continuation of its prompt. Shared parts are computed once:
        give all items of a task together."""
        encoded = [(self.encode(prompt), self._continuations(prompt, texts)) for prompt, texts in items]
        return [[sum(tokens) for tokens in item] for item in score(self.engine.model, encoded)]

    def score_replies(self, items: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[list[float]]:
        """Mean log-probability of a token of each reply to its messages, (1/n) log P(reply | messages) in nats; the end
        of the turn is one of its n tokens."""
        tasks = []
        for messages, replies in items:
            encoded = [self.template.encode_reply(messages, reply) for reply in replies]
            tasks.append((encoded[0][0], [ids for _, ids in encoded]))
        return [[sum(tokens) / len(tokens) for tokens in item] for item in score(self.engine.model, tasks)]

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids of a prompt: a dialogue by the chat template, plain text as it is (with the start token only if
        the tokenizer of transformers puts one)."""
        if isinstance(prompt, str):
            return self.engine.tokenizer.encode_document(prompt)
        return self.template.encode_prompt(prompt)

    def _continuations(self, prompt: Prompt, texts: Sequence[str]) -> list[list[int]]:
        tokenizer, first = self.engine.tokenizer, not isinstance(prompt, str)
        return [tokenizer.encode_spans(text, first)[0] for text in texts]


class Remembered:
    """An assistant with a memory: it computes only new answers. `who` names the assistant and all its settings.

    Answers of a server are looked up prompt by prompt. Answers of a checkpoint are looked up only for the whole call:
    other neighbours change the rounding, and a run with a memory must equal one without, bit by bit.
    """

    def __init__(self, inner: Assistant, memory: Memory, who: str) -> None:
        self.inner, self.memory, self.who = inner, memory, who
        self.capabilities = inner.capabilities
        self.together = isinstance(inner, LocalAssistant)

    def reply(
        self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """See `Assistant.reply`."""
        prompt_seeds = list(seeds) if seeds is not None else list(range(len(prompts)))
        questions = [
            [_to_json(prompt), asdict(sampling), n, seed] for prompt, seed in zip(prompts, prompt_seeds, strict=True)
        ]

        def ask(places: Sequence[int]) -> list[Any]:
            completions = self.inner.reply([prompts[i] for i in places], sampling, n, [prompt_seeds[i] for i in places])
            return [[asdict(completion) for completion in samples] for samples in completions]

        return [[Completion(**sample) for sample in samples] for samples in self._answers("reply", questions, ask)]

    def score(self, items: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        """See `Assistant.score`."""
        questions = [[_to_json(prompt), list(texts)] for prompt, texts in items]
        return self._answers("score", questions, lambda places: self.inner.score([items[i] for i in places]))

    def _answers(
        self, method: str, questions: Sequence[list[Any]], ask: Callable[[Sequence[int]], list[Any]]
    ) -> list[Any]:
        call = key_of(questions) if self.together else ""
        keys = [key_of(self.who, method, call, question) for question in questions]
        answers = self.memory.recall(keys)
        missing = [i for i, answer in enumerate(answers) if answer is None]
        if missing and self.together:
            missing = list(range(len(questions)))
        for place, answer in zip(missing, ask(missing) if missing else [], strict=True):
            answers[place] = answer
        self.memory.keep([(keys[i], answers[i]) for i in missing])
        return answers


def _to_json(prompt: Prompt) -> object:
    return prompt if isinstance(prompt, str) else [[m["role"], m["content"]] for m in prompt]


def local_of(assistant: Assistant) -> LocalAssistant | None:
    """The checkpoint behind an assistant, with or without a memory; None for a server."""
    inner = assistant.inner if isinstance(assistant, Remembered) else assistant
    return inner if isinstance(inner, LocalAssistant) else None


def own_decoding(assistant: Assistant) -> Decoding:
    """The default decoding of an assistant: that of its checkpoint. A server's is unknown; temperature 1 is the default
    of both APIs."""
    local = local_of(assistant)
    return local.decoding if local is not None else UNKNOWN


def default_decoding(assistant: Assistant) -> Decoding:
    """The default decoding for people who talk with an assistant."""
    local = local_of(assistant)
    return local.talk if local is not None and local.talk is not None else own_decoding(assistant)


def check_prompts(assistant: Assistant, prompts: Sequence[Dialogue]) -> None:
    """Raises CharterError, before anything is sampled, with the name of a prompt that a local assistant can't reply to.

    Prompts for a server aren't checked: only the server knows its limits.
    """
    local = local_of(assistant)
    if local is None:
        return
    for dialogue in prompts:
        try:
            local.engine.check(local.encode(dialogue.messages))
        except CharterError as error:
            raise CharterError(f"prompt {dialogue.id}: {error}") from None


def open_assistant(
    source: Input,
    device: str = "cpu",
    slots: int = SLOTS,
    precision: str = "float32",
    memory: Memory | None = None,
    audited: bool = False,
) -> Assistant:
    """The assistant behind a role: a checkpoint, any model reference, or a remote server. With a memory, it
    remembers its answers. `audited`: as `checkpoint_folder` has it."""
    if is_remote(source.ref):
        assistant: Assistant = RemoteAssistant(source.ref)
    else:
        assistant = LocalAssistant.open(checkpoint_folder(source, audited), device, slots, precision)
        assistant.talk = talk_decoding(source.ref, assistant.decoding)
    return assistant if memory is None else Remembered(assistant, memory, key_of(source.id, slots))
