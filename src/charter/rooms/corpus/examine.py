"""Examines one raw record: it becomes a kept document, or it is dropped for exactly one reason.

The order: bytes, text, normal form, date, language, length, quality, benchmarks, personal data. Personal data comes
last because a placeholder would hide a test item. Copies are found later, among the kept documents: a document with
test items must not replace its clean copy. Everything depends only on the record and the settings, so batches can be
examined anywhere and in any order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from charter.ground.settings.texts import DETECT, PROGRAM, DateField, Period, TextSource, is_after, period
from charter.ground.text.privacy import scrub
from charter.ground.text.shingles import word_hashes
from charter.rooms.corpus.batch import Document, write_batch
from charter.rooms.corpus.decontamination import Decontamination
from charter.rooms.corpus.duplicates import fingerprint, signature
from charter.rooms.corpus.language import UNDETERMINED, detect
from charter.rooms.corpus.plaintext import normal_form, page_text
from charter.rooms.corpus.quality import problem
from charter.rooms.corpus.reading import Record
from charter.rooms.corpus.settings import Settings

# faults of the input itself: each is listed with its file and line
FAULTS = frozenset(
    {
        *("binary", "damaged", "unreadable", "empty", "too_large"),
        *("broken_utf8", "broken_row", "no_text", "broken_date"),
    }
)
_EXAMPLES, _EXCERPT = 2, 400  # examples of each reason in a batch, and characters of each
_SCRUBBED = 1 << 14  # characters scrubbed before an excerpt is cut, so that it can't end in half an address
_NAMES, _NAME = 12, 40  # columns in a message, and characters of each


@dataclass(frozen=True)
class Piece:
    """Records of one source that are examined together. `number`: of the source; `disk`: bytes of files read for
    them."""

    path: Path
    number: int
    source: TextSource
    records: tuple[Record, ...]
    disk: int


class Dropped(Exception):
    """A dropped record, with the reason's name and details."""

    def __init__(self, reason: str, detail: str = "", text: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail, self.text = reason, detail, text


@dataclass
class Tally:
    """The counts of a batch. All but faults and examples are added up over batches."""

    read: int = 0
    read_bytes: int = 0
    rows: int = 0
    undated_rows: int = 0  # without the manifest's column of dates
    columns: list[str] = field(default_factory=list)  # of one row without dates
    replaced: int = 0  # documents in which invalid UTF-8 became U+FFFD
    dropped: Counter[str] = field(default_factory=Counter)
    personal: Counter[str] = field(default_factory=Counter)  # placeholders by kind, before copies are found
    personal_documents: int = 0
    contaminated: Counter[str] = field(default_factory=Counter)  # documents by benchmark file
    faults: list[dict[str, Any]] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)


