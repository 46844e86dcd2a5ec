"""Content blocks in Anthropic's shape."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from charter_service.api.wire.offered import CALLER, TOOLSET, TRANSFORMATIONS
from charter_service.api.wire.server_blocks import ServerBlock

BETWEEN = "\n\n"  # blocks of text
ID = r"^[a-zA-Z0-9_-]{1,200}$"


class Strict(BaseModel):
    """JSON without conversions and without unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Strict):
    """Data about a request."""

    user_id: str | None = Field(None, max_length=256, description="your id of the end user; stored as a digest")


class CacheControl(Strict):
    """A mark for the prompt's cache. Ours holds what was read until it needs the room, with and without marks."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class Marked(Strict):
    """A block that may have a mark for the prompt's cache."""

    cache_control: CacheControl | None = None


class Citations(Strict):
    """Whether passages that a reply quotes from a source are cited."""

    enabled: bool = False


class TextBlock(Marked):
    """Text."""

    type: Literal["text"]
    text: str
    citations: Any = None


class ImageBlock(Marked):
    """An image, which no model here reads."""

    type: Literal["image"]
    source: dict[str, Any]
    transformations: Annotated[Any, AfterValidator(TRANSFORMATIONS.check)] = None


def _as_blocks(content: Any) -> Any:
    """A text stands for one text block, an empty one for none."""
    if not isinstance(content, str):
        return content
    return [{"type": "text", "text": content}] if content else []


Parts = Annotated[list[TextBlock], BeforeValidator(_as_blocks, json_schema_input_type=str | list[TextBlock])]
_Shown = Annotated[TextBlock | ImageBlock, Field(discriminator="type")]
ShownParts = Annotated[list[_Shown], BeforeValidator(_as_blocks, json_schema_input_type=str | list[_Shown])]


class PlainSource(Strict):
    """A document's text."""

    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: str


class PartsSource(Strict):
    """A document in blocks."""

    type: Literal["content"]
    content: ShownParts


class EncodedSource(Strict):
    """A document as the bytes of a file in base64, of any kind that can be read."""

    type: Literal["base64"]
    media_type: str
    data: str


class LinkedSource(Strict):
    """A document elsewhere, which isn't fetched."""

    type: Literal["url"]
    url: str


class FileSource(Strict):
    """An uploaded document: the id of a file of /v1/files."""

    type: Literal["file"]
    file_id: str


_Source = Annotated[PlainSource | PartsSource | EncodedSource | LinkedSource | FileSource, Field(discriminator="type")]


class DocumentBlock(Marked):
    """A document with its title and context."""

    type: Literal["document"]
    source: _Source
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None


class SearchResultBlock(Marked):
    """A search result: a passage and its source."""

    type: Literal["search_result"]
    source: str
    title: str
    content: list[TextBlock]
    citations: Citations | None = None


class ThinkingBlock(Strict):
    """A model's thinking in an earlier turn; the model doesn't see it again."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class HiddenThinkingBlock(Strict):
    """The same, encrypted."""

    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(Marked):
    """A call that the model made."""

    type: Literal["tool_use"]
    id: str = Field(pattern=ID)
    name: str = Field(min_length=1, max_length=200)
    input: dict[str, Any]
    caller: Annotated[Any, AfterValidator(CALLER.check)] = None
    toolset_name: Annotated[Any, AfterValidator(TOOLSET.check)] = None


_Result = Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]


class ToolResultBlock(Marked):
    """The result of a tool."""

    type: Literal["tool_result"]
    tool_use_id: str = Field(pattern=ID)
    content: Annotated[list[_Result], BeforeValidator(_as_blocks, json_schema_input_type=str | list[_Result])] = []
    is_error: bool = False
    toolset_name: Annotated[Any, AfterValidator(TOOLSET.check)] = None


Block = Annotated[
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ThinkingBlock
    | HiddenThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | ServerBlock,
    Field(discriminator="type"),
]


class Turn(Strict):
    """A message of the conversation; a text as content stands for one text block."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[list[Block], BeforeValidator(_as_blocks, json_schema_input_type=str | list[Block])]
