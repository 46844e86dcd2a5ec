"""From selected documents to token shards: all processes encode batches, which are written in order.

A split has the order of the input. Repeated documents come again in further passes, after all others: readers of the
shards shuffle them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from charter.ground.artifact.progress import Bar
from charter.ground.text.corpus_index import Shard, Split
from charter.ground.text.shards import ShardWriter
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.corpus.batch import Batch
from charter.rooms.corpus.crew import Crew
from charter.rooms.corpus.selection import Selection, Table

_BETWEEN = re.compile(r"(?<=[^\W\d_])[ \n]")
AT_ONCE = 1 << 18  # characters encoded together: the library needs about 100 bytes a token


@dataclass(frozen=True)
class Work:
    """Documents of one batch, by their index in it, for one split."""

    path: Path
    numbers: tuple[int, ...]


class Encoder:
    """Encodes documents of batches with the tokenizer in a folder."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_folder(folder)

    def __call__(self, work: Work) -> list[npt.NDArray[np.uint32]]:
        """Ids of each document, without special tokens."""
        batch = Batch(work.path)
        return encode_all(self.tokenizer, [batch.text(number) for number in work.numbers])


def encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
    """Ids of each text. Long texts are encoded in parts, many short ones together."""
    cutting = cut if "ByteLevel" in tokenizer.decoders else _keep_whole
    parts = [(number, part) for number, text in enumerate(texts) for part in cutting(text)]
    ids_of_each: list[list[npt.NDArray[np.uint32]]] = [[] for _ in texts]
    start = 0
    while start < len(parts):
        stop, size = start + 1, len(parts[start][1])
        while stop < len(parts) and size + len(parts[stop][1]) <= AT_ONCE:
            size += len(parts[stop][1])
            stop += 1
        encodings = tokenizer.encode_batch([part for _, part in parts[start:stop]])
        for (number, _), ids in zip(parts[start:stop], encodings, strict=True):
            ids_of_each[number].append(ids)
        start = stop
    return [np.concatenate([np.zeros(0, np.uint32), *ids]) for ids in ids_of_each]


def cut(text: str) -> Iterator[str]:
    """A text in parts of about AT_ONCE characters, cut between a letter and the next blank. Byte-level tokenizers cut
    there too, so the parts have the ids of the whole. If the next AT_ONCE characters have no such place, the part ends
    at AT_ONCE."""
    start = 0
    while len(text) - start > 2 * AT_ONCE:
        match = _BETWEEN.search(text, start + AT_ONCE, start + 2 * AT_ONCE)
        stop = match.start() if match else start + AT_ONCE
        yield text[start:stop]
        start = stop
    yield text[start:]


def _keep_whole(text: str) -> Iterator[str]:
    yield text


def plan_work(
    table: Table, selection: Selection, split: Split, done: int
) -> Iterator[tuple[Work, npt.NDArray[np.int64]]]:
    """The work for a split after its first `done` documents, with the documents' numbers in the table."""
    times = np.where(selection.heldout == (split == "heldout"), selection.times, 0)
    for round_ in range(int(times.max(initial=0))):
        for path, start, end in table.batches():
            numbers = np.flatnonzero(times[start:end] > round_)
            skipped = min(done, len(numbers))
            done -= skipped
            numbers = numbers[skipped:]
            if len(numbers):
                yield Work(path, tuple(numbers.tolist())), start + numbers


def write_split(
    crew: Crew[Work, list[npt.NDArray[np.uint32]]],
    writer: ShardWriter,
    schedule: Iterator[tuple[Work, npt.NDArray[np.int64]]],
    table: Table,
    bar: Bar,
) -> tuple[Shard, ...]:
    """Encodes and writes the scheduled documents. Returns all shards of the split, earlier attempts included."""
    for numbers, ids_of_each in crew.results(schedule):
        for number, ids in zip(numbers, ids_of_each, strict=True):
            size = int(table.bytes[number])
            writer.add(ids, size, int(table.source[number]), int(table.language[number]))
            bar.advance(size)
    return writer.close()
