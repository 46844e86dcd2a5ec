"""Token shards: a corpus as flat files of token ids, written in one pass and read by memory map.

A corpus folder holds `tokenizer.json`, `tokenizer_config.json`, `corpus.json` (the `Index`) and for each split
(`train`, `heldout`) numbered shards:

    train/00000.tokens       ids of the texts alone, end to end, little-endian uint16 or uint32; no special token
    train/00000.documents    one record of 16 bytes a document: tokens u4, source u2, language u2, bytes u8 (UTF-8)

A document lies whole in one shard. A complete shard is renamed into place, its tokens before its records. So a killed
writer can continue after the last record file.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import digest_file
from charter.ground.artifact.store import TEMPORARY, fsync_folder
from charter.ground.text.corpus_index import INDEX, Index, Shard, Split, dtype_of, read_index
from charter.ground.text.tokenizer import Tokenizer

DOCUMENT = np.dtype([("tokens", "<u4"), ("source", "<u2"), ("language", "<u2"), ("bytes", "<u8")])
SHARD_TOKENS = 1 << 25
LABELS = 1 << 16  # most sources, and most languages, in a record


def train_texts(folder: Path) -> Iterator[str]:
    """The training documents of a corpus, as text. Raises CharterError for a damaged corpus."""
    shards, tokenizer = TokenShards.open(folder, "train"), Tokenizer.from_folder(folder)
    for document in range(shards.documents):
        yield tokenizer.decode(shards.read(document).tolist())


class ShardWriter:
    """Writes the shards of one split into its folder, after the complete shards of a killed writer.

    `documents` counts the documents in complete shards: the caller adds the later ones, in the same order.
    """

    def __init__(self, folder: Path, vocab_size: int, shard_tokens: int = SHARD_TOKENS) -> None:
        self.folder = folder
        self.vocab_size = vocab_size
        self.dtype = np.dtype(dtype_of(vocab_size)).newbyteorder("<")
        self.shard_tokens = shard_tokens
        self._ids, self._records = bytearray(), bytearray()  # the bytes of the next files
        folder.mkdir(parents=True, exist_ok=True)
        self._complete = 0
        self.documents = 0
        while (records := self._place(self._complete, "documents")).is_file():
            self.documents += records.stat().st_size // DOCUMENT.itemsize
            self._complete += 1
        for stray in folder.iterdir():  # of an incomplete shard
            if stray.name.startswith(TEMPORARY) or stray == self._place(self._complete, "tokens"):
                stray.unlink()

    def add(self, ids: Sequence[int] | npt.NDArray[np.integer], size: int, source: int, language: int) -> None:
        """Appends one document of `size` bytes of UTF-8.

        Raises CharterError for a document without tokens, an id beyond the vocabulary, or a label beyond 65,535.
        """
        tokens = np.asarray(ids)
        if not len(tokens):
            raise CharterError("a document without tokens can't be stored; leave it out and count it")
        if int(tokens.min()) < 0 or int(tokens.max()) >= self.vocab_size:
            raise CharterError(
                f"ids from {int(tokens.min())} to {int(tokens.max())} go beyond the vocabulary of {self.vocab_size}; "
                "encode with the corpus's own tokenizer"
            )
        if not (0 <= source < LABELS and 0 <= language < LABELS and size >= 0):
            raise CharterError(f"source {source} or language {language} is beyond {LABELS - 1}")
        self._ids += tokens.astype(self.dtype).tobytes()
        self._records += np.array((len(tokens), source, language, size), DOCUMENT).tobytes()
        if len(self._ids) >= self.shard_tokens * self.dtype.itemsize:
            self._finish()

    def close(self) -> tuple[Shard, ...]:
        """Completes the last shard. Returns the index entries of all shards of this split."""
        if self._records:
            self._finish()
        return tuple(self._shard(number) for number in range(self._complete))

    def _finish(self) -> None:
        self._write(self._place(self._complete, "tokens"), self._ids)
        self._write(self._place(self._complete, "documents"), self._records)
        self.documents += len(self._records) // DOCUMENT.itemsize
        self._complete += 1
        self._ids, self._records = bytearray(), bytearray()

    def _shard(self, number: int) -> Shard:
        tokens, documents = (self._place(number, ending) for ending in ("tokens", "documents"))
        records = np.fromfile(documents, DOCUMENT)
        return Shard(
            name=tokens.stem,
            documents=len(records),
            tokens=int(records["tokens"].sum(dtype=np.int64)),
            bytes=int(records["bytes"].sum(dtype=np.int64)),
            tokens_sha256=digest_file(tokens),
            documents_sha256=digest_file(documents),
        )

    def _place(self, number: int, ending: str) -> Path:
        return self.folder / f"{number:05d}.{ending}"

    def _write(self, path: Path, content: bytearray) -> None:
        temporary = path.with_name(TEMPORARY + path.name)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)


class TokenShards:
    """The documents of one split of a corpus, by number. Opening checks sizes and sums; `verify` reads all bytes."""

    def __init__(self, folder: Path, split: Split, index: Index) -> None:
        """folder: of the corpus; index: its corpus.json. Raises CharterError if the files don't fit the index."""
        self.folder = Path(folder) / split
        self.index = index
        self._shards = index.splits.get(split, ())
        self._dtype = np.dtype(index.dtype).newbyteorder("<")
        records = [self._records(shard) for shard in self._shards]
        documents = np.concatenate([np.zeros(0, DOCUMENT), *records])
        self.lengths: npt.NDArray[np.uint32] = documents["tokens"].copy()
        self.text_bytes: npt.NDArray[np.uint64] = documents["bytes"].copy()
        self.sources: npt.NDArray[np.uint16] = documents["source"].copy()
        self.languages: npt.NDArray[np.uint16] = documents["language"].copy()
        self.documents = len(documents)
        self.tokens = int(self.lengths.sum(dtype=np.int64))
        self.bytes = int(self.text_bytes.sum(dtype=np.int64))
        # offsets among all tokens, and the first document of each shard
        self._starts = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
        self._first = np.cumsum([0, *(shard.documents for shard in self._shards)]).tolist()

    @classmethod
    def open(cls, folder: Path, split: Split, verify: bool = False) -> TokenShards:
        """The split of a corpus folder; with `verify` all bytes are hashed.

        Raises CharterError naming the file if a shard is missing, truncated, or differs from the index.
        """
        shards = cls(folder, split, read_index(folder))
        if verify:
            shards.verify()
        return shards

    def read(self, document: int, start: int = 0, count: int | None = None) -> npt.NDArray[np.int64]:
        """Ids [count] of a document from token `start` on (fewer at its end), without special tokens.

        Raises IndexError beyond the documents, CharterError for an id beyond the vocabulary.
        """
        if not 0 <= document < self.documents:
            raise IndexError(f"document {document} of {self.documents}")
        length = int(self.lengths[document])
        end = length if count is None else min(length, start + count)
        shard = bisect_right(self._first, document) - 1
        offset = int(self._starts[document] - self._starts[self._first[shard]])
        ids = self._maps[shard][offset + min(start, end) : offset + end].astype(np.int64)
        if len(ids) and int(ids.max()) >= self.index.vocab_size:
            place = self._place(self._shards[shard], "tokens")
            raise CharterError(
                f"{place}: document {document} holds the id {int(ids.max())} and the vocabulary has "
                f"{self.index.vocab_size}; the file was changed: run its recipe again"
            )
        return ids

    def verify(self) -> None:
        """Hashes every file. Raises CharterError for the first that differs from the index."""
        for shard in self._shards:
            for ending, expected in (("tokens", shard.tokens_sha256), ("documents", shard.documents_sha256)):
                path = self._place(shard, ending)
                if digest_file(path) != expected:
                    raise CharterError(f"{path} was changed (its sha256 differs from {INDEX}); run its recipe again")

    @cached_property
    def _maps(self) -> list[npt.NDArray[np.unsignedinteger]]:
        return [np.memmap(self._place(shard, "tokens"), self._dtype, mode="r") for shard in self._shards]

    def _place(self, shard: Shard, ending: str) -> Path:
        return self.folder / f"{shard.name}.{ending}"

    def _records(self, shard: Shard) -> npt.NDArray[np.void]:
        """The records of one shard, checked against the index and the size of its tokens."""
        sizes = {"documents": shard.documents * DOCUMENT.itemsize, "tokens": shard.tokens * self._dtype.itemsize}
        for ending, expected in sizes.items():
            path = self._place(shard, ending)
            actual = path.stat().st_size if path.is_file() else None
            if actual != expected:
                fault = "is missing" if actual is None else f"has {actual} bytes instead of {expected}"
                raise CharterError(f"{path} {fault}; it is truncated or of another corpus: run its recipe again")
        path = self._place(shard, "documents")
        records = np.fromfile(path, DOCUMENT)
        tokens, size = (int(records[name].sum(dtype=np.int64)) for name in ("tokens", "bytes"))
        labels = len(self.index.sources), len(self.index.languages)
        labels_fit = all(
            not len(records) or int(records[name].max()) < count
            for name, count in zip(("source", "language"), labels, strict=True)
        )
        if (tokens, size) != (shard.tokens, shard.bytes) or not labels_fit:
            raise CharterError(
                f"{path} doesn't fit {INDEX} ({tokens} tokens of {size} bytes instead of {shard.tokens} of "
                f"{shard.bytes}, or an unknown source or language); run its recipe again"
            )
        return records
