"""Assistants: engines that speak dialogues or continue plain text. Local checkpoints and remote servers behind one
protocol.

An assistant declares what it can do: "sample", and "score" (log-probabilities of given texts).
Rooms that need what it lacks fall back openly or refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.generate.engine import Completion, Engine
from charter.ground.generate.remote import RemoteAssistant, is_remote
from charter.ground.generate.sampling import Sampling
from charter.ground.generate.scorer import score
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.opening import checkpoint_folder
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.dialogue import Prompt as Prompt
from charter.ground.text.template import Template

SLOTS = 48


class Assistant(Protocol):
    """What rooms ask of a model."""

    capabilities: frozenset[str]

    def reply(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        n: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """n completions of each prompt, in order; one seed a prompt."""
        ...

    def score(self, items: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        """Summed log-probability of each text as the continuation of its prompt, in nats."""
        ...


class LocalAssistant:
    """A checkpoint on this machine."""

    capabilities = frozenset({"sample", "score"})

    def __init__(self, engine: Engine, template: Template) -> None:
        self.engine, self.template = engine, template

    @classmethod
    def open(
        cls, folder: Path, device: str = "cpu", slots: int = SLOTS, precision: str = "float32"
    ) -> LocalAssistant:
        """Load a policy checkpoint folder."""
        model, tokenizer = load_policy(folder, device)
        model.precision = precision
        template = Template(tokenizer, tokenizer.template)
        return cls(Engine(model, tokenizer, slots, ends=[template.end_id]), template)

    def reply(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        n: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """n completions of each prompt, in order; the samples of a prompt share its prefill."""
        return self.engine.generate([self.encode(prompt) for prompt in prompts], sampling, n, seeds)

    def score(self, items: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        """Summed log-probability of each text as the continuation of its prompt; shared parts computed once, so give
        all items of a task together."""
        asked = [(self.encode(prompt), self._continuations(prompt, texts)) for prompt, texts in items]
        return [[sum(tokens) for tokens in found] for found in score(self.engine.model, asked)]

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids of a prompt: by the chat template, or of plain text as it stands (with the start token only where
        the tokenizer of transformers puts one)."""
        if isinstance(prompt, str):
            return self.engine.tokenizer.encode_document(prompt)
        return self.template.encode_prompt(prompt)

    def _continuations(self, prompt: Prompt, texts: Sequence[str]) -> list[list[int]]:
        tokenizer, first = self.engine.tokenizer, not isinstance(prompt, str)
        return [tokenizer.encode_spans(text, first)[0] for text in texts]


def check_prompts(assistant: Assistant, prompts: Sequence[Dialogue]) -> None:
    """Refuses by name, before anything is sampled, a prompt that a local assistant can't reply to.

    What a server takes only the server knows. Raises CharterError.
    """
    if not isinstance(assistant, LocalAssistant):
        return
    for dialogue in prompts:
        try:
            assistant.engine.check(assistant.template.encode_prompt(dialogue.messages))
        except CharterError as error:
            raise CharterError(f"prompt {dialogue.id}: {error}") from None


def open_assistant(
    source: Input, device: str = "cpu", slots: int = SLOTS, precision: str = "float32"
) -> Assistant:
    """The assistant behind a role: a checkpoint, any model reference, or a remote server."""
    if is_remote(source.ref):
        return RemoteAssistant(source.ref)
    return LocalAssistant.open(checkpoint_folder(source), device, slots, precision)
