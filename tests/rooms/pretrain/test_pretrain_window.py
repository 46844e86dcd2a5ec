"""The long-context stage: which texts fill a window, what is written into them, and that the window grows as told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pretrain_world as world
import pytest

import toys
from charter.ground.artifact.curves import read_log
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.model.checkpoint import load_policy, save_policy
from charter.ground.model.rope import enlarge
from charter.ground.settings.room import Filled, Given, Sizes
from charter.ground.text.facts import HELD_PLACES, HELD_WORDS
from charter.ground.text.shards import TokenShards
from charter.rooms.pretrain import window as lookups
from charter.rooms.pretrain.order import Cursor, Piece
from charter.rooms.pretrain.run import run
from charter.rooms.pretrain.settings import Settings, check, estimate
from charter.rooms.pretrain.size import Stage, Window, spans
from charter.rooms.pretrain.start import boundary_of
from charter.rooms.pretrain.window import LongText, LongTexts, Lookups, Stream, parts, stage_of, streams

TRAIN, HELDOUT = world.texts(120), world.texts(12, 1)
B = boundary_of(toys.tokenizer())
STAGES = (Stage(window=64, steps=3), Stage(window=256, steps=2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.corpus_folder(tmp_path_factory.mktemp("toy") / "corpus", TRAIN, HELDOUT)


@pytest.fixture(scope="module")
def shards(folder: Path) -> TokenShards:
    return TokenShards.open(folder, "train")


def plain(shards: TokenShards, chosen: list[int]) -> list[int]:
    """What a stream is, written out."""
    return [token for n in chosen for token in (B, *shards.read(n).tolist())] + [B]


def test_a_stream_is_the_documents_of_a_source_with_a_boundary_before_each(shards: TokenShards) -> None:
    chosen = np.flatnonzero(shards.sources == 1)
    stream, wanted = Stream(shards, chosen, B), plain(shards, chosen.tolist())
    assert len(stream) == len(wanted) - 1
    for start in (0, 1, 5, 77, len(stream) - 1):
        for count in (1, 2, 30, len(wanted)):
            assert stream.read(start, count).tolist() == wanted[start : start + count]


def test_texts_begin_at_documents_or_go_on_in_one_that_is_longer(shards: TokenShards) -> None:
    chosen = np.flatnonzero(shards.sources == 0)
    stream = Stream(shards, chosen, B)
    for window in (16, 50, 400):
        cuts = stream.cuts(window)
        assert all(later - earlier >= window for earlier, later in pairwise(cuts.tolist()))
        assert cuts[-1] + window <= len(stream)
        for at in cuts.tolist():
            document = int(np.searchsorted(stream.starts, at, "right")) - 1
            begins = at == stream.starts[document]
            assert begins or at + window <= stream.starts[document + 1]
    assert len(stream.cuts(16)) > len(chosen)  # long documents give several


def test_sources_shorter_than_the_window_join_each_other(shards: TokenShards) -> None:
    sizes = [len(Stream(shards, np.flatnonzero(shards.sources == n), B)) for n in range(2)]
    assert [len(s) for s in streams(shards, B, min(sizes))] == sizes
    assert [len(s) for s in streams(shards, B, max(sizes) + 1)] == [sum(sizes)]
    assert streams(shards, B, sum(sizes) + 1) == []
    with pytest.raises(CharterError, match="no corpus fills a window"):
        LongTexts([shards], sum(sizes) + 1, B, Window(), None)


def test_documents_that_are_longer_than_their_share_come_in_some_steps(shards: TokenShards) -> None:
    """Of one window of 16 tokens a step, a third is less than half a document: three quarters hold over many steps."""
    texts = LongTexts([shards], 16, B, Window(long=0.75), None)
    mean = texts.documents.tokens / texts.documents.count
    assert mean / 2 > 16 / 3
    beside = [texts.take(Cursor(0, step), 8, 7)[0][1:] for step in range(60)]
    assert {len(pieces) for pieces in beside} == {0, 1}
    assert sum(map(len, beside)) * mean == pytest.approx(60 * 16 / 3, rel=0.1)


def test_a_step_holds_its_share_of_whole_windows_and_each_text_once_an_epoch(shards: TokenShards) -> None:
    texts = LongTexts([shards], 64, B, Window(long=0.75), None)
    seen: Counter[LongText] = Counter()
    cursor, tokens = Cursor(), []
    for _ in range(texts.count):
        batch, cursor = texts.take(cursor, 256, 7)
        long = [piece for piece in batch if isinstance(piece, LongText)]
        seen.update(long)
        tokens.append(sum(piece.length for piece in batch) - 64 * len(long))
        assert len(long) == 3
        for piece in batch:
            ids = texts.ids(piece)
            assert len(ids) == piece.length + 1
    assert set(seen.values()) == {3} and len(seen) == texts.count
    assert np.mean(tokens) == pytest.approx(64, rel=0.1)
    again, _ = texts.take(Cursor(0, 2), 256, 7)
    assert again == texts.take(Cursor(0, 2), 256, 7)[0] != texts.take(Cursor(0, 3), 256, 7)[0]
    assert texts.take(Cursor(0, 2), 256, 8)[0] != again


def test_facts_are_stated_before_they_are_asked_for(shards: TokenShards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "LEAST", 4)
    monkeypatch.setattr(lookups, "EVERY", 120)
    lookup_texts = Lookups(["granite", "basket", "violet", "mirror", HELD_WORDS[0], HELD_PLACES[0]], toys.tokenizer())
    assert lookup_texts.words == ["basket", "granite", "mirror", "violet"]
    stream = streams(shards, B, 700)[0]
    ids = stream.read(0, 701)
    text_ids = lookup_texts.write(ids, 5)
    assert len(text_ids) == len(ids) and text_ids[0] == B
    assert text_ids.tolist() == lookup_texts.write(ids, 5).tolist() != lookup_texts.write(ids, 6).tolist()
    text = toys.tokenizer().decode(text_ids[1:].tolist())
    places = [part.split("?\n")[0] for part in text.split("What is the password of the ")[1:]]
    assert sorted(places) == lookup_texts.words
    for place in places:
        before, _, behind = text.partition(f"What is the password of the {place}?\n")
        fact = behind.split(".")[0]
        assert fact.startswith(f"The password of the {place} is ") and fact in before
    with pytest.raises(CharterError, match="20 tokens has no room for a fact"):
        lookup_texts.write(ids[:20], 5)
    monkeypatch.setattr(lookups, "EVERY", 20)  # more than fit
    crowded = toys.tokenizer().decode(lookup_texts.write(ids[:150], 5)[1:].tolist())
    assert crowded.count("What is the password of the ") in (1, 2, 3)
    with pytest.raises(CharterError, match="words to make facts of"):
        monkeypatch.setattr(lookups, "LEAST", 5)
        Lookups(["granite", "basket"], toys.tokenizer())


def test_only_the_share_that_is_wanted_holds_facts(folder: Path, shards: TokenShards) -> None:
    words = Lookups([f"{a}{b}word" for a in "abcdefgh" for b in "abcdefghij"], toys.tokenizer())
    texts = LongTexts([shards], 64, B, Window(long=1, lookups=0.3), words)
    draw_documents = [texts._long(n, 1).seed is not None for n in range(400)]
    assert sum(draw_documents) / 400 == pytest.approx(0.3, abs=0.08)
    with pytest.raises(CharterError, match="words to make facts of"):
        Lookups.of([shards], toys.tokenizer())  # the toy world has fewer words


def test_stages_follow_one_another() -> None:
    window = Window(stages=STAGES)
    assert [stage_of(window, n) for n in range(7)] == [0, 0, 0, 1, 1, 1, 1]
    assert window.steps == 5 and stage_of(Window(), 3) == 0
    (whole, seen), (rest, _), (last, far), (little, _) = spans(window, 200)
    assert (whole, seen, rest) == (3 * 2 * 64, 32.0, 3 * 43)  # two texts of 64 in 200, and a third of that beside
    assert (last, far, little) == (2 * 256, 128.0, 2 * 85)  # one of 256, though a step has 200


def test_a_bar_counts_the_steps_of_one_window() -> None:
    window = Window(stages=STAGES)
    both = [("pretrain, window 64", 0, 3), ("pretrain, window 256", 3, 5)]
    assert list(parts(window, 5, 0)) == list(parts(window, 5, 2)) == both
    assert list(parts(window, 5, 3)) == both[1:] and list(parts(window, 5, 5)) == []
    assert list(parts(Window(), 7, 0)) == list(parts(Window(), 7, 7)) == [("pretrain", 0, 7)]


def long_run(folder: Path, tmp_path: Path, name: str, window: Window) -> Path:
    start = tmp_path / "start"
    if not start.exists():
        shape = replace(toys.SHAPE, max_positions=32)
        save_policy(toys.model(shape=shape, scale=2.0), toys.tokenizer(), start)
    out = toys.workspace(tmp_path / name)
    settings = world.settings(sizing=Settings().sizing, window=window)
    run(settings, Inputs([world.corpus(folder), toys.policy(start)]), out)
    return out.path


@pytest.mark.parametrize("method", ["base", "yarn"])
def test_the_window_grows_by_steps_and_the_checkpoint_says_so(folder: Path, tmp_path: Path, method: str) -> None:
    path = long_run(folder, tmp_path, "a", Window.model_validate({"stages": STAGES, "method": method}))
    shape = load_policy(path)[0].shape
    start = replace(toys.SHAPE, max_positions=32)
    assert shape == enlarge(start, 256, method)  # type: ignore[arg-type]
    config = json.loads((path / "config.json").read_text())
    assert config["max_position_embeddings"] == 256
    derived = json.loads((path / "derived.json").read_text())
    assert derived["shape"] == asdict(shape) and derived["context"] == 256
    log = read_log(path)
    assert [row["step"] for row in log] == list(range(5))
    assert log[2]["tokens"] < 3 * 400 and log[4]["tokens"] >= log[3]["tokens"] + 256


def test_a_stage_that_was_stopped_ends_in_the_same_bits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = long_run(folder, tmp_path, "whole", Window(stages=STAGES))
    real, taken = LongTexts.take, list[Cursor]()

    def killed(self: LongTexts, cursor: Cursor, tokens: int, seed: int) -> tuple[list[Piece | LongText], Cursor]:
        taken.append(cursor)
        if len(taken) == 5:
            raise KeyboardInterrupt
        return real(self, cursor, tokens, seed)

    monkeypatch.setattr(LongTexts, "take", killed)
    with pytest.raises(KeyboardInterrupt):
        long_run(folder, tmp_path, "parts", Window(stages=STAGES))
    parts = long_run(folder, tmp_path, "parts", Window(stages=STAGES))
    assert taken[5] == Cursor(0, 3)  # resumed at the last state
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_what_contradicts_itself_is_said() -> None:
    def wrong(roles: Filled, more: Mapping[str, object] = {}, **window: object) -> str:
        return check(Settings.model_validate({"window": window, **more}), roles)

    both = {"corpus": [Given("corpus")], "policy": [Given("base", 32)]}
    assert "name it under `policy`" in wrong({}, stages=[{"window": 64, "steps": 1}])
    assert "larger than the last" in wrong(both, stages=[{"window": 64, "steps": 1}, {"window": 64, "steps": 1}])
    stages = [{"window": 1024, "steps": 1}]
    assert "has no effect on method yarn" in wrong(both, method="yarn", base=5e5, stages=stages)
    assert wrong(both, lookups=1.0).startswith("window.lookups has no effect without window.stages")
    assert wrong(both, stages=stages) == ""
    wide = {"policy": [Given("base", 1024)]}
    assert "begins at 1024 tokens, and base already reads 1024" in wrong(wide, stages=stages)
    assert wrong({"policy": [Given("base")]}, stages=stages) == "", "unknown yet"
    for more, name in (
        ({"learning": {"steps": 99}}, "learning.steps"),
        ({"learning": {"tokens": 9999}}, "learning.tokens"),
        ({"learning": {"tokens_per_weight": 2}}, "learning.tokens_per_weight"),
        ({"sizing": {"context": 128}}, "sizing.context"),
        ({"size": "mini"}, "size"),
        ({"sizing": {"layers": 3}}, "sizing.layers"),
    ):
        assert wrong(both, more, stages=stages).startswith(f"{name} has no effect"), name


def test_a_plan_counts_the_attention_of_long_windows() -> None:
    plans = [
        estimate(Settings(window=Window(long=1, stages=(Stage(window=w, steps=8),))), Sizes())
        for w in (65_536, 131_072, 262_144)
    ]
    minutes, memory = [plan.minutes for plan in plans], [plan.memory_gib for plan in plans]
    assert memory[2] - memory[1] == pytest.approx(2 * (memory[1] - memory[0]), rel=1e-6)  # linear
    assert 1.5 < minutes[1] / minutes[0] < 4.5 and 3.0 < minutes[2] / minutes[1] < 4.2
