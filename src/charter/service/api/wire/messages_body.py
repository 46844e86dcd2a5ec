"""The body of a request for a message, and its request to a model (Anthropic's reference, "messages")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from charter.ground.forms.grammars import Form
from charter.ground.generate.sampling import sampling_at
from charter.ground.model.generation import choose_decoding
from charter.ground.text.dialogue import Message
from charter.service.api.errors import invalid
from charter.service.api.model_request import Call, ModelRequest
from charter.service.api.registry import Served
from charter.service.api.wire.content import Metadata, Parts, Strict, Turn, conversation
from charter.service.api.wire.server_blocks import RESULTS
from charter.service.api.wire.tools import NONE, Choice, Offer, Tool, offer_of
from charter.service.tools.tool import Tool as RunTool

MOST_STOPS = 100
LONGEST_STOP = 1000  # characters
LARGEST_K = 2**31 - 1
LEAST_P = 1e-9  # stands for top_p 0: only the likeliest token


class Thinking(Strict):
    """Whether a model thinks before it answers; those here don't, so only values that don't require it are accepted."""

    type: Literal["disabled", "adaptive", "between_tools", "enabled"]
    budget_tokens: int | None = None
    display: Any = None

    @field_validator("type")
    @classmethod
    def _off(cls, kind: str) -> str:
        if kind == "enabled":
            raise ValueError(
                "extended thinking is not offered by the models here; leave it out or disable it"
            )
        return kind


class Format(Strict):
    """The form of a reply's text: a document of a JSON Schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Strict):
    """How to answer; effort has no effect here."""

    effort: Any = None
    format: Format | None = None
    task_budget: Any = None


class CountBody(Strict):
    """The parts of a prompt."""

    model: str = Field(min_length=1)
    messages: list[Turn]
    system: Parts = Field(default_factory=list)
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = Field(None, description="an older place of output_config.format")
    # without a meaning here
    cache_control: Any = None
    container: Any = None
    context_management: Any = None
    inference_geo: Any = None
    mcp_servers: list[Any] = Field([], max_length=0)
    speed: Any = None
    user_profile_id: Any = None

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        """Null means the same as leaving a field out if it has a default."""
        return _without_nulls(value)

    @property
    def format(self) -> Format | None:
        """The form of the reply's text."""
        newer = self.output_config.format if self.output_config else None
        return newer or self.output_format


class MessagesBody(CountBody):
    """A request for a message."""

    max_tokens: int = Field(ge=1)
    metadata: Metadata | None = None
    stop_sequences: list[Annotated[str, Field(max_length=LONGEST_STOP)]] = Field([], max_length=MOST_STOPS)
    stream: bool = False
    temperature: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)
    top_p: float | None = Field(None, ge=0, le=1)
    # without a meaning here
    billing_policy: Any = None
    diagnostics: Any = None
    fallbacks: Any = None
    service_tier: Literal["auto", "standard_only"] | None = None

    @field_validator("stop_sequences")
    @classmethod
    def _some_text(cls, stops: list[str]) -> list[str]:
        if any(not stop for stop in stops):
            raise ValueError("each stop sequence must be non-empty")
        if any(not stop.strip() for stop in stops):
            raise ValueError("each stop sequence must contain non-whitespace")
        return stops


@dataclass(frozen=True, slots=True)
class Wanted:
    """A body as a request to a model: the prompt, and what a reply may or must do beside text. `marked`: the request
    marks parts for the prompt's cache."""

    prompt: list[Message]
    offer: Offer | None
    form: Form | None
    marked: bool
    more: str = ""  # after the system text

    @property
    def free(self) -> bool:
        """Whether a reply has no constraint."""
        return self.form is None


def wanted_of(body: CountBody, tools: Mapping[str, RunTool] = NONE) -> Wanted:
    """The request of a body. `tools`: those that the server can run, by kind. Raises ApiError for fields that can't be
    combined, and with Anthropic's words for anything that its API refuses."""
    offer = offer_of(body.tools, body.tool_choice, tools)
    if offer is not None and offer.later is not None and _continues(body):
        offer = offer.later
    more = offer.words if offer else ""
    prompt = conversation(body.messages, body.system, more)
    form = offer.form() if offer else None
    if body.format is not None:
        if offer is not None:
            raise invalid(
                "output_config.format: a reply can't both have this format and use tools here; leave one out, or set "
                "tool_choice to none",
                "output_config",
            )
        if prompt[-1]["role"] == "assistant":
            raise invalid(
                "output_config.format: can't be combined with a begun turn of the assistant", "output_config"
            )
        form = Form("json_schema", schema=body.format.schema_)
    return Wanted(prompt, offer, form, _asks_for_cache(body), more)


async def model_request_of(body: MessagesBody, wanted: Wanted, served: Served, call: Call) -> ModelRequest:
    """The request to the model, with the constraint of its reply. Raises CharterError, with numbers, if the form can't
    fit."""
    model_decoding = served.backend.decoding
    top_k = None if body.top_k is None else min(body.top_k, LARGEST_K)
    top_p = None if body.top_p is None else max(body.top_p, LEAST_P)
    decoding = choose_decoding(model_decoding, body.temperature, top_p, top_k)
    sampling = sampling_at(decoding, body.max_tokens, tuple(dict.fromkeys(body.stop_sequences)))
    model_request = ModelRequest(body.model, wanted.prompt, sampling, own_decoding=decoding is model_decoding)
    if wanted.form is None:
        return model_request
    compiled = await served.backend.compile(wanted.form, call.caller.organisation, call.background)
    left = served.context - await served.backend.count(wanted.prompt)
    tokens = max(0, min(body.max_tokens, left))
    start = wanted.offer.start if wanted.offer else None
    held = start(compiled, tokens) if start else compiled.start(tokens)
    return replace(model_request, constraint=held)


def _continues(body: CountBody) -> bool:
    """Whether a request continues a message in which server tools were already used."""
    last = body.messages[-1] if body.messages else None
    return last is not None and last.role == "assistant" and any(isinstance(b, RESULTS) for b in last.content)


def _asks_for_cache(body: CountBody) -> bool:
    """Whether the request asks for a cache, as a whole or at a block."""
    if body.cache_control is not None:
        return True
    blocks = [*body.system, *body.tools, *(block for turn in body.messages for block in turn.content)]
    return any(getattr(block, "cache_control", None) is not None for block in blocks)


def _without_nulls(members: Any) -> Any:
    if not isinstance(members, dict):
        return members
    defaulted = (
        "stop_sequences",
        "stream",
        "system",
        "tools",
        "mcp_servers",
    )
    return {key: value for key, value in members.items() if value is not None or key not in defaulted}
