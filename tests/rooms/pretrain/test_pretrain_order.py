"""The order of data: every token once an epoch, whatever the cut, from two numbers and a seed; rows filled well."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pretrain_world as world
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.text.shards import TokenShards
from charter.rooms.pretrain.heldout import describe_coverage, draw_documents
from charter.rooms.pretrain.order import Cursor, Pieces, balance, permute

BOUNDARY = 399


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two corpora, of several shards, with a document that is far over the context."""
    place = tmp_path_factory.mktemp("order")
    long = " ".join(world.texts(30, 9))
    first = world.corpus_folder(place / "one", [*world.texts(40), long], world.texts(3, 5))
    return [first, world.corpus_folder(place / "two", world.texts(25, 7), world.texts(3, 6))]


def pieces(folders: list[Path], context: int = 32) -> Pieces:
    return Pieces([TokenShards.open(folder, "train") for folder in folders], context, BOUNDARY)


@settings(max_examples=40)
@given(count=st.integers(1, 5000), seed=st.integers(0, 2**31 - 1))
def test_places_are_permuted(count: int, seed: int) -> None:
    images = permute(np.arange(count), count, seed)
    assert sorted(images.tolist()) == list(range(count))


def test_permutations_differ_by_seed_and_are_computed_place_by_place() -> None:
    count = 1000
    one, other = (permute(np.arange(count), count, seed) for seed in (1, 2))
    assert (one != other).mean() > 0.98 and (one != np.arange(count)).mean() > 0.98
    assert [int(permute(np.array([n]), count, 1)[0]) for n in (0, 7, 999)] == one[[0, 7, 999]].tolist()
    # neighbours land anywhere: places of the first hundred are spread as a uniform draw's would be
    assert abs(one[:100].mean() - 499.5) < 100 and one[:100].std() > 240
    pairs = np.abs(np.diff(one))
    assert abs(pairs.mean() - count / 3) < 40, "mean distance of two independent uniform places"


def test_a_trillion_places_take_no_memory() -> None:
    count = 10**12
    images = permute(np.array([0, 1, count - 1]), count, 5)
    assert len(set(images.tolist())) == 3 and images.max() < count


@pytest.mark.parametrize("context", [7, 32, 10_000])
def test_every_token_is_learnt_once_behind_the_one_before_it(folders: list[Path], context: int) -> None:
    corpus = pieces(folders, context)
    learnt: Counter[tuple[int, int]] = Counter()
    together: dict[tuple[int, int], list[list[int]]] = {}
    for number in range(corpus.count):
        piece = corpus.piece(number)
        ids = corpus.ids(piece).tolist()
        assert len(ids) == piece.length + 1 <= context + 1
        learnt[piece.part, piece.document] += piece.length
        together.setdefault((piece.part, piece.document), []).append(ids)
    assert sum(learnt.values()) == corpus.tokens
    for (part, document), cut in together.items():
        text = corpus.parts[part].read(document).tolist()
        assert [ids[0] for ids in cut[1:]] == [ids[-1] for ids in cut[:-1]], "a cut loses no token"
        whole = cut[0] + [token for ids in cut[1:] for token in ids[1:]]
        assert whole == [BOUNDARY, *text, BOUNDARY]
        assert [corpus.ids(piece).tolist() for piece in corpus.of(part, document)] == cut


def test_an_epoch_takes_every_piece_once_and_the_next_in_another_order(folders: list[Path]) -> None:
    corpus = pieces(folders)
    cursor, taken = Cursor(), []
    while cursor.epoch < 2:
        step, cursor = corpus.take(cursor, 500, seed=3)
        assert sum(p.length for p in step) >= 500 > sum(p.length for p in step[:-1]), "the fewest that hold them"
        taken += step
    everything = {corpus.piece(n) for n in range(corpus.count)}
    one, two = taken[: corpus.count], taken[corpus.count : 2 * corpus.count]
    assert set(one) == set(two) == everything and len(everything) == corpus.count
    assert one != two
    assert {piece.part for piece in one[:30]} == {0, 1}, "corpora are mixed"


def test_the_order_follows_from_the_place_alone(folders: list[Path]) -> None:
    corpus = pieces(folders)
    cursors, cursor = [Cursor()], Cursor()
    for _ in range(12):
        cursor = corpus.take(cursor, 300, seed=3)[1]
        cursors.append(cursor)
    again = pieces(folders)
    for before, after in itertools.pairwise(cursors):
        assert again.take(before, 300, seed=3)[1] == after
    assert corpus.take(Cursor(), 300, seed=4)[0] != corpus.take(Cursor(), 300, seed=3)[0]


def test_a_batch_may_span_epochs(folders: list[Path]) -> None:
    corpus = pieces(folders)
    step, cursor = corpus.take(Cursor(0, corpus.count - 1), 3 * corpus.tokens, seed=0)
    assert cursor.epoch in (3, 4) and sum(p.length for p in step) >= 3 * corpus.tokens


def test_nothing_to_read_is_one_line(tmp_path: Path) -> None:
    empty = world.corpus_folder(tmp_path / "none", [], world.texts(1))
    with pytest.raises(CharterError, match="no text to learn from"):
        pieces([empty])


@settings(max_examples=60)
@given(lengths=st.lists(st.integers(1, 60), max_size=40), most=st.integers(20, 100), multiple=st.integers(1, 3))
def test_rows_hold_everything_once_within_the_budget(lengths: list[int], most: int, multiple: int) -> None:
    groups = balance(lengths, most, multiple)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert len(groups) % multiple == 0
    assert all(sum(lengths[i] for i in group) <= max([most, *lengths]) for group in groups)
    assert balance(lengths, most, multiple) == groups


def test_rows_are_filled_far_better_than_in_order() -> None:
    draw = np.random.default_rng(0)
    lengths = np.minimum(512, draw.lognormal(5.5, 1.0, 400).astype(int) + 1).tolist()
    groups = balance(lengths, 2048)
    assert len(groups) <= -(-sum(lengths) // 2048) + 1, "at most one row more than full rows would be"
    tokens = [sum(lengths[i] for i in group) for group in groups]
    assert max(tokens) - min(tokens) < 64, "and about equally full, so that processes finish together"


def test_the_toys_boundary_is_the_token_that_opens_texts() -> None:
    words = toys.tokenizer()
    assert words.opening == [] or words.opening == [words.eos_id if words.bos_id is None else words.bos_id]


def test_held_out_documents_that_do_not_fit_are_passed_over(tmp_path: Path) -> None:
    long, short = " ".join(["stone"] * 400), ["a cat", "the old cat", "fish"]
    folder = world.corpus_folder(tmp_path / "one", ["cat"], [long, *short, long])
    shards = TokenShards.open(folder, "heldout")
    both = Pieces([shards, shards], 32, BOUNDARY)
    small = sum(int(shards.lengths[n]) for n in (1, 2, 3))
    assert sorted(draw_documents(both, 2 * small)) == [(part, n) for part in (0, 1) for n in (1, 2, 3)]
    everything = draw_documents(both, both.tokens)
    assert sorted(everything) == [(part, n) for part in (0, 1) for n in range(5)] != everything, "drawn"
    assert draw_documents(both, 1) == [(0, int(np.argmin(shards.lengths)))], "one at least, the shortest"
    rows = [{"tokens": int(shards.lengths[n])} for n in (1, 2, 3)]
    told = describe_coverage(rows, Pieces([shards], 32, BOUNDARY))
    assert told.startswith(f"measured on 3 of 5 held-out documents, {small} of {shards.tokens:,} tokens; ")
