"""The room's messages in the terminal: what it skipped, what it kept, and how much of the input it refused."""

from __future__ import annotations

import gzip
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from corpus_world import Heard, composition, counts, inputs_from, make, read_refused, rows_file, settings, text

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.workspace import Workspace
from charter.rooms.corpus import quality
from charter.rooms.corpus.page import setting_of
from charter.rooms.corpus.quality import BOUNDS
from charter.rooms.corpus.selection import choose_heldout
from charter.rooms.corpus.settings import Settings

MIB = 1 << 20


def test_the_last_line_says_what_was_kept_and_why_the_rest_was_not(tmp_path: Path) -> None:
    rows = [{"text": text(seed)} for seed in range(10)] + [{"text": text(3)}, {"text": "few words"}, {"txt": "x"}]
    source = rows_file(tmp_path / "t.jsonl", rows)
    heard = Heard()
    out = make(tmp_path / "out", inputs_from(source), heard=heard, filters={"quality": {}}, heldout_share=0)
    flat = counts(out)
    assert flat["unique_bytes"] == flat["bytes"] == sum(len(text(seed)) for seed in range(10))
    read = source.stat().st_size - len(rows)  # without line ends
    assert flat["bytes_read"] == read and flat["kept_bytes_share"] == flat["bytes"] / read
    assert heard.lines[-1] == (
        f"kept 10 of 13 documents, {flat['bytes'] / 1e3:,.1f} kB of {read / 1e3:,.1f} kB "
        "(1 exact copy, 1 no text, 1 short), 0 of them held out; report.html says more"
    )
    assert heard.lines[0].startswith("can't be read: t.jsonl:13 of t (")
    assert heard.lines[0].endswith("samples/refused.jsonl names it")


def test_bytes_that_were_refused_count_as_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    long = b"x" * (3 * MIB)
    (folder / "a.txt").write_bytes(long)
    (folder / "b.jsonl").write_bytes(b'{"text": "' + long + b'"}\n')
    (folder / "c.txt").write_bytes(bytes(range(256)) * 8)
    (folder / "d.txt.gz").write_bytes(gzip.compress(long)[:-20])
    rows_file(folder / "e.jsonl", [{"text": text(1)}, {"text": text(2)}])
    heard = Heard()
    out = make(tmp_path / "out", inputs_from(folder), heard=heard, reading={"largest_mib": 1}, heldout_share=0)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert counts(out)["bytes_read"] == sum(sizes.values()) - 3  # without line ends
    assert counts(out)["kept_share"] == 2 / 6 and counts(out)["kept_bytes_share"] < 0.001
    assert "names it and 3 more" in heard.lines[0] and "6.3 MB (" in heard.lines[-1]


def test_repeats_count_once_among_the_kept(tmp_path: Path) -> None:
    rows_file(tmp_path / "t.jsonl", [{"text": text(seed)} for seed in range(4)])
    (tmp_path / "s.yaml").write_text("sources: [{name: s, from: t.jsonl, weight: 3}]")
    out = make(tmp_path / "out", inputs_from(tmp_path / "s.yaml"), heldout_share=0)
    flat = counts(out)
    assert flat["bytes"] == 3 * flat["unique_bytes"] and flat["kept_bytes_share"] < 1
    assert composition(out)["by"]["source"]["s"]["unique_bytes"] == flat["unique_bytes"]


def test_files_that_no_pattern_takes_are_named_by_ending(tmp_path: Path) -> None:
    folder = tmp_path / "proj"
    folder.mkdir()
    rows_file(folder / "t.jsonl", [{"text": text(seed)} for seed in range(4)])
    for name in ("a.py", "b.py", "c.jpg", "Makefile"):
        (folder / name).write_text(text(9))
    (tmp_path / "far").mkdir()
    (folder / "near").symlink_to(tmp_path / "far")
    heard = Heard()
    make(tmp_path / "out", inputs_from(folder), heard=heard, heldout_share=0)
    assert heard.lines[0] == (
        "proj: 4 files not taken (2 .py, 1 .jpg, 1 without an ending); name them under `files` of a manifest, "
        "or write `kind: code` there; proj: 1 linked folder not followed; name what it links to as a source of its own"
    )
    (tmp_path / "s.yaml").write_text("sources: [{name: s, from: proj, kind: code, files: ['*.jsonl']}]")
    heard = Heard()
    make(tmp_path / "other", inputs_from(tmp_path / "s.yaml"), heard=heard, heldout_share=0)
    assert [line for line in heard.lines if "not taken" in line] == []


def test_some_document_is_held_out_where_there_are_two(tmp_path: Path) -> None:
    def made(name: str, count: int, **changes: float) -> tuple[dict[str, float], list[str]]:
        source = rows_file(tmp_path / f"{name}.jsonl", [{"text": text(seed)} for seed in range(count)])
        heard = Heard()
        return counts(make(tmp_path / name, inputs_from(source), heard=heard, **changes)), heard.lines

    flat, lines = made("two", 2, heldout_share=1e-9)
    assert (flat["documents"], flat["documents_heldout"]) == (1, 1)
    assert lines[0].startswith("1 of 2 documents held out") and "raise `heldout_share`" in lines[0]
    flat, lines = made("one", 1, heldout_share=1e-9)
    assert flat["documents_heldout"] == 0 and "none of 1 documents is held out" in lines[0]
    flat, lines = made("none", 13, heldout_share=0)
    assert flat["documents_heldout"] == 0 and "none of 13 documents is held out" in lines[0]
    flat, lines = made("many", 60, heldout_share=0.4)
    assert flat["documents_heldout"] >= 10 and len(lines) == 1


