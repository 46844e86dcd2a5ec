"""Parts of the corpus room by themselves: dates, shares, workers, parts of long texts, the index of benchmarks."""

from __future__ import annotations

import errno
import gzip
import json
import resource
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from corpus_world import GERMAN, documents, inputs_from, make, read_refused, rows_file, text
from doubling import doubling
from huggingface_hub import constants
from hypothesis import given as generated
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.notation import read_yaml
from charter.ground.settings.texts import TextSource, is_after, period
from charter.ground.text.tokenizer import train_tokenizer
from charter.rooms.corpus import encoding
from charter.rooms.corpus.crew import Crew, run_apart
from charter.rooms.corpus.decontamination import Decontamination
from charter.rooms.corpus.encoding import cut, encode_all
from charter.rooms.corpus.selection import KEPT, NEAR, Selection, Table, describe, select
from charter.rooms.corpus.settings import Languages, Settings


@pytest.mark.parametrize(
    ("written", "first", "last"),
    [
        ("2023", date(2023, 1, 1), date(2023, 12, 31)),
        ("2024-02", date(2024, 2, 1), date(2024, 2, 29)),
        (" 2023-5-7 ", date(2023, 5, 7), date(2023, 5, 7)),
        ("2023-05-17T10:00:00Z", date(2023, 5, 17), date(2023, 5, 17)),
    ],
)
def test_a_date_means_a_period(written: str, first: date, last: date) -> None:
    assert period(written) == (first, last)


@pytest.mark.parametrize("written", ["", "soon", "23", "2023-13", "2023-02-30", "2023-05-17x", "0000"])
def test_what_is_no_date_is_refused(written: str) -> None:
    with pytest.raises(ValueError):
        period(written)


def test_a_cutoff_may_be_written_as_yaml_reads_it() -> None:
    for date_text in ("2023-01-31", "2023", "2023-01", "'2023-01-31'", "2023-01-31 10:00:00"):
        settings = Settings.model_validate(read_yaml(f"{{filters: {{cutoff: {date_text}}}}}"))
        assert settings.cutoff() == period(date_text.strip("'"))
    with pytest.raises(ValueError, match="valid string"):
        Settings.model_validate(read_yaml("{filters: {cutoff: yes}}"))


def test_after_a_cutoff_is_what_may_be() -> None:
    cutoff = period("2023-03")
    after = {w: is_after(period(w), cutoff) for w in ("2022", "2023", "2023-03", "2023-03-31", "2023-04-01")}
    assert after == {"2022": False, "2023": True, "2023-03": False, "2023-03-31": False, "2023-04-01": True}


def table_of(other: int, main: int, size: int = 1000) -> Table:
    """`main` documents in English and `other` in German, each of `size` bytes."""
    count = main + other
    rng = np.random.default_rng(3)
    return Table(
        paths=(),
        languages=("de", "en"),
        source=np.zeros(count, np.uint16),
        language=np.array([1] * main + [0] * other, np.uint16),
        year=np.zeros(count, np.uint16),
        bytes=np.full(count, size, np.uint32),
        words=np.full(count, 9, np.uint32),
        key=rng.integers(0, 2**63, count).astype(np.uint64),
        first=np.array([0, count]),
    )


def select_from(table: Table, languages: Languages, weight: float = 1.0, heldout: float = 0.0) -> Selection:
    copies = np.full(len(table), KEPT, np.uint8)
    settings = Settings(languages=languages, heldout_share=heldout)
    return select(table, copies, [TextSource(name="s", at="x", weight=weight)], settings, 1)


@pytest.mark.parametrize(
    ("other", "aim", "factor"), [(4000, 0.1, 1000 / 4000), (500, 0.1, 2.0), (100, 0.1, 4.0), (1000, 0.1, 1.0)]
)
def test_the_share_is_met_by_the_rule(other: int, aim: float, factor: float) -> None:
    """9,000 documents in English: a tenth of all is 1,000 others, none is taken more than four times."""
    table = table_of(other, 9000)
    selection = select_from(table, Languages(other_share=aim))
    assert selection.factor == pytest.approx(factor)
    assert (selection.times[:9000] == 1).all()
    assert int(selection.times[9000:].sum()) == pytest.approx(factor * other, rel=0.1)
    assert {*np.unique(selection.times[9000:]).tolist()} <= {int(factor), int(factor) + (factor % 1 > 0)}
    assert (
        f"{factor:.3f}" in (description := describe(Languages(), selection.factor))
        or f"{factor:.2f} times" in description
    )
    assert select_from(table, Languages(other_share=None)).factor == 1


def test_what_is_held_out_is_taken_once_and_copies_never() -> None:
    table = table_of(0, 4000)
    selection = select_from(table, Languages(), weight=3, heldout=0.1)
    assert 300 < selection.heldout.sum() < 500 and (selection.times[selection.heldout] == 1).all()
    assert (selection.times[~selection.heldout] == 3).all()
    copies = np.full(len(table), KEPT, np.uint8)
    source, settings = [TextSource(name="s", at="x", weight=3)], Settings(heldout_share=0.1)
    again = select(table, copies, source, settings, 2)
    assert (again.heldout == selection.heldout).all(), "what one corpus holds out no other one trains on"
    copies = np.full(len(table), NEAR, np.uint8)
    none = select(table, copies, [TextSource(name="s", at="x")], Settings(), 1)
    assert not none.times.any() and not none.heldout.any()


def test_draws_are_even_and_differ_by_seed_and_purpose() -> None:
    table = table_of(0, 20_000)
    draws = [table.draw(seed, purpose) for seed, purpose in ((1, "a"), (2, "a"), (1, "b"))]
    for one in draws:
        assert np.histogram(one, 10, (0, 1))[0] == pytest.approx(2000, abs=200)
    for one, other in pairwise(draws):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.03


