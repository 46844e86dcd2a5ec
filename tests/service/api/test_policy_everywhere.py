"""A policy that stops every reply lets no token of one pass, whatever is asked of whichever route, in whichever shape.

The model's own words are marked where they leave its backend: its text, its tokens, and the likeliest ones in places of
a given text. Generated requests know routes and fields from the application's own table: a new one fails here until it
is drawn, or named among those that say nothing of a reply.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import MODEL, Hall, Watch, configuration, open_hall, until

from charter.ground.moderation.classifiers.classifier import Scores
from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.screen import Screen
from charter_service.api.app import ROUTES
from charter_service.api.held import Held
from charter_service.api.local import LocalBackend
from charter_service.api.model_request import End, ModelRequest, Part, Piece, Token

MARK, MARKED_ID = "ZQX", 399
TOLD = re.compile(r'ZQX|\[90, ?81, ?88\]|"(?:token_ids)": ?\[[^\]]*\b399\b')
BATCHES = "/v1/messages/batches"
HELLO = [{"role": "user", "content": "Hello there"}]
ITEM = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
CHATS = [
    HELLO,
    [{"role": "system", "content": "Be brief."}, *HELLO],
    [*HELLO, {"role": "assistant", "content": "Well"}],
    [
        *HELLO,
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [{"type": "text", "text": "Go on"}]},
    ],
]
PLAIN = ["Hello", "Hello there, how", " ", "\n", "\n\n  ", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"]
FUNCTION = {"name": "f", "description": "does it", "parameters": ITEM}
# fields of each body that lead to a reply, and what they may be; none of them is left out of any draw but by chance
DRAWN: dict[str, dict[str, Sequence[Any]]] = {
    "/v1/messages": {
        "loop_stop": [True, False],
        "messages": CHATS[:1] + CHATS[2:],
        "max_tokens": [1, 2, 5, 40],
        "system": ["Be brief.", [{"type": "text", "text": "Be kind."}]],
        "stream": [True, False],
        "temperature": [0.0, 1.0],
        "top_k": [0, 1, 5],
        "top_p": [0.1, 1.0],
        "stop_sequences": [["e"], ["q", "the"]],
        "tools": [[{"name": "f", "description": "does it", "input_schema": ITEM}]],
        "tool_choice": [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "f"}, {"type": "none"}],
        "output_config": [{"format": {"type": "json_schema", "schema": ITEM}}],
        "output_format": [{"type": "json_schema", "schema": ITEM}],
    },
    "/v1/complete": {
        "loop_stop": [True, False],
        "prompt": ["\n\nHuman: Hello\n\nAssistant:", "\n\nHuman: Hello\n\nAssistant: Well"],
        "max_tokens_to_sample": [1, 2, 5, 40],
        "stop_sequences": [["e"], ["q", "the"]],
        "temperature": [0.0, 1.0],
        "top_p": [-1.0, 0.5],
        "top_k": [-1, 1],
        "stream": [True, False],
    },
    "/v1/chat/completions": {
        "loop_stop": [True, False],
        "messages": CHATS,
        "max_tokens": [1, 2, 5, 40],
        "max_completion_tokens": [1, 3],
        "n": [1, 3],
        "stream": [True, False],
        "stream_options": [{"include_usage": True}],
        "stop": ["e", ["q", "the"]],
        "temperature": [0.0, 1.0],
        "top_p": [0.0, 1.0],
        "top_k": [-1, 1],
        "seed": [1, 2],
        "logprobs": [True, False],
        "top_logprobs": [0, 3],
        "response_format": [
            {"type": "text"},
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "a", "schema": ITEM}},
        ],
        "tools": [[{"type": "function", "function": FUNCTION}]],
        "tool_choice": ["auto", "none", "required", {"type": "function", "function": {"name": "f"}}],
        "parallel_tool_calls": [True, False],
        "continue_final_message": [True, False],
        "add_generation_prompt": [True, False],
    },
    "/v1/completions": {
        "loop_stop": [True, False],
        "prompt": [*PLAIN, PLAIN[:2], [[40, 41, 42], [43]], [50, 51, 52], [1, 40, 2, 1, 41]],
        "max_tokens": [0, 1, 2, 5, 40],
        "logprobs": [0, 1, 5],
        "echo": [True, False],
        "n": [1, 3],
        "best_of": [1, 3],
        "stream": [True, False],
        "stream_options": [{"include_usage": True}],
        "stop": ["e", ["q", "the"]],
        "temperature": [0.0, 1.0],
        "top_p": [0.0, 1.0],
        "top_k": [-1, 1],
        "seed": [1, 2],
        "return_token_ids": [True, False],
        "return_weight_versions": [True, False],
    },
}
DRAWN[BATCHES] = DRAWN["/v1/messages"]
NEEDED = {"messages", "max_tokens", "prompt", "max_tokens_to_sample"}
# fields that change nothing of what is told, or take one value alone
SAME = {
    *("model", "metadata", "user", "cache_control", "container", "context_management", "inference_geo", "mcp_servers"),
    *("compaction", "fallback_credit_token", "thread", "workspace_id"),
    *("speed", "user_profile_id", "thinking", "billing_policy", "diagnostics", "fallbacks", "service_tier", "suffix"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "min_p", "logit_bias", "stop_token_ids", "store"),
    *("system_by", "modalities", "safety_identifier", "reasoning_effort", "verbosity", "prompt_cache_key", "requests"),
    *("prompt_cache_retention",),
}
SILENT = {  # routes that take something in, and tell nothing of a reply
    *("/v1/messages/count_tokens", f"{BATCHES}/{{batch}}", f"{BATCHES}/{{batch}}/cancel", "/tokenize", "/detokenize"),
    *("/v1/files", "/v1/files/{file}"),
    *("/v1/feedback", "/v1/appeals", "/collective_rpc", "/reset_prefix_cache", "/update_weight_version"),
}


class Everything(Watch):
    """A classifier double to which every reply is a violation, and no prompt."""

    def __init__(self) -> None:
        super().__init__("")

    def prompts(self, conversations: Any) -> list[Scores]:
        return [Scores(0.1) for _ in conversations]


def marked(token: Token) -> Token:
    return Token(MARK, MARK.encode(), token.logprob, ((MARK, MARK.encode(), token.logprob),), MARKED_ID)


@pytest.fixture(autouse=True)
def marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks what the model says."""
    stream, score = LocalBackend.stream, LocalBackend.score

    async def marking(
        self: LocalBackend, asked: ModelRequest, account: str, background: bool
    ) -> AsyncGenerator[Part, None]:
        async for part in stream(self, asked, account, background):
            if isinstance(part, Piece):
                yield replace(part, text=MARK, tokens=tuple(map(marked, part.tokens)))
            else:
                yield replace(part, token=marked(part.token) if part.token else None)

    async def scoring(self: LocalBackend, *given: Any) -> list[Token]:
        found = await score(self, *given)
        return [replace(token, top=marked(token).top if token.top else ()) for token in found]

    monkeypatch.setattr(LocalBackend, "stream", marking)
    monkeypatch.setattr(LocalBackend, "score", scoring)