def test_a_share_that_holds_some_out_is_left_as_it_is() -> None:
    draws, taken = np.array([0.3, 0.1, 0.02, 0.01]), np.array([True, True, True, False])
    assert choose_heldout(draws, taken, 0.05).tolist() == [False, False, True, True]
    assert choose_heldout(draws, taken, 0.015).tolist() == [False, False, True, True]  # none of them was to be taken
    assert choose_heldout(draws, taken, 0.0).tolist() == [False] * 4


def test_where_nothing_is_kept_the_setting_and_the_samples_are_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rows_file(tmp_path / f"{name}.jsonl", [{"text": f"{name} few words {n}"} for n in range(15)])
    rows_file(tmp_path / "c.jsonl", [{"txt": "x"}])
    sources = inputs_from(*(tmp_path / f"{name}.jsonl" for name in "abc"))
    with pytest.raises(CharterError) as caught:
        make(tmp_path / "out", sources, filters={"quality": {}})
    samples = tmp_path / "out/files/samples"
    assert str(caught.value) == (
        "no document was kept of 31 (30 short, 1 no text); filters.quality.prose.least_words is 50; "
        f"{samples} shows them"
    )
    assert '"txt"' not in (samples / "dropped.jsonl").read_text()
    assert '"no_text"' in (samples / "refused.jsonl").read_text()
    (tmp_path / "s.yaml").write_text("sources: [{name: s, from: gone.txt, optional: true}]")
    with pytest.raises(CharterError, match="every source is optional and none is there"):
        make(tmp_path / "none", inputs_from(tmp_path / "s.yaml"))
    assert '"short"' in (samples / "dropped.jsonl").read_text()


def test_every_rule_of_quality_has_a_setting() -> None:
    rules = {"prose": ("_of_prose", "_lines_of_prose", "_find_repetition"), "code": ("_of_code",)}
    for kind, names in rules.items():
        sources = "".join(inspect.getsource(getattr(quality, name)) for name in names)
        reasons = set(re.findall(r'return "(\w+)"', sources)) - {"placeholder"}
        assert reasons == set(BOUNDS[kind]) - {"broken_characters"}
        for reason in BOUNDS[kind]:
            assert setting_of(reason, kind, Settings()).startswith("filters.quality.")
    assert setting_of("after_cutoff", "prose", settings(filters={"cutoff": "2023"})) == 'filters.cutoff is "2023"'
    assert setting_of("word_length", "prose", Settings()) == (
        "filters.quality.prose.shortest_mean is 2.0, filters.quality.prose.longest_mean is 10.0"
    )
    assert setting_of("long_lines", "code", Settings()).startswith("filters.quality.code.longest_line is 1000, ")
    assert setting_of("contaminated", "prose", Settings()) == ""


def test_a_column_of_dates_that_no_row_has_is_named(tmp_path: Path) -> None:
    rows_file(tmp_path / "t.jsonl", [{"text": text(seed), "created": "2022"} for seed in range(6)])
    for name, warns in (("creatd", True), ("created", False)):
        (tmp_path / "s.yaml").write_text(f"sources: [{{name: s, from: t.jsonl, date: {{field: {name}}}}}]")
        heard = Heard()
        make(tmp_path / name, inputs_from(tmp_path / "s.yaml"), heard=heard)
        lines = [line for line in heard.lines if "column" in line]
        assert bool(lines) == warns
        assert not lines or lines[0].startswith("s: none of 6 rows has the column 'creatd'")
        assert not lines or lines[0].endswith("name one of theirs: created, text")


def test_a_row_without_text_names_its_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows_file(tmp_path / "t.jsonl", [{"text": text(1)}, {"txt": "x", "id": 3}, {"text": 3}])
    parquet.write_table(pytest.importorskip("pyarrow").table({"txt": ["x"], "n": [1]}), tmp_path / "u.parquet")
    faults = read_refused(make(tmp_path / "out", inputs_from(tmp_path / "t.jsonl", tmp_path / "u.parquet")))
    missing = "the row has no column 'text'; name the one that holds the text under `text` of a manifest"
    assert [(fault["line"], fault["detail"]) for fault in faults] == [
        (2, f"{missing}: id, txt"),
        (3, "the row's 'text' is 3, which is not a text"),
        (1, f"{missing}: n, txt"),
    ]


def test_codes_of_languages_are_codes() -> None:
    for wrong in ({"filters": {"languages": ["german"]}}, {"languages": {"main": "english"}}):
        with pytest.raises(ValueError, match="must be an ISO code"):
            Settings.model_validate(wrong)
    assert Settings.model_validate({"filters": {"languages": ["de", "code", "und"]}}).filters.languages


def test_what_is_no_utf8_says_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, coding in (("a", "utf-16"), ("b", "utf-16-be"), ("c", "latin-1"), ("d", "utf-8-sig")):
        mark = b"\xfe\xff" if coding == "utf-16-be" else b""
        (folder / f"{name}.txt").write_bytes(mark + ("Straße " + text(5)).encode(coding))
    for how, count in (("refuse", 3), ("replace", 2)):
        out = make(tmp_path / how, inputs_from(folder), reading={"broken_utf8": how}, filters={"near": 0})
        faults = read_refused(out)
        assert [fault["reason"] for fault in faults] == ["broken_utf8"] * count
        assert all("UTF-16; convert it" in fault["detail"] for fault in faults[:2])
    first = read_refused(Workspace(tmp_path / "refuse"))[2]["detail"]
    assert "not UTF-8 at byte 4; convert it" in first and "reading.broken_utf8: replace" in first
