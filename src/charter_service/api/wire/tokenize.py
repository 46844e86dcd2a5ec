"""POST /tokenize and /detokenize, as in vLLM: evaluation tools cut text with them, and another `charter serve` counts
tokens with them.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter_service.api.errors import ApiError, invalid
from charter_service.api.model_request import Call
from charter_service.api.registry import Served
from charter_service.api.wire.answers import PromptAnswer, TokensAnswer
from charter_service.api.wire.chat_body import Turn, conversation
from charter_service.api.wire.content import Strict
from charter_service.api.wire.reading import counting_headers, service_of
from charter_service.api.wire.route import Routes

ROUTES = Routes("OpenAI's shapes", "messages")
MOST_IDS = 100_000
LARGEST_TEXT, LARGEST_IDS = 4 * 2**20, 2**20  # bytes of a body


class TokenizeBody(Strict):
    """A text, or a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Turn] | None = Field(None, min_length=1)
    add_special_tokens: bool | None = Field(None, description="a start token before a prompt, where there is one")
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class DetokenizeBody(Strict):
    """Token ids."""

    model: str | None = None
    tokens: list[int] = Field(max_length=MOST_IDS)


@ROUTES.add("POST", "/tokenize", "Cut text into tokens", TokensAnswer, most=LARGEST_TEXT)
async def tokenize(request: Request, call: Call, body: TokenizeBody) -> Response:
    """The ids of a text."""
    served, headers = _served(request, body.model, call), counting_headers(service_of(request), call)
    if (body.prompt is None) == (body.messages is None):
        raise invalid("give one of prompt and messages", "prompt")
    prompt: Any = body.prompt if body.messages is None else conversation(body.messages).prompt
    ids = await served.backend.cut(prompt, body.add_special_tokens is not False)
    return JSONResponse({"count": len(ids), "max_model_len": served.context, "tokens": ids}, headers=headers)


@ROUTES.add("POST", "/detokenize", "Text of tokens", PromptAnswer, most=LARGEST_IDS)
async def detokenize(request: Request, call: Call, body: DetokenizeBody) -> Response:
    """The text of ids."""
    served, headers = _served(request, body.model, call), counting_headers(service_of(request), call)
    ids = await served.backend.spell(body.tokens)
    return JSONResponse({"prompt": ids.text}, headers=headers)


def _served(request: Request, name: str | None, call: Call) -> Served:
    """The named model, else the default one."""
    registry = service_of(request).registry
    if name is None and not registry.served:
        raise ApiError(404, "no model is served")
    return registry.find(registry.served[0].id if name is None else name, call)
