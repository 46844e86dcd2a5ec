"""JSON Lines, compressed or not; every error names its file and line."""

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.text import jsonl
from charter.ground.text.jsonl import read_bytes, read_jsonl, read_text, write_jsonl

texts = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.dictionaries(texts, values, max_size=4), min_size=1, max_size=4))
def test_rows_come_back(tmp_path_factory: pytest.TempPathFactory, ending: str, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.getbasetemp() / f"rows.jsonl{ending}"
    write_jsonl(path, rows)
    first = path.read_bytes()
    assert read_jsonl(path) == rows
    write_jsonl(path, rows)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1}\n{"a": \n', ":2: not JSON"),
        ('{"a": 1}\n\n[1]\n', ":3: a JSON list"),
        ('{"a": NaN}\n', ":1: not JSON .NaN is not JSON"),
        ("", "is empty"),
        ("\n  \n", "is empty"),
        ("[" * 100_000, ":1: not JSON"),
    ],
)
def test_broken_rows_name_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(CharterError, match=said) as caught:
        read_jsonl(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_other_encodings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "\xff"}\n')
    with pytest.raises(CharterError, match=":2: not UTF-8"):
        read_jsonl(path)
    with pytest.raises(CharterError, match="not UTF-8 at byte"):
        read_text(path)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_files_cut_short_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.jsonl{ending}"
    write_jsonl(path, [{"n": n, "text": str(n**9)} for n in range(200)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CharterError, match="cannot be read"):
        read_jsonl(path)


def test_joined_compressed_parts_are_read_whole(tmp_path: Path) -> None:
    parts = [b'{"a": 1}\n', b'{"a": 2}\n']
    for ending, compress in ((".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)):
        path = tmp_path / f"x.jsonl{ending}"
        path.write_bytes(b"".join(map(compress, parts)))
        assert read_jsonl(path) == [{"a": 1}, {"a": 2}]


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="does not exist"):
        read_jsonl(tmp_path / "none.jsonl")


def test_lines_end_only_at_line_feeds(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_jsonl(path, [{"a": "one\u2028two\r\nthree\x0b"}])
    assert read_jsonl(path) == [{"a": "one\u2028two\r\nthree\x0b"}]


def test_half_surrogates_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with pytest.raises(CharterError, match="surrogate"):
        write_jsonl(path, [{"a": "\ud800"}])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_file_that_unpacks_to_gigabytes_is_refused_early(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "LARGEST", 50_000)
    row = b'{"a": "' + b"x" * 1000 + b'"}\n'
    pack = gzip.compress if ending == ".gz" else zstandard.ZstdCompressor().compress
    for count, fits in ((49, True), (60, False), (300_000, False)):
        path = tmp_path / f"rows{count}.jsonl{ending}"
        path.write_bytes(pack(row * count))
        if fits:
            assert len(read_jsonl(path)) == count
            continue
        tracemalloc.start()
        with pytest.raises(CharterError, match="MiB, unpacked"):
            read_bytes(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 80 * 2**20, "300 MB were not unpacked to be refused"
