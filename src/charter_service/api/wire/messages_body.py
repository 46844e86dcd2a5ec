"""The body of a request for a message, and its request to a model (Anthropic's reference, "messages")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from charter.ground.generate.sampling import sampling_at
from charter.ground.model.generation import choose_decoding
from charter.ground.text.dialogue import Message
from charter_service.api.errors import invalid
from charter_service.api.model_request import Call, ModelRequest, Said
from charter_service.api.registry import Served
from charter_service.api.wire.citations import ASKING, Citable
from charter_service.api.wire.content import CacheControl, Metadata, Parts, Strict, Turn
from charter_service.api.wire.conversation import conversation, question_of
from charter_service.api.wire.offered import EFFORT, FIELDS, TASK_BUDGET, THINKING, THOUGHTS
from charter_service.api.wire.server_blocks import RESULTS, SEARCHES, input_for
from charter_service.api.wire.tool_words import warn_of
from charter_service.api.wire.tools import NONE, Choice, Offer, Run, Tool, offer_of, searches_of
from charter_service.api.wire.written import NO_TEXT, Written, join, servers
from charter_service.forms.grammars import Form
from charter_service.tools.tool import Tool as RunTool

MOST_STOPS = 100
MOST_MARKS = 4  # for the prompt's cache
TTLS = ("5m", "1h")
LONGEST_STOP = 1000  # characters
LARGEST_K = 2**31 - 1
LEAST_P = 1e-9  # stands for top_p 0: only the likeliest token


class Thinking(Strict):
    """Whether a model thinks before it answers; those here don't, so that it can only be disabled."""

    type: Literal["disabled", "adaptive", "between_tools", "enabled"]
    budget_tokens: Annotated[Any, AfterValidator(THOUGHTS.check)] = None
    display: Annotated[Any, AfterValidator(THOUGHTS.check)] = None

    @field_validator("type")
    @classmethod
    def _off(cls, kind: str) -> str:
        if kind != "disabled":
            raise ValueError(THINKING)
        return kind


class Format(Strict):
    """The form of a reply's text: a document of a JSON Schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Strict):
    """How to answer."""

    effort: Annotated[Any, AfterValidator(EFFORT.check)] = None
    format: Format | None = None
    task_budget: Annotated[Any, AfterValidator(TASK_BUDGET.check)] = None


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
    cache_control: CacheControl | None = None
    # not offered here, see `offered`
    billing_policy: Any = None
    compaction: Any = None
    container: Any = None
    context_management: Any = None
    inference_geo: Any = None
    mcp_servers: Any = None
    speed: Any = None
    user_profile_id: Any = None
    workspace_id: Any = None

    @field_validator(*FIELDS, check_fields=False)
    @classmethod
    def _not_offered(cls, value: Any, field: ValidationInfo) -> Any:
        return FIELDS[field.field_name or ""].check(value)

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
    system_by: Literal["operator", "user"] = Field(
        "operator", description="a field of Charter: who wrote `system`; an end user's is screened as a turn is"
    )
    loop_stop: bool = Field(True, description="a field of Charter: end a reply that repeats itself")
    # not offered here, see `offered`
    diagnostics: Any = None
    fallback_credit_token: Any = None
    fallbacks: Any = None
    service_tier: Any = None
    thread: Any = None

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
    """A body as a request to a model: the prompt, what of it the caller said, and what a reply may or must do beside
    text. `ttl`: how long marked parts of the prompt shall be cached, empty without marks; `citable`: what a reply may
    cite, None without citations."""

    prompt: list[Message]
    said: Said
    offer: Offer | None
    form: Form | None
    ttl: str
    citable: Citable | None = None
    more: Written = NO_TEXT  # after the system text
    searches: Mapping[str, Run] = field(
        default_factory=dict
    )  # tools that run for the question itself, before the model is asked
    question: str = ""

    @property
    def own(self) -> Mapping[str, Run]:
        """All tools that the server may run, by name."""
        return {**(self.offer.run if self.offer else {}), **self.searches}

    @property
    def free(self) -> bool:
        """Whether a reply has no constraint."""
        return self.form is None


def wanted_of(body: CountBody, citable: Citable | None = None, tools: Mapping[str, RunTool] = NONE) -> Wanted:
    """The request of a body. `tools`: those that the server can run, by kind. Raises ApiError for fields that can't be
    combined, and with Anthropic's words for anything that its API refuses."""
    offer = offer_of(body.tools, body.tool_choice, tools)
    if offer is not None and offer.later is not None and _continues(body):
        offer = offer.later
    searches = searches_of(body.tools, body.tool_choice, tools)
    strangers = [name for name in searches if name in SEARCHES]
    question = question_of(body.messages) if searches else ""
    searches = {name: run for name, run in searches.items() if question and input_for(name, question)}
    more = join(
        [
            offer.words if offer else NO_TEXT,
            warn_of(strangers) if strangers else NO_TEXT,
            servers(ASKING) if citable else NO_TEXT,
        ]
    )
    prompt, said = conversation(body.messages, body.system, more)
    form = offer.form() if offer else None
    if body.format is not None:
        if citable is not None:
            raise invalid(
                "output_config.format: can't be combined with citations, whose blocks would cut the format; leave one "
                "out",
                "output_config",
            )
        if offer is not None:
            raise invalid(
                "output_config.format: a reply can't both have this format and use tools here; leave one out, or set "
                "tool_choice to none",
                "output_config",
            )
        if prompt[-1]["role"] == "assistant":
            raise invalid("output_config.format: can't be combined with a begun turn of the assistant", "output_config")
        form = Form("json_schema", schema=body.format.schema_)
    return Wanted(prompt, said, offer, form, _cache_asked(body), citable, more, searches, question)


