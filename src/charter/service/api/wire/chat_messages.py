"""The messages of a chat completion, and the text that a model reads of them.

System and developer messages become the system text, wherever they stand. Messages of one role that follow each other
become one turn. What tools were asked and what they gave is written in the words of `tool_words`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from charter.ground.text.dialogue import Message, Role, system
from charter.service.api.errors import invalid
from charter.service.api.wire.content import Strict
from charter.service.api.wire.tool_words import write_calls, write_result

BETWEEN = "\n\n"  # parts of a message, and messages of one turn


class TextPart(Strict):
    """A part of a message."""

    type: Literal["text"]
    text: str


def _flat(found: Any) -> Any:
    """The text of parts."""
    if not isinstance(found, list):
        return found
    texts = []
    for part in found:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        text = part.get("text" if kind == "text" else "refusal") if isinstance(part, dict) else None
        if kind not in ("text", "refusal") or not isinstance(text, str):
            raise ValueError(f"the models here read parts of type text alone, not {str(kind)[:100]}")
        texts.append(text)
    return "".join(texts)


Content = Annotated[str, BeforeValidator(_flat, json_schema_input_type=str | list[TextPart])]


class CalledFunction(Strict):
    """A call's function, and what it is given, as JSON."""

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
    """What the user says."""

    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantTurn(Strict):
    """What the model said."""

    role: Literal["assistant"]
    content: Content | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    name: str | None = None
    audio: None = None
    function_call: None = None
    annotations: list[Any] | None = None


class ToolTurn(Strict):
    """What a tool gave."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str


Turn = Annotated[SystemTurn | UserTurn | AssistantTurn | ToolTurn, Field(discriminator="role")]


def conversation(turns: Sequence[Turn], more: str = "") -> list[Message]:
    """What a model is asked: the system text with `more` behind it, and the turns. Raises ApiError."""
    words: list[str] = []
    spoken: list[tuple[Role, str]] = []
    names: dict[str, str] = {}
    for place, turn in enumerate(turns):
        if isinstance(turn, SystemTurn):
            words.append(turn.content)
        elif isinstance(turn, UserTurn):
            spoken.append(("user", turn.content))
        elif isinstance(turn, ToolTurn):
            if turn.tool_call_id not in names:
                raise invalid(
                    f"messages.{place}: tool_call_id {turn.tool_call_id[:200]} answers no call of a message before it",
                    "messages",
                )
            spoken.append(("user", write_result(names[turn.tool_call_id], turn.content, failed=False)))
        else:
            calls = [
                (call.function.name, _arguments(call, f"messages.{place}")) for call in turn.tool_calls or ()
            ]
            names |= {call.id: call.function.name for call in turn.tool_calls or ()}
            said = (turn.content or turn.refusal or "", write_calls(calls) if calls else "")
            spoken.append(("assistant", BETWEEN.join(filter(None, said))))
    if not spoken or spoken[0][0] != "user":
        raise invalid("messages: the first message that isn't the system's must be the user's", "messages")
    found = [system(BETWEEN.join(filter(None, (*words, more))))] if any(words) or more else []
    return [*found, *_merged(spoken)]


def _merged(spoken: Sequence[tuple[Role, str]]) -> list[Message]:
    found: list[Message] = []
    for role, text in spoken:
        if found and found[-1]["role"] == role:
            found[-1]["content"] = BETWEEN.join(filter(None, (found[-1]["content"], text)))
        else:
            found.append({"role": role, "content": text})
    return found


def _arguments(call: ToolCall, where: str) -> dict[str, Any]:
    try:
        found = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise invalid(f"{where}: the arguments of call {call.id[:200]} are no JSON object", "messages")
    return found
