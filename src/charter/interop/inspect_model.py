"""Inspect on our engine: the provider of models named `charter/NAME`, NAME a step's folder or a model reference.

Inspect asks for one sample at a time and for many at once; the driver steps all of them together.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from anyio import to_thread
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Logprob,
    Logprobs,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.engine import Completion, Stop
from charter.ground.generate.engine_loop import Driver, Job
from charter.ground.generate.sampling import Sampling, sampling_at
from charter.ground.model.generation import Decoding, choose_decoding
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.execution import choose_execution
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Message, check_messages
from charter.runner.models import CHECKPOINT, find_model

SLOTS = 32
DEFAULT_MAX_TOKENS = 512
STOPS: dict[Stop, StopReason] = {"end": "stop", "stop": "stop", "length": "max_tokens", "loop": "stop"}
# Options that this engine lacks; refused, since ignoring them would change scores silently.
UNKNOWN = (
    "best_of",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "top_logprobs",
    "prompt_logprobs",
    "response_schema",
)


class CharterAPI(ModelAPI):
    """A policy checkpoint as a model of Inspect. Model arguments (`-M`): device, precision, slots."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (Inspect's own form)
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        try:
            self._assistant = _open(model_name, **model_args)
        except CharterError as error:
            # Inspect shows its own kind as one line, any other as a traceback
            raise PrerequisiteError(f"charter: error: {error}") from error
        self._driver = Driver(self._assistant.engine)
        self._seen: Counter[str] = Counter()

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Sample `num_choices` replies. Raises CharterError for an option that the engine lacks.

        With a `seed`, equal requests get equal replies. Without one their replies differ: the n-th request of a prompt
        has its own seed, the same in every process.
        """
        if tools:
            raise CharterError(f"{self.model_name} can't call tools; use a task without them")
        if wrong := [name for name in UNKNOWN if getattr(config, name)]:
            raise CharterError(f"{self.model_name} does not support {wrong[0]}; leave it out")
        messages = check_messages([_message(m) for m in input])
        prompt = self._assistant.template.encode_prompt(messages)
        seed = config.seed if config.seed is not None else self._fresh(str(prompt))
        answer = self._driver.ask(
            Job(prompt, _sampling(config, self._assistant.decoding), config.num_choices or 1, seed)
        )
        completions = await to_thread.run_sync(answer.result, abandon_on_cancel=True)
        output_tokens = sum(len(c.ids) for c in completions)
        return ModelOutput(
            model=self.model_name,
            choices=[self._choice(c, bool(config.logprobs)) for c in completions],
            usage=ModelUsage(
                input_tokens=len(prompt), output_tokens=output_tokens, total_tokens=len(prompt) + output_tokens
            ),
        )

    def _fresh(self, prompt: str) -> int:
        """A seed for the next sample of a prompt."""
        self._seen[prompt] += 1
        return derive_seed(0, prompt, self._seen[prompt])

    def _choice(self, completion: Completion, logprobs: bool) -> ChatCompletionChoice:
        decode = self._assistant.engine.tokenizer.decode
        content = [
            Logprob(token=decode([token], skip_special=False), logprob=logprob)
            for token, logprob in zip(completion.ids, completion.logprobs, strict=True)
        ]
        return ChatCompletionChoice(
            message=ChatMessageAssistant(content=completion.text, model=self.model_name, source="generate"),
            stop_reason=STOPS[completion.stop],
            logprobs=Logprobs(content=content) if logprobs else None,
        )

    def close(self) -> None:
        """End the engine's thread."""
        self._driver.close()

    def max_tokens(self) -> int:
        """Longest reply in tokens, if a task sets none."""
        return DEFAULT_MAX_TOKENS

    def max_connections(self) -> int:
        """Concurrent requests: the engine's slots."""
        return self._assistant.engine.slots

    def connection_key(self) -> str:
        """Every checkpoint has its own slots."""
        return self.model_name

    def collapse_user_messages(self) -> bool:
        """Merge successive user messages, since chat templates need alternating turns."""
        return True

    def collapse_assistant_messages(self) -> bool:
        """As for user messages."""
        return True

    def collapse_system_messages(self) -> bool:
        """As for user messages."""
        return True


def _open(
    name: str, device: str | None = None, precision: str | None = None, slots: int = SLOTS, **arguments: Any
) -> LocalAssistant:
    if arguments:
        raise CharterError(f"charter/{name} takes no model argument {min(arguments)!r}; use device, precision or slots")
    execution = choose_execution(device, precision)
    folder = checkpoint_folder(find_model(name, "Inspect", CHECKPOINT))
    return LocalAssistant.open(folder, execution.device, slots, execution.precision)


def _message(message: ChatMessage) -> Message:
    """A message in our form. Raises CharterError for results of tools and for content that is not text."""
    if message.role == "tool":
        raise CharterError("the dialogue has a tool's result, which a checkpoint without tools can't read")
    if not isinstance(message.content, str) and any(part.type != "text" for part in message.content):
        raise CharterError(f"a message of the {message.role} holds more than text, such as an image; give text")
    return Message(role=message.role, content=message.text)


def _sampling(config: GenerateConfig, model_decoding: Decoding) -> Sampling:
    """The task's options, else the model's own decoding."""
    decoding = choose_decoding(model_decoding, config.temperature, config.top_p, config.top_k)
    return sampling_at(decoding, config.max_tokens or DEFAULT_MAX_TOKENS, tuple(config.stop_seqs or ()))
