"""The documents of a request: files and base64 sources are read before the prompt is written, and stand in it whole.
Their text depends on them alone, so that the next question finds the prompt's beginning in the cache. Those that may be
cited are collected on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from charter.ground.documents.document import Document, Unreadable
from charter_service.accounts.files import File
from charter_service.api.errors import ApiError, invalid
from charter_service.api.model_request import Call
from charter_service.api.service import Service
from charter_service.api.telling import standing_headers
from charter_service.api.wire.citations import BETWEEN, Citable, Source
from charter_service.api.wire.content import (
    DocumentBlock,
    EncodedSource,
    FileSource,
    LinkedSource,
    PartsSource,
    PlainSource,
    SearchResultBlock,
    TextBlock,
    ToolResultBlock,
)
from charter_service.api.wire.messages_body import CountBody
from charter_service.web.refusal import NotFound

MOST_READ = 100  # documents of one request that are read from files or base64
MOST_CHARACTERS = 2**25  # of them together, as many as a body could hold as text
OFFICE = "application/vnd.openxmlformats-officedocument."
OPEN = "application/vnd.oasis.opendocument."
KINDS = {  # by media type; the ending tells the reader the kind of a plain text
    "application/pdf": "pdf",
    f"{OFFICE}wordprocessingml.document": "docx",
    f"{OFFICE}spreadsheetml.sheet": "xlsx",
    f"{OFFICE}presentationml.presentation": "pptx",
    f"{OPEN}text": "odt",
    f"{OPEN}spreadsheet": "ods",
    "application/epub+zip": "epub",
    "application/rtf": "rtf",
    "text/rtf": "rtf",
    "text/html": "html",
    "text/markdown": "md",
    "text/csv": "csv",
    "application/json": "json",
    "text/plain": "txt",
}
PLAIN = {"text", "markdown", "code", "csv", "json", "html"}  # the kinds of plain text

Block = DocumentBlock | SearchResultBlock


@dataclass(frozen=True, slots=True)
class Read:
    """A document that was read, and its file if it was uploaded."""

    document: Document
    file: File | None = None


async def read_sources(service: Service, call: Call, body: CountBody) -> Citable | None:
    """Reads the documents of a body, whose blocks then have their text. The sources of citations, None if none are
    enabled. Raises ApiError, naming the block, for what can't be read."""
    blocks = list(_blocks(body))
    if not blocks:
        return None
    wants = _wants_citations(blocks)
    to_read = [block for _, block in blocks if isinstance(block, DocumentBlock) and _is_encoded(block)]
    if len(to_read) > MOST_READ:
        raise invalid(f"messages: at most {MOST_READ} documents to read, found {len(to_read):,}", "messages")
    if to_read:
        standing = await service.find_standing(call)
        if standing.blocked:  # before any work for it
            raise ApiError(403, standing.message, headers=standing_headers(standing))
    texts, characters = dict[int, Read](), 0
    for at, block in blocks:
        if isinstance(block, DocumentBlock) and (document_read := await _read(service, call, at, block)) is not None:
            texts[id(block)] = document_read
            if (characters := characters + len(document_read.document.text)) > MOST_CHARACTERS:
                raise invalid(
                    f"{at}.source: the documents up to this one have {characters:,} characters, "
                    f"{MOST_CHARACTERS:,} are allowed in one request",
                    "messages",
                )
            text = document_read.document.text
            block.source = PlainSource.model_construct(type="text", media_type="text/plain", data=text)
    if not wants:
        return None
    return await service.aside(call.caller, lambda: Citable(_sources(blocks, texts)), call.background)


def _blocks(body: CountBody) -> Iterator[tuple[str, Block]]:
    """All documents and search results in their order, with their places."""
    for number, turn in enumerate(body.messages):
        for place, block in enumerate(turn.content):
            at = f"messages.{number}.content.{place}"
            if isinstance(block, ToolResultBlock):
                for inner, part in enumerate(block.content):
                    if isinstance(part, DocumentBlock | SearchResultBlock):
                        yield f"{at}.content.{inner}", part
            elif isinstance(block, DocumentBlock | SearchResultBlock):
                yield at, block


