"""Bad input: each fault names its file and line, the rest is read, and nothing takes much memory."""

from __future__ import annotations

import datetime
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from corpus_world import (
    composition,
    counts,
    documents,
    files,
    inputs_from,
    make,
    read_refused,
    rows_file,
    settings,
    text,
)
from hypothesis import given as generated
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.seed import derive_seed
from charter.ground.settings.texts import DateField, TextFile, TextSource
from charter.rooms.corpus.plaintext import normal_form, page_text
from charter.rooms.corpus.reading import Meter, Record, records

MIB = 1 << 20
SOURCE = Path(__file__).parents[3] / "src"


def read(path: Path, largest: int = MIB, **facts: object) -> list[Record]:
    source = TextSource.model_validate({"name": "s", "from": str(path), **facts})
    return list(records(source, TextFile(path.name, path), largest, Meter()))


def test_each_fault_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a-binary.txt").write_bytes(bytes(range(256)) * 8)
    (folder / "b-latin1.txt").write_bytes("caf\xe9 au lait".encode("latin-1"))
    (folder / "c-empty.txt").write_bytes(b"")
    (folder / "d-blank.md").write_text(" \n\n \n")
    packed = gzip.compress("".join(json.dumps({"text": text(n)}) + "\n" for n in range(900)).encode())
    (folder / "e-cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    frame = zstandard.ZstdCompressor().compress(text(1).encode())
    (folder / "f-cut.txt.zst").write_bytes(frame[:-3])
    (folder / "g-notgzip.txt.gz").write_bytes(b"plain text")
    rows = [json.dumps({"text": text(n)}).encode() for n in range(2000, 2010)]
    rows[1] = b'{"text": "half'
    rows[3] = b"[1, 2]"
    rows[5] = b'{"text": "\xff\xfe"}'
    rows[6] = b'{"text": "\\ud800 half a pair"}'
    rows[7] = b'{"\\ud800": 1}'
    rows[8] = b'{"text": "' + b"x" * (MIB + 1) + b'"}'
    (folder / "h-rows.jsonl").write_bytes(b"\n".join(rows))
    (folder / "i-good.txt").write_text(text(3000))
    (folder / "j.png").write_bytes(b"\x89PNG")
    out = make(tmp_path / "out", inputs_from(folder), reading={"largest_mib": 1}, heldout_share=0)
    faults = [(r["file"], r["line"], r["reason"]) for r in read_refused(out)]
    assert faults == [
        ("a-binary.txt", 0, "binary"),
        ("b-latin1.txt", 0, "broken_utf8"),
        ("c-empty.txt", 0, "empty"),
        ("d-blank.md", 0, "empty"),
        ("e-cut.jsonl.gz", 0, "damaged"),
        ("f-cut.txt.zst", 0, "damaged"),
        ("g-notgzip.txt.gz", 0, "damaged"),
        ("h-rows.jsonl", 2, "broken_row"),
        ("h-rows.jsonl", 4, "broken_row"),
        ("h-rows.jsonl", 6, "broken_utf8"),
        ("h-rows.jsonl", 7, "broken_utf8"),
        ("h-rows.jsonl", 8, "broken_utf8"),
        ("h-rows.jsonl", 9, "too_large"),
    ]
    assert all(r["detail"] and r["source"] == "in" for r in read_refused(out))
    texts = documents(out, "train")
    assert texts[-5:] == [*(text(n) for n in (2000, 2002, 2004, 2009)), text(3000)]
    assert texts[:-5] == [text(n) for n in range(len(texts) - 5)] and len(texts) > 300  # before the cut
    flat = counts(out)
    assert flat["files"] == 9 and flat["files_unread"] == 1
    assert flat["documents_read"] == flat["documents_unique"] + len(faults)


def test_endings_in_capitals_are_read_as_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/A.HTM").write_text(f"<p>{text(1)}</p>")
    rows_file(tmp_path / "in/b.jsonl.gz", [{"text": text(2)}]).rename(tmp_path / "in/B.JSONL.GZ")
    (tmp_path / "in/C.TXT.ZST").write_bytes(zstandard.ZstdCompressor().compress(text(3).encode()))
    out = make(tmp_path / "out", inputs_from(tmp_path / "in"), heldout_share=0)
    assert documents(out, "train") == [text(1), text(2), text(3)]


def test_broken_utf8_may_be_replaced_and_is_counted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_bytes(b"caf\xe9 " + text(1).encode())
    out = make(tmp_path / "out", inputs_from(tmp_path / "in"), reading={"broken_utf8": "replace"}, heldout_share=0)
    assert documents(out, "train") == [f"caf\ufffd {text(1)}"]
    assert counts(out)["replaced_utf8"] == 1 and not read_refused(out)


def test_one_line_of_half_a_gigabyte_takes_little_memory(tmp_path: Path) -> None:
    """500 MB of zeros pack into 50 kB; reading them may take only a little memory."""
    path = tmp_path / "long.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(json.dumps({"text": text(1)}).encode() + b'\n{"text": "')
        for _ in range(500):
            file.write(b" " * MIB)
        file.write(b'"}\n' + json.dumps({"text": text(2)}).encode())
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from charter.rooms.corpus.reading import Meter, records\n"
        "from charter.ground.settings.texts import TextFile, TextSource\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "p = Path(sys.argv[1])\n"
        "read = list(records(TextSource(name='s', at='x'), TextFile(p.name, p), 16 << 20, Meter()))\n"
        "print([(r.line, r.fault) for r in read], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(SOURCE)},
    )
    output, _, grown = process.stdout.rpartition(" ")
    assert output == "[(1, ''), (2, 'too_large'), (3, '')]"
    assert int(grown) < 150 * 1024  # KiB


