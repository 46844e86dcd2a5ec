"""The body of a chat completion, and its messages as a request to a model (OpenAI's reference, "chat completions").

System and developer messages become the system text, wherever they are. Consecutive messages of one role become one
turn. Calls and results of tools are written in the words of `tool_words`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from charter.ground.generate.sampling import MOST_TOP
from charter.ground.text.dialogue import Message, Role
from charter_service.api.errors import invalid
from charter_service.api.model_request import Said
from charter_service.api.wire.content import Strict
from charter_service.api.wire.openai import Sampled
from charter_service.api.wire.tool_words import write_calls, write_result
from charter_service.api.wire.tools import AnyChoice, AutoChoice, CustomTool, NoChoice, Offer, ToolChoice, offer_of
from charter_service.api.wire.written import NO_TEXT, Conversation, Spoken, Written, callers, converse, join
from charter_service.forms.grammars import Form


class TextPart(Strict):
    """A part of a message."""

    type: Literal["text"]
    text: str


def _flatten(value: Any) -> Any:
    """The text of parts."""
    if not isinstance(value, list):
        return value
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        text = part.get("text" if kind == "text" else "refusal") if isinstance(part, dict) else None
        if kind not in ("text", "refusal") or not isinstance(text, str):
            raise ValueError(f"the models here read only parts of type text, not {str(kind)[:100]}")
        texts.append(text)
    return "".join(texts)


Content = Annotated[str, BeforeValidator(_flatten, json_schema_input_type=str | list[TextPart])]


class CalledFunction(Strict):
    """A call's function, and its arguments as JSON."""

    name: str = Field(min_length=1, max_length=200)
    arguments: str


class ToolCall(Strict):
    """A call that the model made."""

    id: str = Field(min_length=1, max_length=200)
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class SystemTurn(Strict):
    """Instructions."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserTurn(Strict):
    """A message of the user's."""

    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantTurn(Strict):
    """A message of the model's."""

    role: Literal["assistant"]
    content: Content | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    name: str | None = None
    audio: None = None
    function_call: None = None
    annotations: list[Any] | None = None


class ToolTurn(Strict):
    """The result of a tool."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str


Turn = Annotated[SystemTurn | UserTurn | AssistantTurn | ToolTurn, Field(discriminator="role")]


def conversation(turns: Sequence[Turn], more: Written = NO_TEXT) -> Conversation:
    """The messages for a model: the system text with `more` after it, and the turns. Raises ApiError."""
    words: list[Written] = []
    spoken: list[tuple[Role, Written]] = []
    names: dict[str, str] = {}
    for place, turn in enumerate(turns):
        if isinstance(turn, SystemTurn):
            words.append(callers(turn.content))
        elif isinstance(turn, UserTurn):
            spoken.append(("user", callers(turn.content)))
        elif isinstance(turn, ToolTurn):
            if turn.tool_call_id not in names:
                raise invalid(
                    f"messages.{place}: tool_call_id {turn.tool_call_id[:200]} answers no call of a message before it",
                    "messages",
                )
            result = write_result(names[turn.tool_call_id], callers(turn.content), failed=False)
            spoken.append(("user", result))
        else:
            calls = [(call.function.name, _arguments(call, f"messages.{place}")) for call in turn.tool_calls or ()]
            names |= {call.id: call.function.name for call in turn.tool_calls or ()}
            text = callers(turn.content or turn.refusal or "")
            spoken.append(("assistant", join([text, write_calls(calls) if calls else NO_TEXT])))
    if not spoken or spoken[0][0] != "user":
        raise invalid("messages: the first message that isn't the system's must be the user's", "messages")
    return converse(join(words), more, _merge(spoken))


def _merge(spoken: Spoken) -> list[tuple[Role, Written]]:
    merged: list[tuple[Role, Written]] = []
    for role, text in spoken:
        if merged and merged[-1][0] == role:
            text = join([merged.pop()[1], text])
        merged.append((role, text))
    return merged


def _arguments(call: ToolCall, place: str) -> dict[str, Any]:
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise invalid(f"{place}: the arguments of call {call.id[:200]} are not a JSON object", "messages")
    return arguments


NO_INPUT: dict[str, Any] = {"type": "object", "properties": {}}


class ToolFunction(Strict):
    """A function that a reply may call."""

    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    """A tool."""

    type: Literal["function"]
    function: ToolFunction


class Named(Strict):
    """A function's name."""

    name: str