def test_another_number_of_workers_is_the_same_work() -> None:
    """So a user who lost a worker for lack of memory can continue with fewer."""
    assert Settings(workers=3).model_dump(mode="json") == Settings().model_dump(mode="json")


def test_workers_keep_the_order_and_pass_on_what_they_raise() -> None:
    with Crew[int, int](2, doubling, 5) as crew:
        assert list(crew.results((n, -n) for n in range(40))) == [(-n, 2 * n + 5) for n in range(40)]
        with pytest.raises(CharterError, match="99 is refused"):
            list(crew.results((n, None) for n in (1, 99)))
    assert run_apart(doubling, (1,), 4) == 9


def test_a_worker_that_is_killed_is_one_line() -> None:
    with (
        Crew[int, int](2, doubling, 5) as crew,
        pytest.raises(CharterError, match="a worker process was killed, probably because memory ran out"),
    ):
        list(crew.results((n, None) for n in (1, 98, 2, 3)))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "AT_ONCE", 20)


@hypothesis_settings(deadline=None, max_examples=100)
@generated(words=st.lists(st.sampled_from(["a", "don't", "of", "42", "über", "\n", "\n\n   ", "- ", "...", "Ünï 9"])))
def test_parts_of_a_text_have_the_ids_of_the_whole(words: list[str]) -> None:
    tokenizer = train_tokenizer(["a don't of 42 über of a - ... \n\n a of über"] * 3, 300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "AT_ONCE", 30)
        whole = "x of ".join(words)
        parts = list(cut(whole))
        assert "".join(parts) == whole
        between = all(a[-1].isalpha() and b[0] in " \n" for a, b in pairwise(parts))
        (ids,) = encode_all(tokenizer, [whole])
        assert not between or ids.tolist() == tokenizer.encode(whole)
        assert tokenizer.decode(ids.tolist()) == whole


def test_a_text_without_blanks_is_cut_all_the_same(small_parts: None) -> None:
    tokenizer = train_tokenizer(["ab" * 50], 300)
    assert max(map(len, cut("ab" * 500))) <= 40
    (ids,) = encode_all(tokenizer, ["ab" * 500])
    assert tokenizer.decode(ids.tolist()) == "ab" * 500


@generated(st.binary(max_size=60))
@hypothesis_settings(deadline=None, max_examples=60)
def test_a_trained_tokenizer_writes_any_bytes(data: bytes) -> None:
    tokenizer = train_tokenizer(["some words, and some more words"], 280, spare=3, opening=True)
    given_text = data.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
    for whole in (given_text, f"<|endoftext|>{given_text}<|reserved_0|>"):
        ids = tokenizer.encode(whole)
        assert tokenizer.decode(ids) == whole
        assert not set(ids) & set(tokenizer.special.values())
        assert [row.tolist() for row in tokenizer.encode_batch([whole, ""])] == [ids, []]
        assert tokenizer.encode_document(whole) == [tokenizer.bos_id, *ids]
    assert {f"<|reserved_{n}|>" for n in range(3)} < tokenizer.special.keys()


def test_an_index_of_benchmarks_that_was_saved_finds_the_same(tmp_path: Path) -> None:
    rows = [{"question": text(n, 30, GERMAN)} for n in range(50)] + [{"question": "short"}]
    index = Decontamination([rows_file(tmp_path / "quiz.jsonl", rows)])
    index.save(tmp_path / "index")
    again = Decontamination.open(tmp_path / "index")
    for n in range(60):
        whole = f"{text(1, 40)} {text(n, 30, GERMAN)} {text(2, 40)}"
        assert again.hits(whole) == index.hits(whole) and bool(index.hits(whole)) == (n < 50)
    facts = [(d.items, d.unchecked, d.files, d.runs) for d in (index, again)]
    assert facts[0] == facts[1] and facts[0][0] == 51


def test_an_index_of_benchmarks_that_has_no_room_says_so_with_the_number_of_the_error(tmp_path: Path) -> None:
    index = Decontamination([rows_file(tmp_path / "quiz.jsonl", [{"question": text(n, 30)} for n in range(500)])])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="large") as caught:
            index.save(tmp_path / "index")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG and index.runs * 8 > 20_000


def test_large_benchmarks_are_indexed_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charter.rooms.corpus.phases._SMALL", 0)
    item = text(5000, 30)
    benchmark = rows_file(tmp_path / "quiz.jsonl", [{"question": item}])
    rows = [{"text": text(n)} for n in range(8)] + [{"text": f"{text(9)} {item}"}]
    source = rows_file(tmp_path / "t.jsonl", rows)
    out = make(tmp_path / "out", inputs_from(source, benchmarks=(benchmark,)), heldout_share=0)
    assert documents(out, "train") == [text(n) for n in range(8)]


def test_a_data_set_of_the_hub_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789" * 4
    place = tmp_path / "datasets--own--set"
    snapshot = place / "snapshots" / commit
    (place / "refs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (place / "refs/main").write_text(commit)
    rows = [json.dumps({"body": text(n)}) for n in range(6)] + ["{"]
    (snapshot / "part.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    manifest = tmp_path / "s.yaml"
    manifest.write_text("sources: [{name: set, from: 'hf:own/set', text: body}]")
    out = make(tmp_path / "out", inputs_from(manifest), heldout_share=0)
    assert documents(out, "train") == [text(n) for n in range(6)]
    assert [(row["file"], row["line"]) for row in read_refused(out)] == [("part.jsonl.gz", 7)]