@hypothesis_settings(deadline=None, max_examples=60)
@generated(lines=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=40), max_size=12))
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_lines_are_those_of_the_file(tmp_path_factory: pytest.TempPathFactory, packing: str, lines: list[str]) -> None:
    data = "\n".join(lines).encode()
    path = tmp_path_factory.mktemp("lines") / f"a.txt{packing}"
    packed = {"": data, ".gz": gzip.compress(data), ".zst": zstandard.ZstdCompressor().compress(data)}
    path.write_bytes(packed[packing])
    lines_read = read(path, 60, split="line")
    if lines_read and lines_read[0].fault in ("binary", "empty"):
        return
    expected = [(n, line.encode()) for n, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").decode().split("\n"), 1)]
    numbered = [(n, b"" if len(line) > 60 else line) for n, line in expected if len(line) > 60 or line.strip()]
    assert [(r.line, r.data) for r in lines_read] == numbered
    assert [bool(r.fault) for r in lines_read] == [len(dict(expected)[n]) > 60 for n, _ in numbered]


def test_paragraphs_only_where_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\none\nmore\n \ntwo\n\n" + "x" * 50 + "\n" + "y" * 50 + "\nz\n\nlast")
    assert [(r.line, r.data) for r in read(path)] == [(0, path.read_bytes())]
    paragraphs = [(r.line, r.data, r.fault) for r in read(path, 80, split="paragraph")]
    assert paragraphs == [(3, b"one\nmore", ""), (6, b"two", ""), (8, b"", "too_large"), (12, b"last", "")]


def test_rows_of_parquet_files_with_dates(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    table = pyarrow.table(
        {"body": [text(1), None, text(2)], "day": [datetime.date(2020, 1, 2), datetime.date(2021, 1, 1), None]}
    )
    parquet.write_table(table, path)
    (tmp_path / "b.parquet").write_bytes(path.read_bytes()[:-9])
    (tmp_path / "s.yaml").write_text(
        "sources: [{name: s, from: ., files: ['*.parquet'], text: body, date: {field: day}}]"
    )
    out = make(tmp_path / "out", inputs_from(tmp_path / "s.yaml"), heldout_share=0)
    assert documents(out, "train") == [text(1), text(2)]
    assert [(r["file"], r["line"], r["reason"]) for r in read_refused(out)] == [
        ("a.parquet", 2, "no_text"),
        ("b.parquet", 0, "damaged"),
    ]
    assert composition(out)["by"]["year"].keys() == {"2020", "unknown"}


def test_a_cell_over_the_limit_is_passed_over_and_columns_nobody_wants_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    texts, noise = ["one", None, "x" * 2000, "two"], ["y" * 9000] * 4
    parquet.write_table(pyarrow.table({"noise": noise, "text": texts}), path)
    calls = []
    read_batches = parquet.ParquetFile.iter_batches
    monkeypatch.setattr(
        parquet.ParquetFile, "iter_batches", lambda self, **how: (calls.append(how), read_batches(self, **how))[1]
    )
    rows = read(path, 1000)
    assert [(r.line, r.fault, r.size) for r in rows if r.line == 3] == [(3, "too_large", 2000)]
    assert [json.loads(r.data) for r in rows if r.line != 3] == [{"text": t} for t in ("one", None, "two")]
    assert [how["columns"] for how in calls] == [["text"]]
    assert json.loads(read(path, text="body")[0].data) == {"noise": None, "text": None}


def test_times_that_python_cannot_tell_are_one_line(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    times = pyarrow.array([1001], pyarrow.timestamp("ns"))
    parquet.write_table(pyarrow.table({"text": ["a"], "day": times}), path)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from charter.ground.text.columns import parquet_rows\nlist(parquet_rows(Path(sys.argv[1])))"
    )
    (tmp_path / "pandas.py").write_text("raise ImportError")  # with it pyarrow could tell
    environment = {"PYTHONPATH": f"{tmp_path}:{SOURCE}", "PATH": "/usr/bin:/bin"}
    process = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False, env=environment
    )
    assert "CharterError: " in process.stderr and "cannot be read as parquet (Nanosecond" in process.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="a small disk is mounted in a namespace")
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    rows_file(tmp_path / "t.jsonl", [{"text": text(n, 3000)} for n in range(60)])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: r\nsteps:\n  - name: corpus\n    room: corpus\n    from: {sources: [./t.jsonl]}\n    settings: "
        + json.dumps(settings(reading={"batch_mib": 0.1}).model_dump(mode="json"))
    )
    disk = tmp_path / "disk"
    disk.mkdir()
    whole = make(tmp_path / "whole", inputs_from(tmp_path / "t.jsonl"), derive_seed(0, "corpus"))
    script = (
        'mount -t tmpfs -o size=$SIZE tmpfs "$DISK" || exit 77; "$PYTHON" -m charter run "$RECIPE" --out "$DISK/run"; '
        'echo "first $?"; mount -o remount,size=64m "$DISK"; ls "$DISK"/run/.partial/corpus/state/examined | wc -l; '
        '"$PYTHON" -m charter run "$RECIPE" --out "$DISK/run"; echo "second $?"; cp -r "$DISK/run/corpus" "$COPY"'
    )
    names = {
        "DISK": str(disk),
        "PYTHON": sys.executable,
        "RECIPE": str(recipe),
        "SIZE": "1600k",
        "COPY": str(tmp_path / "copy"),
    }
    process = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(tmp_path), **names},
    )
    if process.returncode == 77 or "unshare" in process.stderr:
        pytest.skip("no namespace with a disk of its own can be had here")
    output = process.stdout + process.stderr
    assert "the disk is full" in output and "first 1" in output and "second 0" in output, output
    assert "Traceback" not in output
    copy = {path: tmp_path / "copy" / path for path in files(whole)}
    assert {path: file.read_bytes() for path, file in copy.items()} == files(whole)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    source = rows_file(tmp_path / "t.jsonl", [{"text": text(n)} for n in range(10)])
    out = make(tmp_path / "out", inputs_from(source), heldout_share=0)
    shard = out.path / "train/00000.tokens"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CharterError, match=r"00000\.tokens has \d+ bytes instead of \d+; .*run its recipe"):
        documents(out, "train")


