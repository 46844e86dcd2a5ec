"""Token shards: they read back, a killed writer continues, and errors name changed files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.text.corpus_index import INDEX, Index, dtype_of
from charter.ground.text.shards import DOCUMENT, ShardWriter, TokenShards

Documents = list[tuple[list[int], int, int, int]]
VOCABULARY = 300


def written(folder: Path, documents: Documents, vocabulary: int = VOCABULARY, shard_tokens: int = 10) -> Path:
    writer = ShardWriter(folder / "train", vocabulary, shard_tokens)
    for document in documents[writer.documents :]:
        writer.add(*document)
    index = Index(
        dtype=dtype_of(vocabulary),
        vocab_size=vocabulary,
        tokenizer="0" * 64,
        sources=("a", "b"),
        languages=("de", "en"),
        splits={"train": writer.close(), "heldout": ()},
    )
    (folder / INDEX).write_text(json.dumps(index.model_dump()))
    return folder


def some(count: int, seed: int = 0) -> Documents:
    rng = np.random.default_rng(seed)
    return [
        (rng.integers(0, VOCABULARY, rng.integers(1, 9)).tolist(), int(rng.integers(1, 99)), n % 2, n % 2)
        for n in range(count)
    ]


@settings(deadline=None, max_examples=25)
@given(
    documents=st.lists(
        st.tuples(
            st.lists(st.integers(0, 99_999), min_size=1, max_size=30),
            st.integers(0, 2**40),
            st.integers(0, 1),
            st.integers(0, 1),
        ),
        max_size=20,
    ),
    shard_tokens=st.integers(1, 60),
    part=st.tuples(st.integers(0, 35), st.none() | st.integers(0, 35)),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, documents: Documents, shard_tokens: int, part: tuple[int, int | None]
) -> None:
    folder = written(tmp_path_factory.mktemp("corpus"), documents, 100_000, shard_tokens)
    shards = TokenShards.open(folder, "train", verify=True)
    assert shards.documents == len(documents)
    assert shards.tokens == sum(len(ids) for ids, *_ in documents)
    assert shards.bytes == sum(size for _, size, *_ in documents)
    start, count = part
    for number, (ids, size, source, language) in enumerate(documents):
        assert shards.read(number).tolist() == ids
        assert shards.read(number, start, count).tolist() == ids[start : None if count is None else start + count]
        facts = shards.lengths, shards.text_bytes, shards.sources, shards.languages
        assert tuple(int(row[number]) for row in facts) == (len(ids), size, source, language)
    assert TokenShards.open(folder, "heldout").documents == 0


@pytest.mark.parametrize("stopped_after", [0, 1, 7, 23, 40])
def test_a_writer_that_was_killed_goes_on_to_the_same_files(tmp_path: Path, stopped_after: int) -> None:
    documents = some(40)
    whole = written(tmp_path / "whole", documents)
    writer = ShardWriter(tmp_path / "killed" / "train", VOCABULARY, 10)
    for document in documents[:stopped_after]:
        writer.add(*document)
    # killed between the two files of a shard, and while writing one
    (tmp_path / "killed/train" / f"{writer._complete:05d}.tokens").write_bytes(b"half")
    (tmp_path / "killed/train/.tmp-00099.tokens").write_bytes(b"half")
    killed = written(tmp_path / "killed", documents)
    files = {p.relative_to(whole): p.read_bytes() for p in sorted(whole.rglob("*")) if p.is_file()}
    assert len(files) > 10
    assert {p.relative_to(killed): p.read_bytes() for p in sorted(killed.rglob("*")) if p.is_file()} == files


def test_two_bytes_a_token_where_they_are_enough(tmp_path: Path) -> None:
    assert (dtype_of(65_536), dtype_of(65_537)) == ("uint16", "uint32")
    folder = written(tmp_path, [([65_535, 0], 5, 0, 0)], 65_536)
    assert (folder / "train/00000.tokens").read_bytes() == b"\xff\xff\0\0"
    assert (folder / "train/00000.documents").stat().st_size == DOCUMENT.itemsize == 16


@pytest.mark.parametrize("name", ["00001.tokens", "00001.documents"])
def test_a_truncated_or_missing_file_is_named(tmp_path: Path, name: str) -> None:
    file = written(tmp_path, some(20)) / "train" / name
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(CharterError, match=rf"{name} has \d+ bytes instead of \d+.*truncated"):
        TokenShards.open(tmp_path, "train")
    file.unlink()
    with pytest.raises(CharterError, match=f"{name} is missing"):
        TokenShards.open(tmp_path, "train")


def test_changed_files_are_named(tmp_path: Path) -> None:
    folder = written(tmp_path, some(20)) / "train"
    (folder / "00002.tokens").write_bytes(b"\xff" * (folder / "00002.tokens").stat().st_size)
    shards = TokenShards.open(tmp_path, "train")
    with pytest.raises(CharterError, match=r"00002\.tokens was changed"):
        shards.verify()
    changed = int(np.fromfile(folder / "00000.documents", DOCUMENT).size) + int(
        np.fromfile(folder / "00001.documents", DOCUMENT).size
    )
    with pytest.raises(CharterError, match="holds the id 65535 and the vocabulary has 300"):
        shards.read(changed)
    records = np.fromfile(folder / "00000.documents", DOCUMENT)
    for field, value in (("tokens", 1_000), ("bytes", 1_000), ("source", 2), ("language", 9)):
        other = records.copy()
        other[field][0] = value
        other.tofile(folder / "00000.documents")
        with pytest.raises(CharterError, match=r"00000\.documents doesn't fit corpus\.json"):
            TokenShards.open(tmp_path, "train")


def test_another_folder_and_another_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match=r"is not a corpus: it has no corpus\.json"):
        TokenShards.open(tmp_path, "train")
    index = json.loads((written(tmp_path, some(3)) / INDEX).read_text())
    for changed, said in (
        ({**index, "format": 9}, "format 9"),
        ({**index, "dtype": "int8"}, "dtype"),
        ({k: v for k, v in index.items() if k != "tokenizer"}, "tokenizer"),
    ):
        (tmp_path / INDEX).write_text(json.dumps(changed))
        with pytest.raises(CharterError, match=said):
            TokenShards.open(tmp_path, "train")
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(CharterError, match="cannot be read"):
        TokenShards.open(tmp_path, "train")


def test_a_writer_refuses_what_it_cannot_store(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, VOCABULARY)
    for document, said in (
        (([], 0, 0, 0), "without tokens"),
        (([VOCABULARY], 1, 0, 0), "go beyond the vocabulary"),
        (([-1], 1, 0, 0), "go beyond the vocabulary"),
        (([1], 1, 65_536, 0), "beyond 65535"),
    ):
        with pytest.raises(CharterError, match=said):
            writer.add(*document)
    assert writer.close() == () and writer.documents == 0


def test_a_document_that_is_not_there(tmp_path: Path) -> None:
    shards = TokenShards.open(written(tmp_path, some(3)), "train")
    for number in (-1, 3):
        with pytest.raises(IndexError):
            shards.read(number)
