"""The turns of a conversation in Anthropic's shape, as the text that a model reads.

Blocks of a turn, and consecutive turns of one role, become one turn, with a blank line between their texts. Documents
become text (`sources` reads files). Content that these models can't read (images, files elsewhere) is refused with its
place.

Calls of the client's tools and their results stand in pairs; what doesn't is refused in Anthropic's words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from charter.ground.text.dialogue import Role
from charter_service.api.errors import ApiError, invalid
from charter_service.api.wire.content import (
    BETWEEN,
    Block,
    DocumentBlock,
    HiddenThinkingBlock,
    ImageBlock,
    PartsSource,
    PlainSource,
    SearchResultBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    Turn,
)
from charter_service.api.wire.server_blocks import (
    RESULTS,
    CalculatorToolResultBlock,
    ServerToolUseBlock,
    as_query,
    check_server_blocks,
    is_question,
    plain_words_of,
    words_of,
)
from charter_service.api.wire.tool_words import (
    quote,
    write_calls,
    write_document,
    write_note,
    write_passages,
    write_result,
    write_search_result,
)
from charter_service.api.wire.written import NO_TEXT, Conversation, Written, callers, converse, join

CALL, RESULT = "tool_use", "tool_result"
MOST_MESSAGES = 100_000  # of a request, as Anthropic's reference says
_CALLS = (ToolUseBlock, ServerToolUseBlock)
_Side = tuple[Role, str, list[tuple[str, Any]]]  # role, the question that searches answered, blocks


class Merged(Protocol):
    """Consecutive turns of one role: the number of the first, and the place of each block."""

    role: str
    place: int
    blocks: list[tuple[str, Any]]


def check_calls(merged: Sequence[Merged]) -> None:
    """Checks that every call has a result in the next turn, and every result a call in the turn before."""
    for number, turn in enumerate(merged):
        calls = [(at, b.id) for at, b in turn.blocks if b.type == CALL]
        before = merged[number - 1].blocks if number else []
        call_ids = {b.id for _, b in before if b.type == CALL}
        if turn.role == "user":
            _check_results(turn, call_ids)
            if calls:
                raise invalid(f"{calls[0][0]}: `tool_use` blocks can only be in `assistant` messages", "messages")
            continue
        after = merged[number + 1].blocks if number + 1 < len(merged) else []
        result_ids = {b.tool_use_id for _, b in after if b.type == RESULT}
        if lost := [id for _, id in calls if id not in result_ids]:
            raise invalid(
                f"messages.{turn.place}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(lost[:5])}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message.",
                "messages",
            )
        if len({id for _, id in calls}) < len(calls):
            raise invalid(f"messages.{turn.place}: `tool_use` ids must be unique", "messages")
        if wrong := [at for at, b in turn.blocks if b.type == RESULT]:
            raise invalid(f"{wrong[0]}: `tool_result` blocks can only be in `user` messages", "messages")


def _check_results(turn: Merged, call_ids: set[str]) -> None:
    answered = set[str]()
    for at, block in turn.blocks:
        if block.type != RESULT:
            continue
        if block.tool_use_id not in call_ids:
            raise invalid(
                f"{at}: unexpected `tool_use_id` found in `tool_result` blocks: {block.tool_use_id}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message.",
                "messages",
            )
        if block.tool_use_id in answered:
            raise invalid(f"{at}: more than one `tool_result` for {block.tool_use_id}", "messages")
        answered.add(block.tool_use_id)


class _Note(TextBlock):
    """A system message between two turns."""


@dataclass(slots=True)
class _Merged:
    """Consecutive turns of one role; `place` is the number of the first."""

    role: str
    place: int
    blocks: list[tuple[str, Any]] = field(default_factory=list)  # place and block


def conversation(turns: Sequence[Turn], instructions: Iterable[TextBlock], more: Written = NO_TEXT) -> Conversation:
    """The messages for a model: the system text with `more` after it, and the turns. Raises ApiError with Anthropic's
    words for anything that its API refuses."""
    words = [callers(block.text) for block in instructions]
    _check_text((text.read for text in words), "system")
    leading = 0
    while leading < len(turns) and turns[leading].role == "system":
        words += [_text_of(block, f"messages.{leading}.content.{n}") for n, block in enumerate(turns[leading].content)]
        leading += 1
    merged = _merge(turns, leading)
    _check_order(merged)
    check_calls(merged)
    names = {b.id: b.name for turn in merged for _, b in turn.blocks if isinstance(b, _CALLS)}
    spoken: list[tuple[Role, Written]] = []
    question = ""
    for turn in merged:
        if turn.role == "user":
            question = _question(turn.blocks) or question
        sides: list[_Side] = [("user", "", turn.blocks)] if turn.role == "user" else _sides(turn, question)
        for role, searched_for, blocks in sides:
            text = _passages(searched_for, blocks) if searched_for else _text_of_turn(blocks, names)
            if spoken and spoken[-1][0] == role:
                text = join([spoken.pop()[1], text])
            spoken.append((role, text))
    if spoken[-1][0] == "assistant" and spoken[-1][1].read != spoken[-1][1].read.rstrip():
        raise invalid("messages: final assistant content cannot end with trailing whitespace", "messages")
    return converse(join(words), more, spoken)


def question_of(turns: Sequence[Turn]) -> str:
    """The last words of the user as the query of a search; empty if the assistant has begun to answer them."""
    turns = [turn for turn in turns if turn.role != "system"]
    if not turns or turns[-1].role != "user":
        return ""
    first = next((n for n in range(len(turns), 0, -1) if turns[n - 1].role != "user"), 0)
    return _question([("", block) for turn in turns[first:] for block in turn.content])


def _question(blocks: Iterable[tuple[str, Any]]) -> str:
    texts = [block.text for _, block in blocks if isinstance(block, TextBlock) and not isinstance(block, _Note)]
    return as_query(BETWEEN.join(texts))


def _sides(turn: _Merged, question: str) -> list[_Side]:
    """An assistant's turn as a model reads it: results of server tools stand in it, but come from outside. Calls for
    the question itself go before: what they gave stands with the question."""
    calls = [b for _, b in turn.blocks if isinstance(b, ServerToolUseBlock) and is_question(b, question)]
    ids = {block.id for block in calls}
    results = [(at, b) for at, b in turn.blocks if isinstance(b, RESULTS) and b.tool_use_id in ids]
    sides: list[_Side] = [("user", question, results)] if results else []
    for at, block in turn.blocks:
        if block in calls or (isinstance(block, RESULTS) and block.tool_use_id in ids):
            continue
        role: Role = "user" if isinstance(block, RESULTS) else "assistant"
        if not (sides and sides[-1][:2] == (role, "")):
            sides.append((role, "", []))
        sides[-1][2].append((at, block))
    return sides


def _passages(question: str, blocks: Sequence[tuple[str, Any]]) -> Written:
    """What the server's tools gave for a question, with the question."""
    passages, sums = list[Written](), list[Written]()
    for _, block in blocks:
        kind = sums if isinstance(block, CalculatorToolResultBlock) else passages
        kind.append(quote(plain_words_of(block)))
    return write_passages(passages, question, sums)