def test_every_route_and_field_is_drawn_or_named_as_silent() -> None:
    taking = {route.path: route for route in ROUTES if route.method not in ("GET", "HEAD")}
    assert set(taking) == set(DRAWN) | SILENT
    for path in set(DRAWN):
        body = taking[path].body
        assert body is not None
        fields = {field.alias or name for name, field in body.model_fields.items()}
        own = fields if path != BATCHES else fields | set(DRAWN[path])
        assert own - SAME == set(DRAWN[path]), f"{path} takes fields that are not drawn"


def asked(dice: random.Random, path: str) -> dict[str, Any]:
    """A request, mostly one that can be answered."""
    often = dice.choice([0.15, 0.4])
    body = {
        name: dice.choice(list(some)) for name, some in DRAWN[path].items() if name in NEEDED or dice.random() < often
    }
    if path == "/v1/completions" and body["max_tokens"] == 0:
        body |= {"echo": True, "logprobs": dice.choice([1, 5]), "n": 1, "best_of": 1}
    if "best_of" in body:
        body["n"] = body["best_of"]
    if "tool_choice" in body and "tools" in DRAWN[path]:
        body["tools"] = DRAWN[path]["tools"][0]
    if "top_logprobs" in body:
        body["logprobs"] = True
    if "stream_options" in body:
        body["stream"] = True
    return {"model": MODEL, **body}


