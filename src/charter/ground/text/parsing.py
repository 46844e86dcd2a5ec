"""Parses one row of a file into a dialogue, a comparison or a triple, and checks its columns.

Rows are in our own columns, TRL's or HH-RLHF's; `columns` converts those of other sets. HH-RLHF's dialogues are one
text in the Human/Assistant form (Askell 2021, Bai 2022a): a turn is a blank line, "Human:" or "Assistant:", a space and
its text. System text comes first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.recognise import OWN_COLUMNS, VOTE, kind_of_row
from charter.ground.text.dialogue import (
    Comparison,
    Dialogue,
    Message,
    Role,
    assistant,
    check_messages,
    check_text,
    check_user_turns,
    user,
)

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_NAMES = {"user": "Human", "assistant": "Assistant"}
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_DIALOGUE_KEYS = {
    "id",
    "messages",
    "topic",
    "source",
    "weight",
    "learn_from",
    "meta",
    "prompt",
    "completion",
    "transcript",
}
_COMPARISON_KEYS = {
    "id",
    "messages",
    "chosen",
    "rejected",
    "p_chosen",
    "axis",
    "source",
    "topic",
    "weight",
    "meta",
    "prompt",
}
DEFAULT_AXIS = "helpful"
DISORDER = "turns empty or out of order"
# the columns with a meaning; `unseen`, `rating` and `p_refuse` go into meta
KNOWN_COLUMNS = {
    "dialogues": _DIALOGUE_KEYS | {"unseen", "rating", "p_refuse"},
    "comparisons": _COMPARISON_KEYS,
    "triples": {"id", "topic", "messages", "prompt", "harmful", "good", "source", "meta"},
    "judgments": {
        *("id", "sample", "topic", "family", "prompt", "reply", "margin", "verdict", "note", "source", "case")
    },
    "votes": VOTE | {"id", "item", "prompt", "axis", "kind", "strength", "left", "rater", "source", "flags", "seconds"},
}


def is_transcript(text: str, headed: bool = False) -> bool:
    """Whether a text has the Human/Assistant form; `headed` allows system text before the first turn."""
    return text.startswith(("\n\nHuman:", "Human:")) or (headed and "\n\nHuman:" in text)


def parse_transcript(text: str) -> tuple[Message, ...]:
    """Messages of a transcript, without white space around turns and without a last, empty "Assistant:".

    Raises CharterError if the turns do not alternate, or if it has none.
    """
    pieces = _TURN.split(text)
    messages: list[Message] = []
    if pieces[0].strip():
        messages.append({"role": "system", "content": pieces[0].strip()})
    for name, content in zip(pieces[1::2], pieces[2::2], strict=True):
        messages.append({"role": _ROLES[name], "content": content.strip()})
    if len(messages) > 1 and messages[-1] == {"role": "assistant", "content": ""}:
        messages.pop()
    return check_messages(messages)


def format_transcript(messages: Sequence[Message]) -> str:
    r"""The text of messages: "\n\nHuman: ...\n\nAssistant: ...".

    Raises CharterError if a turn's text would be read back as other turns.
    """
    parts = []
    for number, message in enumerate(check_messages(messages), 1):
        content = message["content"].strip()
        name = _NAMES.get(message["role"])
        if _TURN.search(f"\n\n{content}" if name is None else f" {content}"):
            raise CharterError(
                f"message {number} holds a line that starts a turn (Human: or Assistant:); the transcript "
                "form cannot express it; use the messages form"
            )
        parts.append(content if name is None else f"\n\n{name}: {content}".rstrip(" "))
    return "".join(parts)


class LeftOut(CharterError):
    """A row of a published set that we can't use. Readers that expect such rows drop and count them by reason."""


class NoPreference(LeftOut):
    """A pair without a preference."""