async def model_request_of(body: MessagesBody, wanted: Wanted, served: Served, call: Call) -> ModelRequest:
    """The request to the model, with the constraint of its reply. Raises CharterError, with numbers, if the form can't
    fit."""
    model_decoding = served.backend.decoding
    top_k = None if body.top_k is None else min(body.top_k, LARGEST_K)
    top_p = None if body.top_p is None else max(body.top_p, LEAST_P)
    decoding = choose_decoding(model_decoding, body.temperature, top_p, top_k)
    stops = tuple(dict.fromkeys(body.stop_sequences))
    sampling = sampling_at(decoding, body.max_tokens, stops, body.loop_stop)
    own_decoding = decoding is model_decoding
    said = wanted.said if body.system_by == "operator" else wanted.said.by_user
    model_request = ModelRequest(body.model, wanted.prompt, sampling, own_decoding=own_decoding, said=said)
    if wanted.form is None:
        return model_request
    compiled = await served.backend.compile(wanted.form, call.caller.organisation, call.background)
    room = served.context - await served.backend.count(wanted.prompt)
    tokens = max(0, min(body.max_tokens, room))
    start = wanted.offer.start if wanted.offer else None
    constraint = start(compiled, tokens) if start else compiled.start(tokens)
    return replace(model_request, constraint=constraint)


def _cache_asked(body: CountBody) -> str:
    """The longest time for which the request asks for a cache, as a whole or at a block; empty if it doesn't. Raises
    ApiError for more marks than the API takes."""
    blocks = [body, *body.system, *body.tools, *(block for turn in body.messages for block in turn.content)]
    marks = [mark for block in blocks if (mark := getattr(block, "cache_control", None)) is not None]
    if len(marks) > MOST_MARKS:
        raise invalid(
            f"A maximum of {MOST_MARKS} blocks with cache_control may be provided. Found {len(marks)}.", "cache_control"
        )
    return max((mark.ttl for mark in marks), key=TTLS.index, default="")


def _continues(body: CountBody) -> bool:
    """Whether a request continues a message in which server tools were already used."""
    last = body.messages[-1] if body.messages else None
    return last is not None and last.role == "assistant" and any(isinstance(b, RESULTS) for b in last.content)


def _without_nulls(members: Any) -> Any:
    if not isinstance(members, dict):
        return members
    defaulted = ("stop_sequences", "stream", "system", "tools")
    return {key: value for key, value in members.items() if value is not None or key not in defaulted}