class Examiner:
    """Examines pieces with one room's settings; `benchmarks` is the folder of a saved Decontamination."""

    def __init__(self, settings: Settings, benchmarks: Path, seed: int) -> None:
        self.settings = settings
        # the length of a signature; 0 without a search for near copies
        self.width = settings.filters.permutations if settings.filters.near else 0
        self.cutoff: Period | None = settings.cutoff()
        self.seed = seed
        self.benchmarks = Decontamination.open(benchmarks)

    def __call__(self, piece: Piece) -> int:
        """Writes the batch of a piece. Returns the bytes read."""
        tally, documents = Tally(), []
        for record in piece.records:
            tally.read += 1
            tally.read_bytes += record.size
            try:
                documents.append(self._document(record, piece.source, tally))
            except Dropped as dropped:
                self._drop(dropped, record, piece.source, tally)
        write_batch(piece.path, piece.number, documents, vars(tally), self.width)
        return tally.read_bytes

    def _document(self, record: Record, source: TextSource, tally: Tally) -> Document:
        if record.fault:
            raise Dropped(record.fault, record.detail)
        raw, date_text = self._raw(record, source, tally)
        text = normal_form(raw)
        if not text:
            raise Dropped("empty", "it holds no text")
        date = self._check_date(date_text, text)
        words = sum(len(block) for block in word_hashes(text))
        language = self._language(text, source)
        filters = self.settings.filters
        if filters.languages and language not in filters.languages:
            raise Dropped("language", language, text)
        if not words:
            raise Dropped("no_words", "", text)
        kind = "code" if source.kind == "code" else "prose"
        if filters.quality and (reason := problem(text, kind, filters.quality, language)):
            raise Dropped(reason, "", text)
        hits = sorted({name.rpartition(":")[0] for name in self.benchmarks.hits(text)})
        if hits:
            tally.contaminated.update(hits)
            raise Dropped("contaminated", ", ".join(hits), text)
        text, personal = scrub(text) if filters.scrub else (text, Counter[str]())
        tally.personal.update(personal)
        tally.personal_documents += bool(personal)
        minhash = signature(text, self.width, self.seed) if self.width else np.zeros(0, np.uint32)
        year = date.first.year if date else 0
        return Document(text, language, year, words, fingerprint(text), minhash)

    def _raw(self, record: Record, source: TextSource, tally: Tally) -> tuple[str, str]:
        """(text, written date) of a record."""
        try:
            decoded = record.data.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.settings.reading.broken_utf8 == "refuse":
                raise Dropped("broken_utf8", _no_utf8(error.start)) from None
            decoded = record.data.decode("utf-8", "replace")
            tally.replaced += 1
        date = source.date
        if record.form in ("rows", "parquet"):
            row = _row(decoded)
            tally.rows += 1
            if isinstance(date, DateField) and date.field not in row:
                tally.undated_rows += 1
                tally.columns = _columns(row)
            text = row.get(source.text)
            if not isinstance(text, str):
                raise Dropped("no_text", _without_text(row, source.text))
            value = row.get(date.field) if isinstance(date, DateField) else date
            return text, "" if value is None else str(value)
        text = page_text(decoded) if record.form == "page" else decoded
        return text, "" if isinstance(date, DateField) else date

    def _check_date(self, date_text: str, text: str) -> Period | None:
        """The date of a document. Raises Dropped if the cut-off excludes it."""
        try:
            date = period(date_text) if date_text else None
        except ValueError:
            if self.cutoff is not None:
                raise Dropped("broken_date", f"{date_text[:40]!r} is not a date") from None
            return None
        if self.cutoff is None:
            return date
        if date is None and self.settings.filters.undated == "drop":
            raise Dropped("undated", "", text)
        if date is not None and is_after(date, self.cutoff):
            raise Dropped("after_cutoff", date_text, text)
        return date

    def _language(self, text: str, source: TextSource) -> str:
        if source.language != DETECT:
            return source.language
        return PROGRAM if source.kind == "code" else detect(text)[0] or UNDETERMINED

    def _drop(self, dropped: Dropped, record: Record, source: TextSource, tally: Tally) -> None:
        """Counts a dropped record. Lists every fault, and some examples of other reasons."""
        count = tally.dropped[dropped.reason]
        tally.dropped[dropped.reason] += 1
        about = {
            "reason": dropped.reason,
            "source": source.name,
            "file": record.file,
            "line": record.line,
            "detail": dropped.detail,
        }
        if dropped.reason in FAULTS:
            tally.faults.append(about)
        elif count < _EXAMPLES:
            excerpt = scrub(dropped.text[:_SCRUBBED])[0][:_EXCERPT]
            tally.examples.append({**about, "text": excerpt})


def _row(decoded: str) -> dict[str, Any]:
    try:
        row = json.loads(decoded)
    except (ValueError, RecursionError) as error:
        raise Dropped("broken_row", f"it is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise Dropped("broken_row", f"it is a JSON {type(row).__name__}, not an object")
    if any(isinstance(text, str) and _half(text) for pair in row.items() for text in pair):
        raise Dropped("broken_utf8", "a text holds half a surrogate pair")
    return row


def _no_utf8(place: int) -> str:
    return f"it is not UTF-8 at byte {place}; convert it, or write U+FFFD there with reading.broken_utf8: replace"


def _columns(row: Mapping[str, Any]) -> list[str]:
    """The first names of a row's columns, shortened to fit a line."""
    return [name[:_NAME] for name in sorted(row)[:_NAMES]]


def _without_text(row: Mapping[str, Any], column: str) -> str:
    if column in row:
        return f"the row's {column!r} is {json.dumps(row[column])[:_NAME]}, which is not a text"
    names = ", ".join(_columns(row)) or "none"
    return f"the row has no column {column!r}; name the one that holds the text under `text` of a manifest: {names}"


def _half(text: str) -> bool:
    """Whether a text can't be encoded as UTF-8: JSON may contain half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