def dialogue_of_row(row: Mapping[str, Any]) -> Dialogue:
    """A dialogue from our columns, TRL's, or a transcript. Raises CharterError, also for a row of another kind, and
    LeftOut if the turns of a transcript are empty or out of order."""
    check_kind(row, "dialogues")
    if "messages" in row:
        messages = check_messages(row["messages"])
    elif "prompt" in row:
        messages = prompt_messages(row["prompt"])
        if "completion" in row:
            messages = check_messages([*messages, assistant(_reply(row["completion"], "completion"))])
    elif "transcript" in row:
        messages = _transcript(text_of(row, "transcript", ""))
    else:
        raise CharterError(
            f"a row with {keys_of(row)}; a dialogue needs messages, transcript, or prompt (and completion)"
        )
    meta = _meta(row, _DIALOGUE_KEYS)
    return Dialogue(
        id_of(row),
        check_user_turns(messages),
        text_of(row, "topic", ""),
        text_of(row, "source", ""),
        _weight(row),
        meta,
        _learn_from(row),
    )


def lesson_of_row(row: Mapping[str, Any]) -> Dialogue:
    """A dialogue with something to learn from. Raises CharterError."""
    dialogue = dialogue_of_row(row)
    if all(message["role"] != "assistant" for message in dialogue.messages[dialogue.learn_from :]):
        part = f" (learn_from is {dialogue.learn_from})" if dialogue.learn_from else ""
        raise CharterError(f"the dialogue has no assistant's turn to learn from{part}; add one, or check it as prompts")
    return dialogue


def comparison_of_row(row: Mapping[str, Any]) -> Comparison:
    """A comparison from our columns, TRL's or HH-RLHF's. Raises NoPreference or CharterError."""
    check_kind(row, "comparisons")
    if "messages" in row:
        messages = check_messages(row["messages"], last="user")
    elif "prompt" in row:
        messages = check_messages(prompt_messages(row["prompt"]), last="user")
    else:
        return _whole_pair(row)
    return _comparison(row, messages, _reply(row["chosen"], "chosen"), _reply(row["rejected"], "rejected"))


def triple_of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A triple: the row after its id, messages, harmful and good reply are checked. Raises CharterError."""
    check_kind(row, "triples")
    if "messages" in row:
        messages = check_messages(row["messages"])
    elif "prompt" in row:
        messages = prompt_messages(row["prompt"])
    else:
        raise CharterError(f"a row with {keys_of(row)}; a triple needs messages or prompt")
    triple = {key: value for key, value in row.items() if key != "prompt"}
    triple |= {"id": id_of(row), "topic": text_of(row, "topic", ""), "messages": list(check_user_turns(messages))}
    return triple | {key: _reply(row[key], key) for key in OWN_COLUMNS["triples"]}


def _whole_pair(row: Mapping[str, Any]) -> Comparison:
    """A comparison of two whole dialogues (transcripts or messages) that share all but the last reply."""
    sides: list[tuple[Message, ...]] = []
    for key in ("chosen", "rejected"):
        value = row[key]
        if not isinstance(value, str):
            sides.append(check_messages(value, last="assistant"))
            continue
        if not is_transcript(value, headed=True):
            raise CharterError(f"{key} has neither the \\n\\nHuman: form nor a column prompt beside it")
        try:
            sides.append(check_messages(_transcript(value), last="assistant"))
        except CharterError:
            raise NoPreference(DISORDER) from None
    chosen, rejected = sides
    if chosen[:-1] != rejected[:-1]:
        raise NoPreference("no common prefix")
    return _comparison(row, chosen[:-1], chosen[-1]["content"], rejected[-1]["content"])


def _transcript(text: str) -> tuple[Message, ...]:
    """The messages of a whole dialogue in the Human/Assistant form. Raises CharterError for another form, and LeftOut
    if turns are empty or out of order, as in some published sets."""
    if not is_transcript(text, headed=True):
        raise CharterError("the transcript lacks the \\n\\nHuman: form")
    try:
        return check_user_turns(parse_transcript(text))
    except CharterError:
        raise LeftOut(DISORDER) from None


def _comparison(row: Mapping[str, Any], messages: tuple[Message, ...], chosen: str, rejected: str) -> Comparison:
    if chosen == rejected:
        raise NoPreference("identical")
    p = row.get("p_chosen", 1.0)
    if not isinstance(p, int | float) or isinstance(p, bool) or not 0 <= p <= 1:
        raise CharterError(f"p_chosen is {p!r}, expected a number between 0 and 1")
    axis, source = text_of(row, "axis", DEFAULT_AXIS), text_of(row, "source", "human")
    meta = _meta(row, _COMPARISON_KEYS)
    topic, weight = text_of(row, "topic", ""), _weight(row)
    return Comparison(
        id_of(row), check_user_turns(messages), chosen, rejected, float(p), axis, source, topic, meta, weight
    )


def _learn_from(row: Mapping[str, Any]) -> int:
    number = row.get("learn_from", 0)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise CharterError(f"learn_from is {number!r}, expected the number of a message, the first being 0")
    return number


def _weight(row: Mapping[str, Any]) -> float:
    weight = row.get("weight", 1.0)
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight < float("inf"):
        raise CharterError(f"weight is {weight!r}, expected a number of 0 or more")
    return float(weight)


def prompt_messages(value: object) -> tuple[Message, ...]:
    """Messages of a prompt: a list of them, a transcript, or one user turn's text."""
    if not isinstance(value, str):
        return check_messages(value)
    if is_transcript(value):
        return parse_transcript(value)
    return check_messages([user(value)])


