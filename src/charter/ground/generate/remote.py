"""Remote engines: OpenAI- and Anthropic-shaped servers as assistants that can sample.

References: `openai:http://127.0.0.1:8000#model` (vLLM and other servers of that shape) and
`anthropic:https://host#model`. Keys come from OPENAI_API_KEY and ANTHROPIC_API_KEY and are never logged. Both
shapes continue a dialogue that ends in an assistant's message. Neither can score given texts.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.engine import Completion, Stop
from charter.ground.generate.sampling import Sampling
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Message

DIALECTS = ("openai", "anthropic")
TRIES = 5
PARALLEL = 8
TIMEOUT_SECONDS = 600
RETRIED = {408, 409, 429, 500, 502, 503, 504, 529}
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

    capabilities = frozenset({"sample"})

    def __init__(self, ref: str) -> None:
        dialect, _, rest = ref.partition(":")
        url, _, model = rest.partition("#")
        if dialect not in DIALECTS or not url.startswith(("http://", "https://")) or not model:
            raise CharterError(f"{ref} is not a remote engine; write openai:URL#MODEL or anthropic:URL#MODEL")
        self.dialect, self.url, self.model = dialect, url.rstrip("/"), model

    def reply(
        self,
        dialogues: Sequence[Sequence[Message]],
        sampling: Sampling,
        n: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """n completions of each dialogue, one request each, several under way at once. Seeds are passed on where
        the shape has them; a server may ignore them, so remote samples are not promised to repeat."""
        given = list(seeds) if seeds is not None else list(range(len(dialogues)))
        work = [
            (messages, derive_seed(seed, k))
            for messages, seed in zip(dialogues, given, strict=True)
            for k in range(n)
        ]
        with ThreadPoolExecutor(PARALLEL) as pool:
            flat = list(pool.map(lambda job: self._one(job[0], sampling, job[1]), work))
        return [flat[i * n : (i + 1) * n] for i in range(len(dialogues))]

    def score(self, items: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[list[float]]:
        """Not offered by these shapes."""
        raise CharterError(f"{self.dialect} server {self.url} can't score texts; use it where sampling is enough")

    def _one(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Completion:
        if self.dialect == "openai":
            return self._openai(messages, sampling, seed)
        return self._anthropic(messages, sampling)

    def _openai(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Completion:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": seed,
        }
        if sampling.stops:
            body["stop"] = list(sampling.stops)
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if messages[-1]["role"] == "assistant":
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        choice = self._post("/v1/chat/completions", body, headers)["choices"][0]
        text = choice["message"]["content"] or ""
        return Completion(text=text, stop=STOPS.get(str(choice.get("finish_reason")), "end"))

    def _anthropic(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [m for m in messages if m["role"] != "system"],
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
        headers = {"anthropic-version": "2023-06-01", "x-api-key": os.environ.get("ANTHROPIC_API_KEY", "")}
        answer = self._post("/v1/messages", body, headers)
        text = "".join(block.get("text", "") for block in answer["content"])
        return Completion(text=text, stop=STOPS.get(str(answer.get("stop_reason")), "end"))

    def _post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        """POST with retries on overload and lost connections; one-line errors that never hold a key."""
        data = json.dumps(body).encode()
        where = f"{self.url}{path}"
        for attempt in range(TRIES):
            request = urllib.request.Request(where, data, {"Content-Type": "application/json", **headers})
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                    found: dict[str, Any] = json.load(answer)
                    return found
            except urllib.error.HTTPError as error:
                said = error.read(400).decode(errors="replace").replace("\n", " ")
                if error.code not in RETRIED or attempt == TRIES - 1:
                    raise CharterError(f"{where} answered {error.code}: {said}") from error
            except (urllib.error.URLError, TimeoutError, ValueError) as error:
                if attempt == TRIES - 1:
                    raise CharterError(f"{where} can't be used ({error}); is the server running?") from error
            time.sleep(min(8.0, 0.5 * 2**attempt))
        raise CharterError(f"{where} did not answer")
