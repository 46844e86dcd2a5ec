"""Batches: the examined documents of one piece of the input, in one file that is whole or absent.

A file is an .npz without pickle. It has one array for each fact, with an entry for each kept document; the texts end
to end, as one zstandard frame; and a JSON object with counts, faults and examples of dropped documents.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from charter.ground.artifact.store import atomic_write

ENDING = ".npz"
_LEVEL = 1


@dataclass(frozen=True)
class Document:
    """A kept document. year: 0 if unknown; fingerprint: 16 bytes; signature: [permutations, or 0] uint32."""

    text: str
    language: str
    year: int
    words: int
    fingerprint: bytes
    signature: npt.NDArray[np.uint32]


def write_batch(
    path: Path, source: int, documents: Sequence[Document], facts: Mapping[str, object], width: int
) -> None:
    """Writes a batch; `width` is the length of a signature."""
    languages = sorted({document.language for document in documents})
    place = {code: number for number, code in enumerate(languages)}
    texts = [document.text.encode("utf-8") for document in documents]
    count = len(documents)
    head = json.dumps({**facts, "source": source, "languages": languages}).encode("utf-8")
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join(texts))
    file = io.BytesIO()
    np.savez(
        file,
        head=np.frombuffer(head, np.uint8),
        texts=np.frombuffer(packed, np.uint8),
        bytes=np.array([len(text) for text in texts], np.uint32),
        language=np.array([place[document.language] for document in documents], np.uint16),
        year=np.array([document.year for document in documents], np.uint16),
        words=np.array([document.words for document in documents], np.uint32),
        fingerprint=np.frombuffer(b"".join(d.fingerprint for d in documents), "V16"),
        signature=np.array([d.signature for d in documents], np.uint32).reshape(count, width),
    )
    atomic_write(path, file.getvalue())


class Batch:
    """A batch file; arrays are read on demand."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as archive:
            head = json.loads(archive["head"].tobytes())
            self.bytes: npt.NDArray[np.uint32] = archive["bytes"]
        self.path = path
        self.source: int = head.pop("source")
        self.languages: list[str] = head.pop("languages")
        self.facts: dict[str, Any] = head

    def __len__(self) -> int:
        return len(self.bytes)

    def array(self, name: str) -> npt.NDArray[Any]:
        """One fact of all documents: language (an index into `languages`), year, words, fingerprint, signature."""
        with np.load(self.path, allow_pickle=False) as archive:
            array: npt.NDArray[Any] = archive[name]
        return array

    @cached_property
    def _text(self) -> bytes:
        return zstandard.ZstdDecompressor().decompress(self.array("texts").tobytes())

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum(self.bytes, dtype=np.int64)

    def text(self, number: int) -> str:
        """The text of a document."""
        end = int(self._ends[number])
        return self._text[end - int(self.bytes[number]) : end].decode("utf-8")