def _reply(value: object, name: str) -> str:
    """The text of a reply: a string, or a list of one assistant message."""
    if isinstance(value, str):
        return check_text(value, name)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        role, content = value[0].get("role"), value[0].get("content")
        if role == "assistant" and isinstance(content, str):
            return check_text(content, name)
    raise CharterError(f"{name} must be a text or a list of one assistant message")


def id_of(row: Mapping[str, Any]) -> str:
    """The id of a row as text; it may be a number. Raises CharterError."""
    value = row.get("id")
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise CharterError(f"id is {value!r}, expected a text")
    return str(value)


def text_of(row: Mapping[str, Any], key: str, default: str) -> str:
    """The text in a column, or `default` if the row lacks it. Raises CharterError."""
    value = row.get(key, default)
    if not isinstance(value, str):
        raise CharterError(f"{key} is {type(value).__name__}, expected a text")
    return value


def _meta(row: Mapping[str, Any], columns: set[str]) -> dict[str, Any]:
    """The row's meta, with every unknown column added."""
    meta = row.get("meta", {})
    if not isinstance(meta, dict):
        raise CharterError(f"meta is {type(meta).__name__}, expected an object")
    return {**{k: v for k, v in row.items() if k not in columns}, **meta}


def check_kind(row: Mapping[str, Any], expected: str) -> None:
    """Raises CharterError if a row is of another kind, or lacks a column that only this kind has."""
    recognised = kind_of_row(row)
    kind = recognised if recognised in OWN_COLUMNS else expected
    columns = OWN_COLUMNS.get(kind, ())
    missing = " and ".join(column for column in columns if column not in row)
    if kind != expected or missing:
        among = f" among {expected}" if kind != expected else ""
        without = f" without {missing}" if missing else ""
        unknown = ", ".join(sorted(str(column) for column in row if column not in KNOWN_COLUMNS[kind]))
        strange = f" (and with the unknown {unknown})" if unknown else ""
        alone = ", in a file of their own" if among else ""
        raise CharterError(f"a row of {kind}{among}{without}{strange}; {kind} have {' and '.join(columns)}{alone}")


def keys_of(row: Mapping[str, Any]) -> str:
    """The columns of a row, for messages."""
    return "no columns" if not row else "the columns " + ", ".join(sorted(map(str, row)))
