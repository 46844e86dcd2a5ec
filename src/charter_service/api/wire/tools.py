"""Tools in Anthropic's shape, and the form that holds a reply's calls to their schemas.

A reply that must use a tool is held to the form from its first token; one that may is free until it writes the marker.
Either way the calls end the reply: after them a model would only make up results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.constraint import Constraint
from charter_service.api.errors import invalid
from charter_service.api.model_request import Holder
from charter_service.api.wire.content import Marked, Strict
from charter_service.api.wire.offered import CALLERS, DEFER_LOADING
from charter_service.api.wire.server_tools import ServerTool, WebSearchTool, find_tool
from charter_service.api.wire.tool_words import CLOSE, OPEN, describe_tools, warn_of
from charter_service.api.wire.written import Written, join
from charter_service.forms.grammars import Form
from charter_service.forms.schema import Schema, check_schema, rebase
from charter_service.tools.opening import PLACES
from charter_service.tools.tool import Tool as RunTool

NAME = r"^[a-zA-Z0-9_-]{1,128}$"
MOST_TOOLS = 128
MOST_CALLS = 16  # of one reply
WEB_SEARCH = "web_search_20250305"


class CustomTool(Marked):
    """A tool that the caller defines."""

    type: Literal["custom"] | None = None
    name: str = Field(pattern=NAME)
    description: str = ""
    input_schema: dict[str, Any]
    strict: bool | None = Field(None, description="calls are held to the schema in any case")
    allowed_callers: Annotated[Any, AfterValidator(CALLERS.check)] = None
    defer_loading: Annotated[Any, AfterValidator(DEFER_LOADING.check)] = None
    eager_input_streaming: bool | None = Field(None, description="inputs are streamed in any case")
    input_examples: list[dict[str, Any]] | None = Field(None, description="shown to the model")

    @field_validator("input_schema")
    @classmethod
    def _an_object(cls, schema: dict[str, Any]) -> dict[str, Any]:
        if schema.get("type") != "object":
            raise ValueError('expected a JSON Schema whose "type" is "object"')
        try:
            check_schema(schema)
        except CharterError as error:
            raise ValueError(str(error)) from None
        return schema


class OtherTool(BaseModel):
    """A tool that Anthropic defines and that isn't here."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: str

    @field_validator("type")
    @classmethod
    def _unknown(cls, kind: str) -> str:
        raise ValueError(
            f"tools of type {kind[:100]} are not offered here; define one with a name and an input_schema, or name one "
            f"that this server may run: {', '.join(PLACES)}"
        )


