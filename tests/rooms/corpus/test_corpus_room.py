"""The corpus room: every record is kept or dropped for one reason, and the shards hold the kept texts and no others."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from corpus_world import GERMAN, composition, counts, documents, files, inputs_from, make, rows_file, text

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.settings.room import Sizes
from charter.ground.settings.texts import text_bytes
from charter.ground.text.shards import TokenShards
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.card.verify import source_problems
from charter.rooms.corpus.batch import Batch
from charter.rooms.corpus.settings import Settings, check, estimate

README = Path(__file__).parents[3] / "src/charter/rooms/corpus/README.md"


def test_shards_hold_the_kept_texts(tmp_path: Path) -> None:
    texts = [text(seed) for seed in range(60)]
    source = rows_file(tmp_path / "texts.jsonl", [{"text": t} for t in texts])
    out = make(tmp_path / "out", inputs_from(source), filters={"scrub": False})
    train, heldout = documents(out, "train"), documents(out, "heldout")
    assert sorted(train + heldout) == sorted(texts) and not set(train) & set(heldout)
    assert train == [t for t in texts if t in set(train)]  # in the order of the input
    assert 3 <= len(heldout) <= 25
    flat = counts(out)
    assert flat["documents"] == len(train) and flat["documents_heldout"] == len(heldout)
    assert flat["bytes"] == sum(len(t.encode()) for t in texts)
    assert flat["tokens"] == sum(TokenShards.open(out.path, s).tokens for s in ("train", "heldout"))
    tokenizer = Tokenizer.from_folder(out.path)
    assert tokenizer.opening == [tokenizer.bos_id]
    ids = [tokenizer.encode(t) for t in train]
    shards = TokenShards.open(out.path, "train")
    assert [shards.read(n).tolist() for n in range(shards.documents)] == ids
    assert shards.index.tokenizer == tokenizer.digest


def test_everything_in_is_kept_or_dropped_for_one_reason(tmp_path: Path) -> None:
    item = "a quite unusual row of words that stands in one benchmark and nowhere else at all"
    good = [text(seed) for seed in range(20)]
    contaminated = text(100) + f" {item} " + text(101)
    rows = [{"text": t, "day": "2022-03-04"} for t in good]
    rows += [
        {"text": good[0].upper().replace(" ", "  "), "day": "2022"},  # an exact copy except for case and blanks
        {"text": good[1] + " truly", "day": "2022"},  # a near copy
        {"text": contaminated, "day": "2022"},
        {"text": contaminated.upper(), "day": "2022"},
        {"text": text(200), "day": "2024-01-01"},
        {"text": text(201), "day": "2023"},  # may be after the cut-off
        {"text": text(202)},
        {"text": text(203), "day": "once"},
        {"text": " \n ", "day": "2022"},
        {"text": "!!! ... ???", "day": "2022"},
        {"text": 3, "day": "2022"},
        {"words": "x", "day": "2022"},
        {"text": "write to jane.doe@somewhere-real.org " + text(204), "day": "2022"},
    ]
    rows_file(tmp_path / "rows.jsonl.gz", rows)
    (tmp_path / "page.html").write_text(f"<html><head><title>no</title></head><body><p>{text(205)}</p></body>")
    (tmp_path / "sources.yaml").write_text(
        "sources:\n  - {name: rows, from: rows.jsonl.gz, date: {field: day}, licence: CC0}\n"
        "  - {name: pages, from: page.html, date: 2020, licence: MIT}\n"
    )
    benchmark = rows_file(tmp_path / "bench.jsonl", [{"question": item, "answer": "42"}])
    out = make(
        tmp_path / "out",
        inputs_from(tmp_path / "sources.yaml", benchmarks=(benchmark,)),
        filters={"cutoff": "2023-06"},
        heldout_share=0,
    )
    whole, flat = composition(out), counts(out)
    assert whole["dropped_by_source"]["rows"] == {
        "after_cutoff": 2,
        "broken_date": 1,
        "contaminated": 2,
        "empty": 1,
        "exact_copy": 1,
        "near_copy": 1,
        "no_text": 2,
        "no_words": 1,
        "undated": 1,
    }
    for name, group in whole["by"]["source"].items():
        assert group["read"] == group["unique"] + sum(whole["dropped_by_source"][name].values())
    assert flat["documents_read"] == len(rows) + 1
    assert flat["documents_read"] == flat["documents_unique"] + sum(
        count for name, count in flat.items() if name.startswith("dropped_")
    )
    assert list(whole["contaminated"].values()) == [2] and "bench.jsonl" in next(iter(whole["contaminated"]))
    assert flat["personal_email"] == flat["personal_documents"] == 1
    train = documents(out, "train")
    assert len(train) == 22 and train[-1] == text(205)
    assert not any("jane.doe" in t for t in train) and sum("<email>" in t for t in train) == 1
    for by in ("source", "language", "year", "licence", "kind"):
        for what in ("documents", "bytes", "tokens"):
            assert sum(group[what] for group in whole["by"][by].values()) == flat[what]
    assert whole["by"]["year"].keys() == {"2020", "2022"} and whole["by"]["licence"].keys() == {"CC0", "MIT"}


def test_a_test_item_with_an_address_is_found_before_the_address_is_hidden(tmp_path: Path) -> None:
    item = "Answer the letter that anna.berg@nordhafen.de wrote on the first of May"
    benchmark = rows_file(tmp_path / "bench.jsonl", [{"question": item}])
    source = rows_file(tmp_path / "t.jsonl", [{"text": t} for t in (f"{text(1)} {item}", text(2), text(3))])
    out = make(tmp_path / "out", inputs_from(source, benchmarks=(benchmark,)), heldout_share=0)
    assert composition(out)["dropped"] == {"contaminated": 1}
    assert "anna.berg" not in (out.path / "samples/dropped.jsonl").read_text()


def test_other_languages_reach_their_share(tmp_path: Path) -> None:
    english = [{"text": text(seed, 150)} for seed in range(160)]

    def share(german: int, aim: float | None, name: str) -> tuple[float, list[str]]:
        rows = english + [{"text": text(1000 + seed, 150, GERMAN)} for seed in range(german)]
        source = rows_file(tmp_path / f"{name}.jsonl", rows)
        out = make(tmp_path / name, inputs_from(source), languages={"other_share": aim}, heldout_share=0)
        assert counts(out)["other_share"] == pytest.approx(
            composition(out)["by"]["language"]["de"]["bytes"] / counts(out)["bytes"]
        )
        return counts(out)["other_share"], documents(out, "train")

    many, _ = share(80, 0.1, "many")
    assert many == pytest.approx(0.1, abs=0.05)  # documents are kept by their own draws: 18 of 80 expected
    few, texts = share(6, 0.1, "few")
    assert few == pytest.approx(0.1, abs=0.02)
    german = [t for t in texts if set(t.split()) & {"der", "und"}]
    assert {german.count(t) for t in german} <= {3, 4} and len(set(german)) == 6
    assert texts.index(german[0], texts.index(german[0]) + 1) > 150  # in another pass
    scarce, texts = share(2, 0.5, "scarce")
    assert scarce < 0.1 and len(texts) == 160 + 2 * 4  # at most four times, and no English dropped
    assert share(80, None, "found")[0] > 0.3


def test_english_of_a_region_is_english(tmp_path: Path) -> None:
    rows_file(tmp_path / "t.jsonl", [{"text": text(seed, 150)} for seed in range(20)])
    (tmp_path / "s.yaml").write_text("sources: [{name: s, from: t.jsonl, language: en-GB}]")
    for main, kept in (("en", "en"), ("en-US", "en-GB")):
        filters, languages = {"languages": [kept]}, {"main": main}
        out = make(tmp_path / main, inputs_from(tmp_path / "s.yaml"), filters=filters, languages=languages)
        assert counts(out)["other_share"] == 0 and counts(out)["documents_unique"] == 20


def test_without_near_copies_no_signatures_are_stored(tmp_path: Path) -> None:
    source = rows_file(tmp_path / "t.jsonl", [{"text": text(seed)} for seed in [*range(9), 0]] + [{"text": ""}])
    for near, width in ((0, 0), (0.8, 128)):
        out = make(tmp_path / str(near), inputs_from(source), filters={"near": near})
        (path,) = (out.state / "examined").glob("*.npz")
        assert Batch(path).array("signature").shape == (10, width)
        assert composition(out)["dropped"] == {"empty": 1, "exact_copy": 1}


def test_weights_repeat_and_thin_out(tmp_path: Path) -> None:
    for name, first in (("often", 0), ("seldom", 500)):
        rows_file(tmp_path / f"{name}.jsonl", [{"text": text(first + n)} for n in range(100)])
    (tmp_path / "s.yaml").write_text(
        "sources:\n  - {name: often, from: often.jsonl, weight: 2.5}\n  - {name: seldom, from: seldom.jsonl, weight: 0.3}\n"
    )
    out = make(tmp_path / "out", inputs_from(tmp_path / "s.yaml"), heldout_share=0, filters={"near": 0})
    by = composition(out)["by"]["source"]
    assert by["often"]["unique"] == 100 and 230 <= by["often"]["documents"] <= 270
    assert 15 <= by["seldom"]["documents"] == by["seldom"]["unique"] <= 45
    assert composition(out)["dropped_by_source"] == {"often": {}, "seldom": {"share": 100 - by["seldom"]["unique"]}}
    shards = TokenShards.open(out.path, "train")
    assert np.bincount(shards.sources).tolist() == [by["often"]["documents"], by["seldom"]["documents"]]


def test_held_out_documents_do_not_depend_on_others(tmp_path: Path) -> None:
    rows = [{"text": text(seed)} for seed in range(80)]
    few = make(tmp_path / "few", inputs_from(rows_file(tmp_path / "few.jsonl", rows[:40])))
    many = make(tmp_path / "many", inputs_from(rows_file(tmp_path / "many.jsonl", rows[::-1])))
    known = set(documents(few, "train")) | set(documents(few, "heldout"))
    assert set(documents(few, "heldout")) == set(documents(many, "heldout")) & known


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_and_processes_change_nothing(tmp_path: Path, workers: int) -> None:
    (tmp_path / "texts").mkdir()
    for n in range(40):
        (tmp_path / f"texts/{n:02d}.txt").write_text(text(n, 400))
    rows_file(tmp_path / "texts/rows.jsonl", [{"text": text(100 + n, 400)} for n in range(60)])
    inputs = inputs_from(tmp_path / "texts")
    whole = files(make(tmp_path / "whole", inputs))
    cut = files(make(tmp_path / "cut", inputs, reading={"batch_mib": 0.01}, workers=workers, shard_tokens=5000))
    assert len([name for name in cut if name.endswith(".tokens")]) > 4
    same = ["composition.json", "counts.json", "tokenizer.json", "samples/documents.jsonl", "report.html"]
    assert [cut[name] for name in same] == [whole[name] for name in same]

    def join(contents: dict[str, bytes], ending: str) -> bytes:
        return b"".join(contents[name] for name in sorted(contents) if name.endswith(ending))

    for ending in (".tokens", ".documents"):
        assert join(cut, ending) == join(whole, ending)


def test_a_given_tokenizer_is_taken(tmp_path: Path) -> None:
    import toys

    folder = toys.policy_folder(tmp_path / "model")
    source = rows_file(tmp_path / "texts.jsonl", [{"text": text(seed)} for seed in range(10)])
    inputs = [*inputs_from(source)]
    tokenizer = type(inputs[0])("tokenizer", "model", "checkpoint", "policy", folder, str(folder), "digest")
    out = make(tmp_path / "out", type(inputs_from())([*inputs, tokenizer]), heldout_share=0)
    assert Tokenizer.from_folder(out.path).digest == toys.tokenizer().digest
    shards = TokenShards.open(out.path, "train")
    assert [shards.read(n).tolist() for n in range(10)] == [toys.tokenizer().encode(text(n)) for n in range(10)]


def test_metrics_follow_from_counts_and_stand_in_the_readme(tmp_path: Path) -> None:
    rows = [{"text": text(seed) + " a@b-c.org"} for seed in range(12)] + [{"text": ""}]
    out = make(tmp_path / "out", inputs_from(rows_file(tmp_path / "t.jsonl", rows)), filters={"near": 0.2})
    manifest = Manifest(
        kind="corpus", id="0" * 64, status="done", step="s", room="corpus", recipe="r", metrics=out.metrics
    )
    assert list(source_problems(out.path, manifest)) == []
    readme = README.read_text()
    for metric in out.metrics:
        name = re.sub(r"^(dropped|personal)_(?!documents).*", lambda m: f"{m[1]}_", metric.name)
        name = re.sub(r"^(tokens_per_(?:word|byte))_.*", r"\1", name)
        assert f"`{name}" in readme, metric.name


def test_the_page_stands_alone_and_escapes(tmp_path: Path) -> None:
    rows = [{"text": f"<script>alert(1)</script> a@b-c.org {text(seed)}"} for seed in [*range(8), 0]]
    source = rows_file(tmp_path / "t.jsonl", rows)
    page = (make(tmp_path / "out", inputs_from(source), heldout_share=0).path / "report.html").read_text()
    assert "<script" not in page and "&#34;" not in page[: page.index("</style>")] and "&lt;script&gt;" in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "<svg" not in page and 'class="plots"' not in page, "of one language, source and year no bars are drawn"
    assert "8 of 9 documents" in page and "in 9 documents before copies were dropped" in page


def test_what_has_several_parts_is_drawn(tmp_path: Path) -> None:
    sources = [
        rows_file(tmp_path / f"{name}.jsonl", [{"text": text(seed)} for seed in seeds])
        for name, seeds in (("one", range(6)), ("two", range(6, 12)))
    ]
    page = (make(tmp_path / "out", inputs_from(*sources), heldout_share=0).path / "report.html").read_text()
    assert re.findall(r'<title id="(by-\w+)-title">', page) == ["by-source"]


def test_nothing_kept_is_an_error(tmp_path: Path) -> None:
    source = rows_file(tmp_path / "t.jsonl", [{"text": ""}, {"txt": "x"}])
    with pytest.raises(CharterError, match=r"no document was kept of 2 \(1 empty, 1 no text\); look at"):
        make(tmp_path / "out", inputs_from(source))
    source = rows_file(tmp_path / "u.jsonl", [{"text": text(2)}])  # whose draw is below a half
    with pytest.raises(CharterError, match="every document is held out"):
        make(tmp_path / "other", inputs_from(source), heldout_share=0.5, languages={"other_share": 0})


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        rows_file(tmp_path / name / "t.jsonl", [{"text": text(1)}])
    with pytest.raises(CharterError, match="two text sources are called t"):
        make(tmp_path / "out", inputs_from(tmp_path / "a/t.jsonl", tmp_path / "b/t.jsonl"))


def test_a_plan_knows_time_memory_and_disk(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_bytes(b"x" * 3_000_000)
    (tmp_path / "in/b.txt.gz").write_bytes(b"x" * 1_000_000)
    (tmp_path / "s.yaml").write_text("sources: [{name: s, from: in}]")
    assert text_bytes(tmp_path / "s.yaml") == text_bytes(tmp_path / "in") == 6_000_000
    small, large = (estimate(Settings(), Sizes(threads=2, bytes={"sources": n * 10**9})) for n in (1, 100))
    assert small.minutes is not None and large.minutes is not None and 3 < small.minutes < 10
    assert large.minutes > 50 * small.minutes and large.memory_gib == small.memory_gib
    assert estimate(Settings(), Sizes()).minutes is None
    bare = estimate(Settings.model_validate({"filters": {"near": 0}}), Sizes(bytes={"sources": 10**9}))
    assert small.disk_gib and bare.disk_gib and small.disk_gib == pytest.approx(1.4 * bare.disk_gib, rel=0.02)
    assert "cutoff is 'soon'" in check(Settings.model_validate({"filters": {"cutoff": "soon"}}), {})