def _wants_citations(blocks: list[tuple[str, Block]]) -> bool:
    """Raises ApiError if citations are enabled for some only, as Anthropic's API does."""
    enabled = [block.citations is not None and block.citations.enabled for _, block in blocks]
    if any(enabled) and not all(enabled):
        raise invalid(
            f"{blocks[enabled.index(False)][0]}.citations: citations are enabled for some documents and search "
            "results, and not for this one; enable them for all or for none",
            "messages",
        )
    return any(enabled)


def _is_encoded(block: DocumentBlock) -> bool:
    return isinstance(block.source, EncodedSource | FileSource)


async def _read(service: Service, call: Call, at: str, block: DocumentBlock) -> Read | None:
    """The document of a block; None if its source is text."""
    source, whose, behind = block.source, call.caller, call.background
    try:
        if isinstance(source, FileSource):
            file, document = await service.texts.of_file(whose, source.file_id, behind)
            return Read(document, file)
        if isinstance(source, EncodedSource):
            ending = _ending(source.media_type)
            document = await service.texts.of_text(whose, source.data, f"document.{ending}", behind)
            _check_kind(source.media_type, ending, document)
            return Read(document)
        if isinstance(source, LinkedSource):
            raise invalid(
                "this server fetches nothing from elsewhere, so a source of type url can't be read; send the document "
                "as base64 or text, or upload it to /v1/files"
            )
    except NotFound as error:
        raise ApiError(404, f"{at}.source: {error}", param="messages") from None
    except (ApiError, Unreadable) as error:
        status = error.status if isinstance(error, ApiError) else 400
        raise ApiError(status, f"{at}.source: {error}", param="messages") from None
    return None


def _ending(media_type: str) -> str:
    plain = media_type.partition(";")[0].strip().lower()
    kind = KINDS.get(plain) or ("txt" if plain.startswith("text/") else None)
    if kind is None:
        raise invalid(f"media_type {media_type[:80]!r} can't be read; expected one of {', '.join(KINDS)}")
    return kind


def _check_kind(media_type: str, ending: str, document: Document) -> None:
    """Raises ApiError if the bytes are of another kind than their media type says: the request is mistaken then."""
    binary = ending in KINDS.values() and ending not in ("txt", "md", "csv", "json", "html")
    if document.kind != ending if binary else document.kind not in PLAIN:
        raise invalid(
            f"media_type says {media_type[:80]}, but the bytes are {document.kind}; send the right media_type"
        )


def _sources(blocks: list[tuple[str, Block]], texts: dict[int, Read]) -> list[Source]:
    sources, results, documents = list[Source](), 0, 0
    for _, block in blocks:
        if isinstance(block, SearchResultBlock):
            text, starts = _joined([part.text for part in block.content])
            sources.append(Source(results, _plain(text), block.title, starts, origin=block.source))
            results += 1
            continue
        document_read, source = texts.get(id(block)), block.source
        if document_read is not None:
            file_id = document_read.file.id if document_read.file else None
            sources.append(Source(documents, document_read.document, block.title, file_id=file_id))
        elif isinstance(source, PlainSource):
            sources.append(Source(documents, _plain(source.data), block.title))
        elif isinstance(source, PartsSource):
            text, starts = _joined([part.text if isinstance(part, TextBlock) else "" for part in source.content])
            sources.append(Source(documents, _plain(text), block.title, starts))
        documents += 1
    return sources


def _joined(parts: list[str]) -> tuple[str, tuple[int, ...]]:
    """Blocks as one text, and where each begins in it."""
    starts, place = list[int](), 0
    for part in parts:
        starts.append(place)
        place += len(part) + len(BETWEEN)
    return BETWEEN.join(parts), tuple(starts)


def _plain(text: str) -> Document:
    return Document("", "text", len(text), "", text)
