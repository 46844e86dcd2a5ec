"""Remote engines: OpenAI- and Anthropic-shaped servers as assistants that can sample.

References: `openai:http://127.0.0.1:8000#model` (vLLM and other servers of that shape) and
`anthropic:https://host#model`. Keys come from OPENAI_API_KEY and ANTHROPIC_API_KEY, are never logged, and go only
to the named server. Both shapes continue a dialogue that ends in an assistant's message; the OpenAI shape continues
plain text too (/v1/completions). Neither can score texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.engine import Completion, Stop
from charter.ground.generate.http_client import Asking, bearer, key_of_environment, one_line
from charter.ground.generate.sampling import Sampling
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Message, Prompt, mend_text

A = TypeVar("A")
R = TypeVar("R")
DIALECTS = ("openai", "anthropic")
PARALLEL = 8
STOPS: dict[str, Stop] = {
    "stop": "end",
    "end_turn": "end",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
}


def is_remote(ref: str) -> bool:
    """Whether a reference names a remote engine."""
    return ref.split(":", 1)[0] in DIALECTS


class RemoteAssistant:
    """A server that samples; `score` raises, and rooms read `capabilities` first."""

    def __init__(self, ref: str) -> None:
        dialect, _, address = ref.partition(":")
        url, _, model = address.partition("#")
        if dialect not in DIALECTS or not url.startswith(("http://", "https://")) or not model:
            raise CharterError(f"{ref} is not a remote engine; write openai:URL#MODEL or anthropic:URL#MODEL")
        self.dialect, self.url, self.model = dialect, url.rstrip("/"), model
        self.capabilities = frozenset({"sample", "text"} if dialect == "openai" else {"sample"})
        self.notice = ""  # what the newest answer says about the account's standing, "" if it is good
        self._asking = Asking(self.url)

    def reply(
        self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """n completions of each dialogue or plain text, one request each, several at once. Only the OpenAI shape has
        seeds, and a server may ignore them: remote samples need not repeat."""
        if self.dialect == "anthropic" and any(isinstance(prompt, str) for prompt in prompts):
            raise CharterError(
                f"anthropic server {self.url} takes dialogues alone; plain text needs an openai: server or a checkpoint"
            )
        prompt_seeds = list(seeds) if seeds is not None else list(range(len(prompts)))
        work = [
            (prompt, derive_seed(seed, k)) for prompt, seed in zip(prompts, prompt_seeds, strict=True) for k in range(n)
        ]
        flat = self._together(lambda job: self._one(job[0], sampling, job[1]), work)
        return [flat[i * n : (i + 1) * n] for i in range(len(prompts))]

    def call_tools(
        self,
        dialogues: Sequence[Sequence[Mapping[str, Any]]],
        systems: Sequence[str],
        tools: Sequence[Mapping[str, Any]],
        sampling: Sampling,
        seeds: Sequence[int],
        parse: Callable[[Any], R],
    ) -> list[R]:
        """What `parse` reads in the answer to each dialogue, in which the model may call one tool at a time.

        Dialogues and tools are in the server's own shape. `systems`: the system's words, which OpenAI's shape has in
        its dialogue. `parse` raises LookupError, TypeError or AttributeError for an answer of another shape."""

        def one(job: tuple[Sequence[Mapping[str, Any]], str, int]) -> R:
            dialogue, system, seed = job
            if self.dialect == "openai":
                body = self._openai_body(dialogue, sampling, seed) | {"parallel_tool_calls": False}
                return self._ask("/v1/chat/completions", body | {"tools": list(tools)}, bearer(), parse)
            body = self._anthropic_body(dialogue, system, sampling) | {"tools": list(tools)}
            body["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
            return self._ask("/v1/messages", body, _anthropic_headers(), parse)

        return self._together(one, list(zip(dialogues, systems, seeds, strict=True)))

    def _together(self, ask: Callable[[A], R], jobs: Sequence[A]) -> list[R]:
        """The answers to all jobs in order, several at once."""
        self._asking.given_up.clear()
        with ThreadPoolExecutor(PARALLEL) as pool:
            try:
                return list(pool.map(ask, jobs))
            except BaseException:  # Ctrl-C too: requests between two tries end at once
                self._asking.given_up.set()
                raise

    def score(self, items: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        """Not offered by these shapes."""
        raise CharterError(f"{self.dialect} server {self.url} can't score texts; use it only for sampling")

    def _one(self, prompt: Prompt, sampling: Sampling, seed: int) -> Completion:
        if self.dialect == "openai" or isinstance(prompt, str):
            return self._openai(prompt, sampling, seed)
        return self._anthropic(prompt, sampling)

    def _openai(self, prompt: Prompt, sampling: Sampling, seed: int) -> Completion:
        plain = isinstance(prompt, str)
        body = self._openai_body(prompt, sampling, seed)
        if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
            body |= {"add_generation_prompt": False, "continue_final_message": True}

        def parse(answer: Any) -> Completion:
            choice = answer["choices"][0]
            text = str((choice["text"] if plain else choice["message"]["content"]) or "")
            return Completion(text=mend_text(text), stop=STOPS.get(str(choice.get("finish_reason")), "end"))

        return self._ask("/v1/completions" if plain else "/v1/chat/completions", body, bearer(), parse)

    def _openai_body(self, prompt: Sequence[Mapping[str, Any]] | str, sampling: Sampling, seed: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            **({"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": seed,
        }
        if sampling.stops:
            body["stop"] = list(sampling.stops)
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        return body

    def _anthropic(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
        dialogue = [m for m in messages if m["role"] != "system"]

        def parse(answer: Any) -> Completion:
            text = "".join(block.get("text", "") for block in answer["content"])
            return Completion(text=mend_text(text), stop=STOPS.get(str(answer.get("stop_reason")), "end"))

        body = self._anthropic_body(dialogue, system, sampling)
        return self._ask("/v1/messages", body, _anthropic_headers(), parse)

    def _anthropic_body(self, dialogue: Sequence[Mapping[str, Any]], system: str, sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(dialogue),
            "temperature": min(1.0, sampling.temperature),
            "max_tokens": sampling.max_tokens,
        }
        if system:
            body["system"] = system
        if sampling.stops:
            body["stop_sequences"] = list(sampling.stops)
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        return body

    def _ask(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str], parse: Callable[[Any], R]) -> R:
        answer = self._asking.post(path, body, headers)
        try:
            parsed = parse(answer)
            self.notice = _notice(answer)
        except (LookupError, TypeError, AttributeError) as error:
            content = one_line(json.dumps(answer))
            raise CharterError(
                f"{self.url}{path} answered in another shape than {self.dialect} servers do: {content}"
            ) from error
        return parsed


def _anthropic_headers() -> dict[str, str]:
    return {"anthropic-version": "2023-06-01", "x-api-key": key_of_environment("anthropic")}


def _notice(answer: Any) -> str:
    """What a Charter server says if the account isn't in good standing: one printable line."""
    standing = answer.get("standing")
    message = standing.get("message") if isinstance(standing, dict) else None
    return one_line("".join(c for c in message if c.isprintable())) if isinstance(message, str) else ""
