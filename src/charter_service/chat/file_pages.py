"""A file to look at: its text as a page, with its pages and a passage marked, and its bytes as a download."""

from __future__ import annotations

from starlette.responses import FileResponse, Response

from charter.ground.documents.document import Document
from charter_service.chat.attached import document_of, file_of
from charter_service.chat.site import Visit, show, whole
from charter_service.web.database import reading
from charter_service.web.refusal import NotFound

SHOWN = 400_000  # characters of a file on one page
SANDBOX = "default-src 'none'; sandbox"
Piece = tuple[str, str | int]


def text_page(visit: Visit) -> Response:
    """The text of a file as a model reads it, with its pages marked, and a passage if the address names one."""
    with reading(visit.service.database) as connection:
        file = file_of(connection, visit.person, visit.id)
        document = document_of(connection, file)
    asked = visit.request.query_params
    start, end = whole(asked.get("from", "")), whole(asked.get("to", ""))
    if not start < end <= len(document.text):
        start = end = 0
    page = min(whole(asked.get("page", "")), len(document.pages))
    first = start if end else document.pages[page - 1] if page else SHOWN * whole(asked.get("part", ""))
    part = min(first, max(0, len(document.text) - 1)) // SHOWN
    begin, stop = part * SHOWN, max(end, (part + 1) * SHOWN)
    return show(
        visit,
        "text",
        file.name,
        file=file,
        pieces=pieces_of(document, begin, min(stop, len(document.text)), (start, end)),
        part=part,
        count=-(-len(document.text) // SHOWN),
        passage=document.page_of(start) if end else None,
        original=visit.service.files.store.place(file.blob).is_file(),
    )


def pieces_of(document: Document, begin: int, stop: int, passage: tuple[int, int]) -> list[Piece]:
    """A part of a document's text for its page: ("page", number), ("text", words), ("passage", words)."""
    cuts = {begin, stop, *(place for place in (*document.pages, *passage) if begin < place < stop)}
    numbers = {place: number for number, place in enumerate(document.pages, 1)}
    pieces, order = list[Piece](), sorted(cuts)
    for here, following in zip(order, [*order[1:], stop], strict=True):
        if here in numbers:
            pieces.append(("page", numbers[here]))
        if here < following:
            kind = "passage" if passage[0] <= here < passage[1] else "text"
            pieces.append((kind, document.text[here:following]))
    return pieces


def original(visit: Visit) -> Response:
    """The bytes of a file as a download, which no browser opens as a page of this service."""
    with reading(visit.service.database) as connection:
        file = file_of(connection, visit.person, visit.id)
    place = visit.service.files.store.place(file.blob)
    if not place.is_file():
        raise NotFound(f"the bytes of {file.name} are not kept here; its text is")
    return FileResponse(
        place,
        media_type="application/octet-stream",
        filename=file.name,
        content_disposition_type="attachment",
        headers={"content-security-policy": SANDBOX},
    )
