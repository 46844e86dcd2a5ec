"""The shapes of the API's answers and the format of their times, for its documentation.

The handlers write these shapes themselves; tests compare every answer with them.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from charter_service.api.telling import StandingNote
from charter_service.api.wire.server_blocks import ServerBlock


class Error(BaseModel):
    """An error: its kind, and one line with the problem and its fix."""

    type: str
    message: str


class ErrorAnswer(BaseModel):
    """An error in Anthropic's shape."""

    type: Literal["error"]
    error: Error
    request_id: str


class StreamEvent(BaseModel):
    """One of the events of a stream (server-sent events): its name, if it has one, and its data, which is JSON, or
    [DONE] at the end of some streams."""

    event: str = "message"
    data: str


class OpenAIProblem(BaseModel):
    """An error, and the part of the request that it is in."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorAnswer(BaseModel):
    """An error in OpenAI's shape."""

    error: OpenAIProblem


class CitationAnswer(BaseModel):
    """A passage that the reply quotes word for word, and where it stands: characters of a text, pages of a PDF, or
    blocks of a document in blocks or of a search result. Ends are exclusive; pages count from 1, all else from 0."""

    type: Literal["char_location", "page_location", "content_block_location", "search_result_location"]
    cited_text: str
    document_index: int | None = None
    document_title: str | None = None
    file_id: str | None = None
    start_char_index: int | None = None
    end_char_index: int | None = None
    start_page_number: int | None = None
    end_page_number: int | None = None
    search_result_index: int | None = None
    source: str | None = None
    title: str | None = None
    start_block_index: int | None = None
    end_block_index: int | None = None


class TextAnswer(BaseModel):
    """Text of a reply; with citations, a passage that it quotes from a document."""

    type: Literal["text"]
    text: str
    citations: list[CitationAnswer] | None = None


class CallAnswer(BaseModel):
    """A call of a tool."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class CacheCreationAnswer(BaseModel):
    """Tokens newly put into the prompt's cache, by the time that was asked for; the cache itself holds them until it
    needs the room."""

    ephemeral_5m_input_tokens: int
    ephemeral_1h_input_tokens: int


class OutputDetailsAnswer(BaseModel):
    """Of which kinds the written tokens are; no model here thinks."""

    thinking_tokens: Literal[0]


class ServerUsageAnswer(BaseModel, extra="allow"):
    """Calls of tools that the server ran, by tool."""

    web_search_requests: int


class UsageAnswer(BaseModel):
    """Tokens of a message. Those read from the prompt's cache and those put into it are counted separately from
    `input_tokens` if the request asked for a cache."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    cache_creation: CacheCreationAnswer
    output_tokens: int
    output_tokens_details: OutputDetailsAnswer
    server_tool_use: ServerUsageAnswer | None
    service_tier: Literal["standard", "batch"]
    speed: Literal["standard"]
    inference_geo: Literal["not_available"]


class MessageAnswer(BaseModel):
    """A message. With `stream` it comes as events: message_start, content_block_start, content_block_delta,
    content_block_stop, message_delta, message_stop, ping and error."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[Annotated[TextAnswer | CallAnswer | ServerBlock, Field(discriminator="type")]]
    stop_reason: Literal[
        "end_turn", "stop_sequence", "max_tokens", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded"
    ]
    stop_sequence: str | None
    stop_details: dict[str, Any] | None
    usage: UsageAnswer
    standing: StandingNote | None = None


class CountAnswer(BaseModel):
    """Tokens of a prompt."""

    input_tokens: int


class CompletionAnswer(BaseModel):
    """A completion of 2023. Version 2023-01-01 has no `type` and `id`, and has `truncated` and `exception`."""

    type: Literal["completion"] = "completion"
    id: str = ""
    completion: str
    stop_reason: Literal["stop_sequence", "max_tokens"] | None
    model: str
    stop: str | None
    log_id: str
    truncated: bool = False
    exception: str | None = None
    standing: StandingNote | None = None


class CountsAnswer(BaseModel):
    """How many requests of a batch are in each state."""

    processing: int
    succeeded: int
    errored: int
    canceled: int
    expired: int


class BatchAnswer(BaseModel):
    """A batch."""

    id: str
    type: Literal["message_batch"]
    processing_status: Literal["in_progress", "canceling", "ended"]
    request_counts: CountsAnswer
    created_at: str
    expires_at: str
    ended_at: str | None
    cancel_initiated_at: str | None
    archived_at: str | None
    results_url: str | None


class BatchesAnswer(BaseModel):
    """A page of batches, the newest first."""

    data: list[BatchAnswer]
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedBatchAnswer(BaseModel):
    """A deleted batch."""

    id: str
    type: Literal["message_batch_deleted"]


class FileAnswer(BaseModel):
    """An uploaded file."""

    id: str
    type: Literal["file"]
    filename: str
    mime_type: str
    size_bytes: int
    created_at: str
    expires_at: str | None
    downloadable: bool


class FilesAnswer(BaseModel):
    """A page of files, the newest first."""

    data: list[FileAnswer]
    has_more: bool
    first_id: str | None
    last_id: str | None
    next_page: str | None


class DeletedFileAnswer(BaseModel):
    """A deleted file."""

    id: str
    type: Literal["file_deleted"]


class ModelAnswer(BaseModel):
    """A model in Anthropic's shape; `charter`: its registry entry."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active", "deprecated", "retired"]
    max_input_tokens: int
    max_tokens: int
    capabilities: dict[str, dict[str, Any]]
    line: None
    deprecated_at: str | None
    retires_at: str | None
    charter: dict[str, Any]


class OpenAIModelAnswer(BaseModel):
    """A model in OpenAI's shape, for programs that send no header of Anthropic's."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int


class ModelsAnswer(BaseModel):
    """Models; Anthropic's shape has the ids, OpenAI's has `object`."""

    data: list[ModelAnswer | OpenAIModelAnswer]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None
    object: Literal["list"] = "list"


class AnyModelAnswer(BaseModel):
    """A model in either shape."""

    id: str
    type: Literal["model"] = "model"
    object: Literal["model"] = "model"


class OpenAIUsageAnswer(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]


class ChoicesAnswer(BaseModel):
    """The common part of answers in OpenAI's shape."""

    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: OpenAIUsageAnswer
    system_fingerprint: str | None = None
    standing: StandingNote | None = None


class ChatAnswer(ChoicesAnswer):
    """An answer to a conversation. With `stream` it comes as chunks, and [DONE] at the end."""

    object: Literal["chat.completion"]


class CompletionsAnswer(ChoicesAnswer):
    """Text that continues a prompt. With `stream` it comes as chunks, and [DONE] at the end."""

    object: Literal["text_completion"]


class TokensAnswer(BaseModel):
    """The ids of a text."""

    count: int
    max_model_len: int
    tokens: list[int]


class PromptAnswer(BaseModel):
    """The text of ids."""

    prompt: str


def rfc3339(seconds: float | None) -> str | None:
    """Seconds since 1970 in RFC 3339, UTC, to the second; None for no time."""
    if seconds is None:
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(microsecond=0)
    return moment.isoformat().replace("+00:00", "Z")