def _merge(turns: Sequence[Turn], leading: int) -> list[_Merged]:
    """One turn for consecutive turns of one role; a last empty one of the assistant's is dropped."""
    if leading == len(turns):
        raise invalid("messages: at least one message is required", "messages")
    if len(turns) > MOST_MESSAGES:
        raise invalid(f"messages: at most {MOST_MESSAGES:,} messages, found {len(turns):,}", "messages")
    merged: list[_Merged] = []
    for place in range(leading, len(turns)):
        turn = turns[place]
        if not turn.content:
            if place == len(turns) - 1 and turn.role == "assistant":
                break
            raise invalid(
                f"messages.{place}: all messages must have non-empty content except for the optional final assistant "
                "message",
                "messages",
            )
        if turn.role == "system" and not (merged and merged[-1].role == "user"):
            raise invalid(
                f"messages.{place}: a system message stands before all others or behind a user message", "messages"
            )
        if turn.role != "system" and not (merged and merged[-1].role == turn.role):
            merged.append(_Merged(turn.role, place))
        path = f"messages.{place}.content"
        blocks = [(f"{path}.{n}", block) for n, block in enumerate(turn.content)]
        merged[-1].blocks += _note_of(blocks) if turn.role == "system" else blocks
    return merged


def _note_of(blocks: list[tuple[str, Block]]) -> list[tuple[str, Block]]:
    """A system message between two turns, put into the user's turn: chat templates have no place for it."""
    text = join(_text_of(block, at) for at, block in blocks).read
    _check_text([text], "messages")
    return [(blocks[0][0], _Note(type="text", text=text))]