def _kind(tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    if kind == WEB_SEARCH:
        return "web"
    return "custom" if kind in (None, "custom") else "server" if kind in PLACES else "other"


Tool = Annotated[
    Annotated[CustomTool, Tag("custom")]
    | Annotated[ServerTool, Tag("server")]
    | Annotated[WebSearchTool, Tag("web")]
    | Annotated[OtherTool, Tag("other")],
    Discriminator(_kind),
]


class AutoChoice(Strict):
    """The model decides."""

    type: Literal["auto"]
    disable_parallel_tool_use: bool = False


class AnyChoice(Strict):
    """Some tool is used."""

    type: Literal["any"]
    disable_parallel_tool_use: bool = False


class ToolChoice(Strict):
    """This tool is used."""

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool = False


class NoChoice(Strict):
    """No tool is used."""

    type: Literal["none"]


Choice = Annotated[AutoChoice | AnyChoice | ToolChoice | NoChoice, Field(discriminator="type")]


Run = tuple[ServerTool, RunTool]
NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools that a reply may use, whether it must, and at most how many calls (`most`)."""

    tools: tuple[CustomTool, ...]
    forced: bool
    most: int
    words: Written  # of all tools, for the system text
    run: Mapping[str, Run] = field(default_factory=dict)  # those that the server runs, by name
    later: Offer | None = None  # for the rounds after the first, where a forced choice doesn't hold; None: as it is

    def form(self) -> Form:
        """The form of a reply's calls, with or without the marker."""
        schemas = {
            f"tool_{n}": rebase(_closed(tool.input_schema), f"#/$defs/tool_{n}") for n, tool in enumerate(self.tools)
        }
        calls = [
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, "arguments": {"$ref": f"#/$defs/tool_{n}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for n, tool in enumerate(self.tools)
        ]
        entry = calls[0] if len(calls) == 1 else {"anyOf": calls}
        schema = {"type": "array", "items": entry, "minItems": 1, "maxItems": self.most, "$defs": schemas}
        return Form("json_schema", schema=schema, before=OPEN if self.forced else "", after=CLOSE)

    def start(self, compiled: Holder, tokens: int) -> Callable[[], Constraint] | None:
        """The constraint of a reply of `max_tokens` tokens. Raises CharterError, with the numbers, if a required call
        would not fit; an optional call that would not fit can't begin."""
        return compiled.start(tokens) if self.forced else compiled.start_after(OPEN)


def offer_of(tools: Sequence[Any], choice: Any, server_tools: Mapping[str, RunTool] = NONE) -> Offer | None:
    """The tools of a request; None if no tool may be used. `server_tools`: those that the server can run, by kind.
    Raises ApiError."""
    run = {tool.name: (tool, find_tool(tool, server_tools)) for tool in tools if isinstance(tool, ServerTool)}
    run = {name: pair for name, pair in run.items() if not pair[0].by_question}
    if len(tools) > MOST_TOOLS:
        raise invalid(f"tools: at most {MOST_TOOLS} tools, found {len(tools)}", "tools")
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise invalid("tools: Tool names must be unique.", "tools")
    tools = [tool for tool in tools if not (isinstance(tool, ServerTool) and tool.by_question)]
    if isinstance(choice, (AnyChoice, ToolChoice)) and not tools:
        raise invalid("tool_choice: tools are needed for a choice among them", "tool_choice")
    if not tools or isinstance(choice, NoChoice):
        return None
    tools = [_described(run[tool.name][1]) if tool.name in run else tool for tool in tools]
    may = tuple(tools)
    if isinstance(choice, ToolChoice):
        may = tuple(tool for tool in tools if tool.name == choice.name)
        if not may:
            raise invalid(f"tool_choice: Tool '{choice.name[:128]}' not found in provided tools", "tool_choice")
    single = choice is not None and choice.disable_parallel_tool_use
    words = describe_tools([_description_of(tool) for tool in tools], run)
    if run:
        words = join([words, warn_of(list(run))], "\n")
    forced = isinstance(choice, (AnyChoice, ToolChoice))
    later = Offer(tuple(tools), False, 1 if single else MOST_CALLS, words, run)
    return replace(later, tools=may, forced=forced, later=later)


def searches_of(tools: Sequence[Any], choice: Any, server_tools: Mapping[str, RunTool] = NONE) -> Mapping[str, Run]:
    """The tools that a request wants for the question itself, by name; none if no tool may be used. Raises
    ApiError."""
    if isinstance(choice, NoChoice):
        return {}
    return {
        tool.name: (tool, find_tool(tool, server_tools))
        for tool in tools
        if isinstance(tool, ServerTool) and tool.by_question
    }


def _described(tool: RunTool) -> CustomTool:
    """A server tool as the model is told of it."""
    return CustomTool(name=tool.name, description=tool.description, input_schema=dict(tool.schema))


def _description_of(tool: CustomTool) -> dict[str, Any]:
    """What a model reads of a tool."""
    description = {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
    return description | ({"input_examples": tool.input_examples} if tool.input_examples else {})


def _closed(schema: Schema) -> Schema:
    """A tool's schema, closed to unnamed properties if it names some and doesn't say: the input is still valid, and a
    small model invents none."""
    open_ended = {"additionalProperties", "unevaluatedProperties", "patternProperties", "propertyNames"}
    combined = {"anyOf", "oneOf", "allOf", "not", "if", "$ref", "dependentSchemas", "minProperties"}
    if not schema.get("properties") or (open_ended | combined) & schema.keys():
        return schema
    missing = set(schema.get("required") or ()) - schema["properties"].keys()
    return schema if missing else {**schema, "additionalProperties": False}
