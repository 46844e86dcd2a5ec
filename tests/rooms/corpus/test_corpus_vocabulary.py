"""The training sample of a tokenizer: never empty, about the requested size, and fixed by the seed."""

from pathlib import Path

import numpy as np
import pytest
from corpus_world import Heard, inputs_from, make, rows_file, text

from charter.ground.settings.room import Given
from charter.ground.text.tokenizer import Tokenizer, train_tokenizer
from charter.rooms.corpus.selection import KEPT, Selection, Table
from charter.rooms.corpus.settings import Settings, Vocabulary, check
from charter.rooms.corpus.vocabulary import sample

MIB = 1 << 20


def table_of(sizes: list[int]) -> Table:
    """Documents of these sizes in bytes."""
    count = len(sizes)
    none = np.zeros(count, np.uint16)
    key = np.random.default_rng(3).integers(0, 2**63, count).astype(np.uint64)
    own = np.array(sizes, np.uint32)
    return Table((), ("en",), none, none, none, own, own, key, np.array([0, count]))


def selected(times: list[int], heldout: list[bool] | None = None) -> Selection:
    count = len(times)
    mask = np.array(heldout or [False] * count)
    return Selection(np.full(count, KEPT, np.uint8), np.array(times, np.uint16), mask, 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_few_large_documents_give_one_at_least_and_not_all(seed: int) -> None:
    table = table_of([2 * MIB] * 5)
    mask = sample(table, selected([1] * 4 + [0]), Vocabulary(sample_mib=0.5), seed)
    assert mask.sum() == 1 and not mask[4]
    assert sample(table, selected([1] * 5), Vocabulary(sample_mib=5), seed).sum() == 3
    assert sample(table, selected([1] * 5), Vocabulary(), seed).all()
    selection = selected([1] * 5, [True] + [False] * 4)
    assert sample(table, selection, Vocabulary(), seed).tolist() == [False] + [True] * 4


def test_a_document_that_is_taken_more_often_is_likelier_in_the_sample() -> None:
    count = 20_000
    times = [1] * (count // 2) + [3] * (count // 2)
    mask = sample(table_of([1000] * count), selected(times), Vocabulary(sample_mib=1), 1)
    assert mask.sum() == -(-MIB // 1000)
    assert 2.5 < mask[count // 2 :].sum() / mask[: count // 2].sum() < 3.6
    other = sample(table_of([1000] * count), selected(times), Vocabulary(sample_mib=1), 2)
    assert (mask & other).sum() < 0.2 * mask.sum()


def test_a_sample_too_small_for_the_vocabulary_is_said(tmp_path: Path) -> None:
    source = rows_file(tmp_path / "t.jsonl", [{"text": text(n)} for n in range(9)])
    heard = Heard()
    large = {"size": 5000, "sample_mib": 1}
    out = make(tmp_path / "out", inputs_from(source), heard=heard, vocabulary=large, heldout_share=0)
    size = Tokenizer.from_folder(out.path).vocab_size
    assert size < 5000 and f"the tokenizer has {size:,} tokens, fewer than `vocabulary.size` 5,000" in heard.lines[0]


def test_a_vocabulary_without_room_for_bytes_and_specials_is_refused() -> None:
    assert train_tokenizer(["a"], 300, spare=40).vocab_size == 300
    assert check(Settings(vocabulary=Vocabulary(size=300, spare=40)), {}) == ""
    small = Settings(vocabulary=Vocabulary(size=300, spare=41))
    assert "vocabulary.size is 300, but bytes, special tokens and vocabulary.spare need 301" in check(small, {})


def test_a_vocabulary_beside_a_given_tokenizer_is_refused() -> None:
    beside = {"tokenizer": [Given("policy")]}
    assert check(Settings(vocabulary=Vocabulary(spare=2)), beside).startswith("vocabulary.spare has no effect")
    assert check(Settings(), beside) == ""
