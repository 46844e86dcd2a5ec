"""The index of a corpus, corpus.json: its shards, vocabulary, sources and languages. Reading it opens no shard."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from charter.ground.artifact.manifest import Record
from charter.ground.artifact.store import read_record

FORMAT = 1
INDEX = "corpus.json"
Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")
LARGEST_SMALL = 1 << 16  # vocabularies up to this fit two bytes a token


class Shard(Record):
    """One shard of a split; `name` is the name of its two files without their endings."""

    name: str
    documents: int
    tokens: int
    bytes: int
    tokens_sha256: str
    documents_sha256: str


class Index(Record):
    """The content of corpus.json. `tokenizer` is `Tokenizer.digest`; records name sources and languages by index."""

    format: int = FORMAT
    dtype: Literal["uint16", "uint32"]
    vocab_size: int
    tokenizer: str
    sources: tuple[str, ...]
    languages: tuple[str, ...]
    splits: dict[Split, tuple[Shard, ...]]


def dtype_of(vocab_size: int) -> Literal["uint16", "uint32"]:
    """The smallest type that holds all ids."""
    return "uint16" if vocab_size <= LARGEST_SMALL else "uint32"


def read_index(folder: Path) -> Index:
    """The index of a corpus folder. Raises CharterError if it is missing or has another format."""
    absent = f"{folder} is not a corpus: it has no {INDEX}; name an artifact of the room corpus"
    return read_record(Path(folder) / INDEX, Index, FORMAT, absent, "run its recipe again")