def answers(hall: Hall, seed: int, count: int) -> Iterator[tuple[str, dict[str, Any], int, str]]:
    """Requests of all routes in turn, and what they were answered: path, body, status, text."""
    dice, key = (
        random.Random(seed),
        hall.key(limits={"requests_per_minute": 10**6, "output_tokens_per_minute": 10**8}),
    )
    versions = ("2023-01-01", "2023-06-01")
    with httpx.Client(base_url=hall.url, timeout=120, headers={"x-api-key": key}) as web:
        for number in range(count):
            path = list(DRAWN)[number % len(DRAWN)]
            given = {"anthropic-version": dice.choice(versions) if path == "/v1/complete" else versions[1]}
            body = asked(dice, path)
            if path != BATCHES:
                found = web.post(path, json=body, headers=given)
            else:
                body.pop("stream", None)
                found = web.post(path, json={"requests": [{"custom_id": "a", "params": body}]}, headers=given)
                place = f"{path}/{found.json()['id']}"
                until(
                    lambda place=place, given=given: (
                        web.get(place, headers=given).json()["processing_status"] == "ended"
                    )
                )  # type: ignore[misc]
                found = web.get(f"{place}/results", headers=given)
            yield path, body, found.status_code, found.text


def opened(folder: Path, screen: Screen | None) -> Any:
    """A server on which violations don't shut an account out."""
    state = {"state": "on" if screen else "off", "hold": 2}
    return open_hall(folder, configuration(policy=state, ladder={"reply": 0.0}), screen=screen)


@pytest.mark.parametrize(("seed", "count"), [(1, 100), pytest.param(2, 4000, marks=pytest.mark.slow)])
def test_no_token_of_a_stopped_reply_is_told(tmp_path: Path, seed: int, count: int) -> None:
    with opened(tmp_path, Screen(shipped_policy(), [Everything()])) as hall:
        answered = dict.fromkeys(DRAWN, 0)
        for path, body, status, text in answers(hall, seed, count):
            assert status in (200, 400), f"{path} {body} {status} {text[:500]}"
            assert not TOLD.search(text), f"{path} {body} told {text[:2000]}"
            answered[path] += status == 200
        assert min(answered.values()) > count // len(DRAWN) // 4, answered


@pytest.mark.parametrize("prompt", ["\n\n  \n", " \t \n ", [10, 10, 10]])
def test_nothing_follows_a_blank_text(tmp_path: Path, prompt: Any) -> None:
    """What says nothing is allowed unread; what may follow it would be a reply's first token."""
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 0, "echo": True, "logprobs": 5}
    with opened(tmp_path, Screen(shipped_policy(), [Everything()])) as hall:
        given = {"x-api-key": hall.key()}
        found = httpx.post(f"{hall.url}/v1/completions", json=body, headers=given, timeout=60)
        assert found.status_code == 200 and not TOLD.search(found.text)


@pytest.mark.slow
def test_without_a_policy_the_same_requests_tell(tmp_path: Path) -> None:
    """Else the test above would say nothing."""
    with opened(tmp_path, None) as hall:
        telling = [(path, body) for path, body, _, text in answers(hall, 1, 250) if TOLD.search(text)]
        assert {path for path, _ in telling} == set(DRAWN)
        assert any(path == "/v1/completions" and body["max_tokens"] == 0 for path, body in telling)


@pytest.mark.parametrize(("text", "told"), [("", False), (" \n", False), ("Yes", True)])
def test_tokens_of_a_reply_that_says_nothing_are_not_told(text: str, told: bool) -> None:
    """An end token with the likeliest ones in its place says what the model would have written."""
    token = Token("", b"", -1.0, ((MARK, MARK.encode(), -0.5),), MARKED_ID)
    held = Held(1, None)
    held.add(Piece(0, text, (token,), 1))
    held.add(End(0, "end", token=token))
    piece, end = held.release()
    assert isinstance(piece, Piece) and isinstance(end, End)
    assert (piece.text, bool(piece.tokens), end.token is not None) == (text, told, told)
