"""Search over a folder of documents: an index of passages (SQLite's FTS5), ranked by BM25.

The index follows the folder: a search first looks, at most every two seconds, which files are new, changed or gone.
While one search brings the index up to date, others use it as it is. Links are not followed, whatever takes a file's
place, and what isn't a plain file is passed over.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.documents.document import Document
from charter.ground.documents.reading import read_document
from charter_service.tools.tool import Domains, ToolFailure, one_text, text_of

AGAIN_SECONDS = 2.0  # between two looks at the folder
MOST_FILES = 20_000
LARGEST_FILE = 10_000_000  # bytes
PASSAGE = 700  # characters of a passage, about 150 words
LONGEST_QUERY, MOST_WORDS = 400, 32
BUSY_MS = 5000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, changed INTEGER NOT NULL, size INTEGER NOT NULL,
    unread TEXT NOT NULL
);
CREATE VIRTUAL TABLE IF NOT EXISTS passages USING fts5(
    name, text, file UNINDEXED, page UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2'
);
"""


def read_bytes(folder: Path, name: str, most: int) -> bytes:
    """The bytes of a plain file, reached from the folder without a link. Raises CharterError if it is larger than
    `most` bytes, and OSError."""
    *places, last = Path(name).parts
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in places:
            within = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = within
        file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
    finally:
        os.close(place)
    with os.fdopen(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise CharterError("it is not a plain file")
        data = stream.read(most + 1)
    if len(data) > most:
        raise CharterError(f"it has over {most:,} bytes")
    return data


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage: its file's name below the folder, its page if the format has pages, and its score, higher is
    better."""

    file: str
    page: int | None
    score: float
    text: str


class DocumentIndex:
    """The index of one folder. Its methods may be called from any thread."""

    def __init__(self, folder: Path, index: Path) -> None:
        """Raises CharterError if the folder or the index can't be opened."""
        self._folder, self._index = folder.resolve(), index
        if not self._folder.is_dir():
            raise CharterError(f"tools.documents.folder: {folder} is not a folder; name one with documents")
        if index.resolve().is_relative_to(self._folder):
            raise CharterError(f"tools.documents.index: {index} lies in the folder of documents; put it elsewhere")
        self._updating, self._looked = threading.Lock(), -AGAIN_SECONDS
        try:
            with closing(self._connect()) as connection:
                connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise CharterError(
                f"tools.documents.index: {index} can't be used ({error}); name another file, or delete this one"
            ) from None

    def search(self, query: str, most: int) -> list[Passage]:
        """The best passages for the words of a query, any of which may match. Raises ToolFailure."""
        words = list(dict.fromkeys(re.findall(r"[^\W_]+", query)))[:MOST_WORDS]
        if not words:
            raise ToolFailure("invalid_tool_input", "the query has no words to search for")
        match = " OR ".join(f'"{word}"' for word in words)
        try:
            self.update()
            with closing(self._connect()) as connection:
                rows = connection.execute(
                    "SELECT name, page, bm25(passages, 2.0, 1.0) AS score, text FROM passages WHERE passages MATCH ? "
                    "ORDER BY score, rowid LIMIT ?",
                    (match, most),
                ).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise ToolFailure("unavailable", f"the index can't be read now ({type(error).__name__})") from None
        return [Passage(name, page, float(f"{-score:.4g}"), text) for name, page, score, text in rows]

    def update(self) -> None:
        """Brings the index up to date, unless another thread does or it was done just now."""
        if time.monotonic() - self._looked < AGAIN_SECONDS or not self._updating.acquire(blocking=False):
            return
        try:
            self.follow()
            self._looked = time.monotonic()
        finally:
            self._updating.release()

    def follow(self) -> None:
        """Reads new and changed files, and forgets those that are gone. Each file is one transaction."""
        with closing(self._connect()) as connection:
            indexed = {
                name: (id, changed, size)
                for id, name, changed, size in connection.execute("SELECT id, name, changed, size FROM files")
            }
            for name, facts in _files(self._folder):
                id, *before = indexed.pop(name, (None, 0, 0))
                if tuple(before) != facts or id is None:
                    self._read(connection, name, facts, id)
            for id, *_ in indexed.values():
                with connection:
                    _forget(connection, id)

    def unread(self) -> dict[str, str]:
        """Why files are not in the index, by name."""
        with closing(self._connect()) as connection:
            return dict(connection.execute("SELECT name, unread FROM files WHERE unread != ''").fetchall())

    def _read(self, connection: sqlite3.Connection, name: str, facts: tuple[int, int], id: int | None) -> None:
        document, problem = None, ""
        try:
            document = read_document(read_bytes(self._folder, name, LARGEST_FILE), name)
        except CharterError as error:
            problem = str(error)
        except OSError as error:
            problem = f"it can't be read: {error.strerror}"
        with connection:
            if id is not None:
                _forget(connection, id)
            number = connection.execute(
                "INSERT INTO files(name, changed, size, unread) VALUES (?, ?, ?, ?)", (name, *facts, problem)
            ).lastrowid
            if document is not None:
                rows = [(name, text, number, page) for text, page in cut(document)]
                connection.executemany("INSERT INTO passages(name, text, file, page) VALUES (?, ?, ?, ?)", rows)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._index, timeout=BUSY_MS / 1000)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # the index can be made again
        return connection


def _forget(connection: sqlite3.Connection, file: int) -> None:
    connection.execute("DELETE FROM passages WHERE file = ?", (file,))
    connection.execute("DELETE FROM files WHERE id = ?", (file,))


def _files(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """The plain files below a folder, without hidden ones: name, and time of change (ns) and size."""
    count = 0
    for place, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(folder_name for folder_name in folders if not folder_name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            try:
                facts = path.lstat()
                relative = path.relative_to(folder).as_posix()
                relative.encode()
            except (OSError, UnicodeEncodeError):
                continue
            if name.startswith(".") or not stat.S_ISREG(facts.st_mode):
                continue
            count += 1
            if count > MOST_FILES:
                return
            yield relative, (facts.st_mtime_ns, facts.st_size)


def cut(document: Document) -> Iterator[tuple[str, int | None]]:
    """Passages of a text, cut between paragraphs, else between lines, sentences or words, with their pages."""
    text, at = document.text, 0
    while at < len(text):
        end = min(len(text), at + PASSAGE)
        if end < len(text):
            window = text[at:end]
            ends = (window.rfind(mark) + len(mark) for mark in ("\n\n", "\n", ". ", " "))
            end = at + next((place for place in ends if place > PASSAGE // 3), PASSAGE)
        if passage := text[at:end].strip():
            begin = at + len(text[at:end]) - len(text[at:end].lstrip())
            yield passage, document.page_of(begin)
        at = end


class DocumentSearch:
    """The tool."""

    name, kind = "document_search", "document_search_20261201"
    description = (
        "Searches the documents of this place by words, and gives the best passages with file and page. Answer from "
        "the passages, and name the file."
    )
    schema = one_text("query", "words that the passage holds", LONGEST_QUERY)

    def __init__(self, index: DocumentIndex, passages: int) -> None:
        self.index, self._passages = index, passages

    def run(self, arguments: Mapping[str, Any], _: Domains) -> list[dict[str, Any]]:
        """Passages, the best first."""
        passages = self.index.search(text_of(arguments, "query", LONGEST_QUERY), self._passages)
        return [
            {"type": "document_search_result", "file": p.file, "page": p.page, "score": p.score, "text": p.text}
            for p in passages
        ]
