"""Remote engines: OpenAI- and Anthropic-shaped servers as assistants that can sample.

References: `openai:http://127.0.0.1:8000#model` (vLLM and other servers of that shape) and
`anthropic:https://host#model`. Keys come from OPENAI_API_KEY and ANTHROPIC_API_KEY, are never logged, and go nowhere
but to the server that is named. Both shapes continue a dialogue that ends in an assistant's message; the OpenAI
shape continues plain text too (/v1/completions). Neither can score given texts.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.message import Message as Headers
from typing import Any
from urllib.parse import urljoin

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.engine import Completion, Stop
from charter.ground.generate.sampling import Sampling
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Message, Prompt, mend_text

DIALECTS = ("openai", "anthropic")
PARALLEL = 8
TIMEOUT_SECONDS = 600
FAILED = {408, 409, 500, 502, 504}
TRIES = 5  # of a server that fails or can't be reached
OVERLOADED = {429, 503, 529}
PATIENCE_SECONDS = 120.0  # waited in all for a server that is overloaded
LONGEST_BACKOFF_SECONDS = 16.0
LONGEST_RETRY_AFTER_SECONDS = 60.0
KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
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
        dialect, _, rest = ref.partition(":")
        url, _, model = rest.partition("#")
        if dialect not in DIALECTS or not url.startswith(("http://", "https://")) or not model:
            raise CharterError(f"{ref} is not a remote engine; write openai:URL#MODEL or anthropic:URL#MODEL")
        self.dialect, self.url, self.model = dialect, url.rstrip("/"), model
        self.capabilities = frozenset({"sample", "text"} if dialect == "openai" else {"sample"})
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._given_up = threading.Event()

    def reply(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        n: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """n completions of each dialogue or plain text, one request each, several under way at once. Seeds are passed
        on where the shape has them; a server may ignore them, so remote samples are not promised to repeat."""
        if self.dialect == "anthropic" and any(isinstance(prompt, str) for prompt in prompts):
            raise CharterError(
                f"anthropic server {self.url} takes dialogues alone; plain text needs an openai: server or a checkpoint"
            )
        given = list(seeds) if seeds is not None else list(range(len(prompts)))
        work = [
            (prompt, derive_seed(seed, k))
            for prompt, seed in zip(prompts, given, strict=True)
            for k in range(n)
        ]
        self._given_up.clear()
        with ThreadPoolExecutor(PARALLEL) as pool:
            try:
                flat = list(pool.map(lambda job: self._one(job[0], sampling, job[1]), work))
            except BaseException:  # Ctrl-C too: requests that wait for their next try are not waited for
                self._given_up.set()
                raise
        return [flat[i * n : (i + 1) * n] for i in range(len(prompts))]

    def score(self, items: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        """Not offered by these shapes."""
        raise CharterError(
            f"{self.dialect} server {self.url} can't score texts; use it where sampling is enough"
        )

    def _one(self, prompt: Prompt, sampling: Sampling, seed: int) -> Completion:
        if self.dialect == "openai" or isinstance(prompt, str):
            return self._openai(prompt, sampling, seed)
        return self._anthropic(prompt, sampling)

    def _openai(self, prompt: Prompt, sampling: Sampling, seed: int) -> Completion:
        plain = isinstance(prompt, str)
        body: dict[str, Any] = {
            "model": self.model,
            **({"prompt": prompt} if plain else {"messages": list(prompt)}),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": seed,
        }
        if sampling.stops:
            body["stop"] = list(sampling.stops)
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        key = _key("openai")
        headers = {"Authorization": f"Bearer {key}"} if key else {}

        def read(answer: Any) -> Completion:
            choice = answer["choices"][0]
            text = str((choice["text"] if plain else choice["message"]["content"]) or "")
            return Completion(text=text, stop=STOPS.get(str(choice.get("finish_reason")), "end"))

        return self._ask("/v1/completions" if plain else "/v1/chat/completions", body, headers, read)

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
        headers = {"anthropic-version": "2023-06-01", "x-api-key": _key("anthropic")}

        def read(answer: Any) -> Completion:
            text = "".join(block.get("text", "") for block in answer["content"])
            return Completion(text=text, stop=STOPS.get(str(answer.get("stop_reason")), "end"))

        return self._ask("/v1/messages", body, headers, read)

    def _ask(
        self,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        read: Callable[[Any], Completion],
    ) -> Completion:
        answer = self._post(path, body, headers)
        try:
            found = read(answer)
            found.text = mend_text(found.text)
        except (LookupError, TypeError, AttributeError) as error:
            said = _one_line(json.dumps(answer))
            raise CharterError(
                f"{self.url}{path} answered in another shape than {self.dialect} servers do: {said}"
            ) from error
        return found

    def _post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        """POST with retries on overload and lost connections; one-line errors that never hold a key."""
        where, data = f"{self.url}{path}", json.dumps(body).encode()
        waited, failures, backoff = 0.0, 0, 0.5
        while True:
            request = urllib.request.Request(where, data, {"Content-Type": "application/json", **headers})
            busy, asked = False, 0.0
            try:
                with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    problem = _problem(where, path, error)
                busy, asked = error.code in OVERLOADED, _retry_after(error.headers)
                if not busy and error.code not in FAILED:
                    raise problem from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = CharterError(
                    f"{where} can't be used ({_one_line(str(error))}); is the server running?"
                )
            failures += not busy
            if failures == TRIES or waited >= PATIENCE_SECONDS:
                raise problem
            # all requests under way meet the same overload: jitter keeps them from coming back at once
            pause = max(asked, backoff * random.uniform(0.5, 1))
            pause = min(pause, PATIENCE_SECONDS - waited)
            if _wait(self._given_up, pause):
                raise problem
            waited, backoff = waited + pause, min(LONGEST_BACKOFF_SECONDS, 2 * backoff)


def _wait(given_up: threading.Event, seconds: float) -> bool:
    """Waits before the next try; True at once when nobody waits for the answer any more."""
    return given_up.wait(seconds)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would take the key to whatever host, and make a GET of the request."""

    def redirect_request(self, *given: Any, **named: Any) -> None:
        """Never a new request: the redirect is an error like any other."""


def _problem(where: str, path: str, error: urllib.error.HTTPError) -> CharterError:
    if 300 <= error.code < 400:
        place = _one_line(urljoin(where, error.headers.get("Location", "")).removesuffix(path))
        return CharterError(
            f"{where} redirects to {place}; a key is sent to no other place, so use that URL if you trust it"
        )
    return CharterError(
        f"{where} answered {error.code}: {_one_line(error.read(4000).decode(errors='replace'))}"
    )


def _retry_after(headers: Headers) -> float:
    """The seconds that a server asks to wait, within bounds; 0 where it says nothing, or a date."""
    said = headers.get("Retry-After", "").strip()
    return min(LONGEST_RETRY_AFTER_SECONDS, float(said)) if said.isascii() and said.isdigit() else 0.0


def _key(dialect: str) -> str:
    """The key of the environment, "" without one. Raises CharterError for one that can't be sent."""
    key = os.environ.get(KEYS[dialect], "").strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise CharterError(f"{KEYS[dialect]} holds spaces or characters that no key has; set it again")
    return key


def _one_line(text: str) -> str:
    """At most 400 characters on one line, keys blotted out: a server may echo what it was sent."""
    for name in KEYS.values():
        if key := os.environ.get(name, "").strip():
            text = text.replace(key, "[key]")
    return " ".join(text.split())[:400]
