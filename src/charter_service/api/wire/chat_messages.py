"""The messages of a chat completion, and the text that a model reads.

System and developer messages become the system text, wherever they are. Consecutive messages of one role become one
turn. Calls and results of tools are written in the words of `tool_words`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from charter.ground.text.dialogue import Role
from charter_service.api.errors import invalid
from charter_service.api.wire.content import Strict
from charter_service.api.wire.tool_words import write_calls, write_result
from charter_service.api.wire.written import NOTHING, Conversation, Spoken, Written, callers, converse, join


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


def conversation(turns: Sequence[Turn], more: Written = NOTHING) -> Conversation:
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
            calls = [
                (call.function.name, _arguments(call, f"messages.{place}")) for call in turn.tool_calls or ()
            ]
            names |= {call.id: call.function.name for call in turn.tool_calls or ()}
            text = callers(turn.content or turn.refusal or "")
            spoken.append(("assistant", join([text, write_calls(calls) if calls else NOTHING])))
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


def _arguments(call: ToolCall, where: str) -> dict[str, Any]:
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise invalid(f"{where}: the arguments of call {call.id[:200]} are not a JSON object", "messages")
    return arguments
