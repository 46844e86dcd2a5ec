"""The readers of what strangers made, on bytes that are nearly right: they read them or say in one line why not."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import hostile
import hostile_child
import pyarrow as pa
import pytest
import zstandard
from mutations import mutate
from pyarrow import parquet

from charter.ground.artifact.errors import CharterError
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.gguf import convert
from charter.ground.settings.recognise import count_rows, kind_of_file
from charter.ground.text.columns import raw_rows
from charter.ground.text.tokenizer import Tokenizer

FEW, MANY = 100, 2000
ROWS = b"".join(
    json.dumps({"id": str(i), "prompt": f"What is {i} + {i}?", "n": [i, i / 3]}).encode() + b"\n" for i in range(20)
)


def _gguf(whole: Path) -> bytes:
    return hostile.gguf(hostile.metadata(), hostile._lay_out())


def _table(whole: Path) -> bytes:
    sink = io.BytesIO()
    rows = [{"text": f"row {i}", "m": [{"role": "user", "n": i}]} for i in range(50)]
    parquet.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
    return sink.getvalue()


def _cut(folder: Path) -> None:
    hostile_child.use(Tokenizer.from_folder(folder))


def _converted(folder: Path) -> None:
    target = folder / "made"
    convert(folder / "m.gguf", target)
    load_policy(target)
    shutil.rmtree(target)


def _rows(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        kind_of_file(folder / name)
        count_rows(folder / name)
        list(raw_rows(folder / name))

    return read


# file -> the right bytes, and what reads them out of the folder
READERS: dict[str, tuple[Callable[[Path], bytes], Callable[[Path], object]]] = {
    "model.safetensors": (lambda whole: (whole / "model.safetensors").read_bytes(), load_policy),
    "config.json": (lambda whole: (whole / "config.json").read_bytes(), load_policy),
    "tokenizer.json": (lambda whole: (whole / "tokenizer.json").read_bytes(), _cut),
    "m.gguf": (_gguf, _converted),
    "rows.parquet": (_table, _rows("rows.parquet")),
    "rows.jsonl": (lambda whole: ROWS, _rows("rows.jsonl")),
    "rows.json": (lambda whole: b"[" + b",".join(ROWS.split(b"\n")[:-1]) + b"]", _rows("rows.json")),
    "rows.jsonl.gz": (lambda whole: gzip.compress(ROWS, mtime=0), _rows("rows.jsonl.gz")),
    "rows.jsonl.zst": (lambda whole: zstandard.compress(ROWS), _rows("rows.jsonl.zst")),
}


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", READERS)
def test_mutated_bytes_are_read_or_refused(name: str, count: int, tmp_path: Path) -> None:
    hostile.whole(tmp_path)
    make, read = READERS[name]
    right = make(tmp_path)
    (tmp_path / name).write_bytes(right)
    read(tmp_path)  # the right bytes are read, so that a harm is what makes a difference
    read_all = refused = 0
    for seed in range(count) if count == FEW else range(FEW, count):
        (tmp_path / name).write_bytes(mutate(right, seed))
        try:
            read(tmp_path)
            read_all += 1
        except CharterError as error:
            refused += 1
            assert len(str(error)) < 1000
        except BaseException as error:
            error.add_note(f"{name}, seed {seed}")
            raise
        finally:
            shutil.rmtree(tmp_path / "made", ignore_errors=True)
    print(f"{name}: {read_all} read, {refused} refused")
    assert refused > count // 10