def test_a_column_of_dates_is_read_from_rows() -> None:
    assert TextSource(name="a", at="x", date=DateField(field="d")).date == DateField(field="d")


@hypothesis_settings(deadline=None)
@generated(st.text())
def test_the_normal_form_is_one(given_text: str) -> None:
    once = normal_form(given_text)
    assert normal_form(once) == once
    assert not set(once) & {"\r", "\0", "\ufeff", "\u2028", "\f"} and once == once.rstrip()
    assert normal_form(once.replace("\n", "\r\n")) == once


def test_what_a_page_says() -> None:
    page = (
        "<!doctype html><html><head><title>t</title><style>p{}</style></head><body><nav>menu</nav>"
        "<h1>Head</h1><p>One &amp; two\n  three<br>four</p><script>var x</script><pre>a\n  b</pre>"
        "<ul><li>x<li>y</ul><svg><text>no</text></svg>end"
    )
    assert page_text(page) == "Head\n\nOne & two three\nfour\n\na\nb\n\nx\ny\nend"
    assert page_text("<p>never closed <b>bold") == "never closed bold"
    assert page_text("<head><title>x</title><body>shown") == "shown"
    assert page_text("<head><title>x</title><noscript><p>no</noscript><p>shown") == "shown"


def test_cells_options_and_captions_of_a_page_stand_apart() -> None:
    table = "<table><caption>Ages</caption><tr><th>Name</th><th>Age</th></tr><tr><td>Anna</td><td>9</td></tr></table>"
    assert page_text(table) == "Ages\n\nName Age\n\nAnna 9"
    assert page_text("<select><option>red<option>blue</select>") == "red\nblue"
    page = "<figure><img>a<figcaption>b</figcaption></figure>c<aside>d</aside>e"
    assert [line for line in page_text(page).split("\n") if line] == ["a", "b", "c", "d", "e"]


def test_a_source_of_which_nothing_is_kept_is_counted_and_one_that_is_missing_named(tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text(" ")
    rows_file(tmp_path / "t.jsonl", [{"text": text(n)} for n in range(5)])
    (tmp_path / "s.yaml").write_text(
        "sources:\n  - {name: blank, from: blank.txt}\n  - {name: good, from: t.jsonl}\n"
        "  - {name: gone, from: gone.txt, optional: true}\n"
    )
    out = make(tmp_path / "out", inputs_from(tmp_path / "s.yaml"), heldout_share=0)
    by = composition(out)["by"]["source"]
    assert [(n, by[n]["read"], by[n]["unique"], by[n]["tokens"] > 0) for n in by] == [
        ("good", 5, 5, True),
        ("blank", 1, 0, False),
        ("gone", 0, 0, False),
    ]
    assert [source["missing"] for source in composition(out)["sources"]] == [False, False, True]
    assert "it is not there" in (out.path / "report.html").read_text()