class Chosen(Strict):
    """The tool that must be used."""

    type: Literal["function"]
    function: Named


class JsonSchema(Strict):
    """A schema for the reply."""

    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class PlainFormat(Strict):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(Strict):
    """Some JSON object."""

    type: Literal["json_object"]


class SchemaFormat(Strict):
    """A document of a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


Format = Annotated[PlainFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


def _text_alone(value: Any) -> Any:
    if value not in (None, ["text"]):
        raise ValueError("the models here answer only in text")
    return value


class ChatBody(Sampled):
    """The body of a chat completion."""

    messages: list[Turn] = Field(min_length=1, max_length=100_000)
    max_tokens: int | None = Field(None, ge=1, description="default: the most that the model may write")
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP)
    response_format: Format | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | Chosen | None = None
    parallel_tool_calls: bool | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    modalities: Annotated[Any, BeforeValidator(_text_alone)] = None
    safety_identifier: str | None = Field(None, max_length=1024)
    # no effect on replies here
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = Field(None, description="accepted, without effect")
    reasoning_effort: str | None = None
    verbosity: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens to show with each token; None without log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A body as a request to a model: the prompt, and what of it the caller said."""

    prompt: list[Message]
    said: Said
    offer: Offer | None
    form: Form | None


def wanted_of(body: ChatBody) -> Wanted:
    """The request of a body. Raises ApiError for fields that can't be combined."""
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("top_logprobs: needs logprobs to be true", "top_logprobs")
    offer = _offer(body)
    prompt, said = conversation(body.messages, offer.words if offer else NO_TEXT)
    _check_continued(body, prompt[-1]["role"] == "assistant")
    if offer is not None:
        if body.response_format is not None and body.response_format.type != "text":
            raise invalid(
                "response_format: a reply can't both have this format and use tools here; leave one out, or set "
                "tool_choice to none",
                "response_format",
            )
        return Wanted(prompt, said, offer, offer.form())
    return Wanted(prompt, said, None, _form(body.response_format))


def _form(form: Format | None) -> Form | None:
    if isinstance(form, ObjectFormat):
        return Form("json_object")
    if isinstance(form, SchemaFormat):
        schema = form.json_schema.schema_
        return Form("json_schema", schema=schema) if schema is not None else Form("json_object")
    return None


def _offer(body: ChatBody) -> Offer | None:
    """The tools, as the messages API knows them."""
    tools = []
    for place, tool in enumerate(body.tools or ()):
        function = tool.function
        schema = {"type": "object", **(function.parameters or NO_INPUT)}
        try:
            custom_tool = CustomTool(name=function.name, description=function.description or "", input_schema=schema)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            words = str(first["msg"]).removeprefix("Value error, ")
            raise invalid(f"tools.{place}.function.{first['loc'][0]}: {words}", "tools") from None
        tools.append(custom_tool)
    return offer_of(tools, _choice(body) if tools or body.tool_choice != "none" else None)


def _choice(body: ChatBody) -> AutoChoice | AnyChoice | ToolChoice | NoChoice:
    single = body.parallel_tool_calls is False
    choice = body.tool_choice
    if isinstance(choice, Chosen):
        return ToolChoice(type="tool", name=choice.function.name, disable_parallel_tool_use=single)
    if choice == "required":
        return AnyChoice(type="any", disable_parallel_tool_use=single)
    if choice == "none":
        return NoChoice(type="none")
    return AutoChoice(type="auto", disable_parallel_tool_use=single)


def _check_continued(body: ChatBody, last_is_assistants: bool) -> None:
    """Raises ApiError if the flags of vLLM contradict the messages or each other."""
    if body.continue_final_message and body.add_generation_prompt:
        raise invalid(
            "continue_final_message: can't be set together with add_generation_prompt", "continue_final_message"
        )
    if body.continue_final_message and not last_is_assistants:
        raise invalid("continue_final_message: the last message is not the assistant's", "continue_final_message")
    if last_is_assistants and (body.continue_final_message is False or body.add_generation_prompt):
        raise invalid(
            "messages: the last message is the assistant's, and a new turn after it is not offered here: leave "
            "out continue_final_message and add_generation_prompt to have it continued",
            "messages",
        )
    if not last_is_assistants and body.add_generation_prompt is False:
        raise invalid("add_generation_prompt: a reply needs its beginning; leave this out", "add_generation_prompt")
