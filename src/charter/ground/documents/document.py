"""A document: a file of a stranger as the text that a model reads, with its pages; and the limits of reading it."""

import bisect
import unicodedata
from dataclasses import dataclass

from pydantic import Field

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.frozen import Frozen

READABLE = "text, Markdown, code, CSV, JSON, HTML, PDF, DOCX, XLSX, PPTX, ODT, ODS, EPUB and RTF"
_LONGEST_NAME = 200  # characters


class Unreadable(CharterError):
    """A file that can't be read as a document; one plain sentence says what was wrong and what to do."""


class Limits(Frozen):
    """What one file may hold, and what reading it may take. The last three hold for formats that are parsed."""

    file_mb: int = Field(10, ge=1, description="MiB of a file")
    unpacked_mb: int = Field(100, ge=1, description="MiB of all members of a packed format together")
    ratio: int = Field(100, ge=1, description="times that a member may be larger than it is packed")
    members: int = Field(10_000, ge=1, description="members of a packed format")
    pages: int = Field(2_000, ge=1, description="pages or slides")
    characters: int = Field(5_000_000, ge=1, description="characters of text")
    seconds: float = Field(20.0, gt=0, description="seconds of wall clock that parsing may take")
    memory_mb: int = Field(1024, ge=128, description="MiB of memory that parsing may take")


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read."""

    name: str  # as sent, without folders and control characters
    kind: str  # text, markdown, code, csv, json, html, pdf, docx, xlsx, pptx, odt, ods, epub or rtf
    size: int  # bytes
    sha256: str  # of the bytes
    text: str  # what a model reads: whole, never cut; without NUL and lone surrogates
    pages: tuple[int, ...] = ()  # where in `text` page k + 1 begins; empty if the format has no pages

    def page_of(self, offset: int) -> int | None:
        """The page, counted from 1, on which a character of `text` stands; None if there are no pages."""
        return max(1, bisect.bisect_right(self.pages, offset)) if self.pages else None


def clean_name(name: str) -> str:
    """A file's name without folders, control characters, invisible ones and lone surrogates, at most 200 long with
    its ending kept; "file" if nothing is left."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    visible = "".join(char for char in last if unicodedata.category(char)[0] != "C")
    visible = " ".join(unicodedata.normalize("NFC", visible).split())
    if len(visible) > _LONGEST_NAME:
        stem, dot, ending = visible.rpartition(".")
        end = f"{dot}{ending}" if stem and len(ending) <= 10 else ""
        visible = visible[: _LONGEST_NAME - len(end)] + end
    return visible if visible.strip(". ") else "file"