def _check_order(merged: Sequence[_Merged]) -> None:
    if not merged or merged[0].role != "user":
        raise invalid('messages: first message must use the "user" role', "messages")
    for turn in merged:
        _check_text([b.text for _, b in turn.blocks if isinstance(b, TextBlock)], "messages")
        check_server_blocks(turn.role, turn.blocks)


def _check_text(texts: Iterable[str], path: str) -> None:
    for text in texts:
        if not text:
            raise invalid(f"{path}: text content blocks must be non-empty", path)
        if not text.strip():
            raise invalid(f"{path}: text content blocks must contain non-whitespace text", path)


def _text_of_turn(blocks: Sequence[tuple[str, Any]], names: dict[str, str]) -> Written:
    """The text of a turn: blocks with a blank line between, consecutive calls as one list."""
    texts, calls = list[Written](), list[tuple[str, dict[str, Any]]]()
    for number, (at, block) in enumerate(blocks):
        if number and _goes_on(blocks[number - 1][1], block):
            texts[-1] = join([texts[-1], _text_of(block, at)], "")
            continue
        if isinstance(block, _CALLS):
            calls.append((block.name, block.input))
            continue
        if calls:
            texts.append(write_calls(calls))
            calls = []
        if isinstance(block, ToolResultBlock):
            inner = [_text_of(part, f"{at}.content.{n}") for n, part in enumerate(block.content)]
            text = write_result(names[block.tool_use_id], join(inner), block.is_error)
        elif isinstance(block, RESULTS):
            words, failed = words_of(block)
            text = write_result(names[block.tool_use_id], quote(words), failed)
        else:
            text = _text_of(block, at)
        texts.append(text)
    if calls:
        texts.append(write_calls(calls))
    return join(texts)


def _goes_on(before: Any, block: Any) -> bool:
    """Whether two blocks are one text that was cut where a citation begins or ends."""
    both = isinstance(before, TextBlock) and isinstance(block, TextBlock)
    return both and bool(before.citations or block.citations)


def _text_of(block: Any, at: str) -> Written:
    """The text of a block, empty if the model doesn't see it. Raises ApiError if it can't be read."""
    if isinstance(block, _Note):
        return write_note(block.text)
    if isinstance(block, TextBlock):
        return callers(block.text)
    if isinstance(block, DocumentBlock):
        return _document(block, at)
    if isinstance(block, SearchResultBlock):
        inner = BETWEEN.join(part.text for part in block.content)
        return write_search_result(block.title, block.source, inner)
    if isinstance(block, ImageBlock):
        raise _unread(
            at,
            "images can't be read: no model here takes them (GET /v1/models shows what each can do); put what matters "
            "into words",
        )
    if isinstance(block, (ThinkingBlock, HiddenThinkingBlock)):
        return NO_TEXT
    raise _unread(at, f"a {block.type} block can't stand here")


def _document(block: DocumentBlock, at: str) -> Written:
    source = block.source
    if isinstance(source, PlainSource):
        text = source.data
    elif isinstance(source, PartsSource):
        text = BETWEEN.join(_text_of(part, f"{at}.source.content.{n}").read for n, part in enumerate(source.content))
    else:
        raise _unread(
            f"{at}.source", f"documents are read as text here, not from {source.type}; send a source of type text"
        )
    return write_document(block.title or "", block.context or "", text)


def _unread(at: str, why: str) -> ApiError:
    return invalid(f"{at}: {why}", "messages")
