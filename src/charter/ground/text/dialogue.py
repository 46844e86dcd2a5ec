"""Dialogues and comparisons, which the rooms exchange as text, and the order of their roles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypedDict, cast

from charter.ground.artifact.errors import CharterError

Role = Literal["system", "user", "assistant"]
ROLES = ("system", "user", "assistant")
AXES = ("helpful", "honest", "harmless")


class Message(TypedDict):
    """One turn: role "system", "user" or "assistant", and its text."""

    role: Role
    content: str


# What a model continues: a dialogue (its last message, if that is the assistant's), or plain text without a chat
# template.
Prompt = Sequence[Message] | str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Messages in order; a prompt is a dialogue whose last message is a user's.

    `weight` scales its loss. Training learns only the assistant's messages from number `learn_from` on. Earlier ones
    are context, such as worked examples or the turns of another model.
    """

    id: str
    messages: tuple[Message, ...]
    topic: str = ""
    source: str = ""
    weight: float = 1.0
    meta: Mapping[str, Any] = field(default_factory=dict)
    learn_from: int = 0

    @property
    def is_prompt(self) -> bool:
        """Whether the last message is a user's."""
        return self.messages[-1]["role"] == "user"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two replies to messages that end with a user's; `p_chosen`: probability that `chosen` is better. `weight`
    scales its loss by the trust in its rater."""

    id: str
    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    p_chosen: float = 1.0
    axis: str = "helpful"
    source: str = "human"
    topic: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0


def first_turn(record: Comparison | Dialogue, purpose: str) -> str:
    """A digest of the purpose and the first user turn alone: rows of one prompt share it."""
    first = next((m["content"] for m in record.messages if m["role"] == "user"), "")
    return hashlib.sha256(f"{purpose}|{first.strip().lower()}".encode()).hexdigest()


def sides(comparison: Comparison) -> tuple[str, str]:
    """The reply that the label prefers, then the other. A label below one half swaps them."""
    pair = (comparison.chosen, comparison.rejected)
    return pair if comparison.p_chosen >= 0.5 else (pair[1], pair[0])


def cluster_of(record: Comparison | Dialogue) -> str:
    """The cluster of a row: rows with the same first user turn share it and are not independent."""
    return first_turn(record, "cluster")[:12]


def prompt_of(dialogue: Dialogue) -> Dialogue:
    """The dialogue up to its last user turn. Raises CharterError if it has none."""
    turns = dialogue.messages
    while turns and turns[-1]["role"] != "user":
        turns = turns[:-1]
    if not turns:
        raise CharterError(f"dialogue {dialogue.id} has no user turn to answer")
    return replace(dialogue, messages=turns)


def cut_after_reply(dialogue: Dialogue) -> Dialogue:
    """The dialogue up to its last reply, without later user turns."""
    last = max(n for n, message in enumerate(dialogue.messages) if message["role"] == "assistant")
    return replace(dialogue, messages=dialogue.messages[: last + 1])


def user(content: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """An assistant's message."""
    return {"role": "assistant", "content": content}


def system(content: str) -> Message:
    """A system message."""
    return {"role": "system", "content": content}


def check_messages(messages: object, last: Role | None = None) -> tuple[Message, ...]:
    """The messages as a tuple, after checking shape and order; other keys of a message are dropped.

    An optional system message comes first, then user and assistant take turns, the user first.
    `last` names the role the last message must have. Raises CharterError.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise CharterError(f"messages must be a list of role and content, found {type(messages).__name__}")
    if not messages:
        raise CharterError("messages are empty; expected at least one user turn")
    turns = tuple(_check_message(number, message) for number, message in enumerate(messages, 1))
    expected: tuple[str, ...] = ("system", "user")
    for number, message in enumerate(turns, 1):
        role = message["role"]
        if role not in expected:
            raise CharterError(
                f"message {number} is a turn of {role!r} where {' or '.join(expected)} was expected: "
                "an optional system message, then user and assistant in turn"
            )
        expected = ("assistant",) if role == "user" else ("user",)
    if last is not None and turns[-1]["role"] != last:
        raise CharterError(f"the last message is a turn of {turns[-1]['role']!r}, expected {last!r}")
    if turns[-1]["role"] == "system":
        raise CharterError("there is only a system message; expected at least one user turn")
    return turns


def _check_message(number: int, message: object) -> Message:
    if not isinstance(message, Mapping):
        raise CharterError(f"message {number} is {type(message).__name__}, expected role and content")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise CharterError(f"message {number} has the unknown role {role!r}; expected one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise CharterError(f"message {number} has a content of {type(content).__name__}, expected text")
    check_text(content, f"message {number}")
    return {"role": cast(Role, role), "content": content}


def check_user_turns(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages. Raises CharterError if a user turn is empty."""
    for number, message in enumerate(messages, 1):
        if message["role"] == "user" and not message["content"].strip():
            raise CharterError(f"message {number}, the user's, is empty; expected text")
    return messages


def check_text(text: str, place: str) -> str:
    """The text. Raises CharterError if it is not valid Unicode: half a surrogate pair cannot be tokenised or saved."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CharterError(f"{place} holds half a surrogate pair at character {error.start}; remove it") from None
    return text


def mend_text(text: str) -> str:
    """The text as valid Unicode: a lone half of a surrogate pair becomes the replacement character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def duplicates(ids: Iterable[str]) -> list[str]:
    """Ids that occur more than once, in order of their second occurrence."""
    keys: set[str] = set()
    return [i for i in ids if i in keys or keys.add(i)]  # type: ignore[func-returns-value]
