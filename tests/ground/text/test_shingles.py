"""Hashed words and runs against plain strings, and overlap by hashes against overlap by tuples."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from charter.ground.text import shingles as floor
from charter.ground.text.overlap import LEAST, SIZE, Items, words
from charter.ground.text.shingles import runs_of, shingles, shingles_at, word_hashes

TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("ab AB_.,\n"), max_size=80)
FEW = st.lists(st.sampled_from(["one", "two", "Three", "four,"]), max_size=60).map(" ".join)


def hash_words(text: str, apart: bool = False) -> list[int]:
    return [int(h) for block in word_hashes(text, apart) for h in block]


def hit_by_tuples(items: dict[str, str], text: str) -> set[str]:
    """The rule of overlap, written with tuples of words."""
    names, own = set(), words(text)
    for name, item in items.items():
        theirs = words(item)
        size = min(SIZE, len(theirs))
        runs = {tuple(theirs[i : i + size]) for i in range(len(theirs) - size + 1)}
        if size >= LEAST and runs & {tuple(own[i : i + size]) for i in range(len(own) - size + 1)}:
            names.add(name)
    return names


@given(TEXTS)
def test_words_are_those_of_overlap(text: str) -> None:
    plain, hashes = words(text), hash_words(text)
    assert len(plain) == len(hashes)
    assert len(set(plain)) == len(set(hashes)) == len(set(zip(plain, hashes, strict=True)))


def test_scripts_without_blanks_are_read_letter_by_letter_and_vowel_signs_stay_in_their_words() -> None:
    assert len(hash_words("我喜欢 abc 吃饭", apart=True)) == 6
    assert len(hash_words("हिन्दी भाषा", apart=True)) == 2
    assert hash_words("Plain English, 2 words?", apart=True) == hash_words("plain english 2 words")


def test_a_text_read_in_blocks_has_the_words_of_one_read_at_once(monkeypatch) -> None:
    text = "The quick brown fox, 12 of them; jumps over\nthe lazy dog. " * 40
    whole, runs = hash_words(text), np.concatenate(list(runs_of(text, 5)))
    floor._powers.cache_clear()
    monkeypatch.setattr(floor, "BLOCK", 64)
    try:
        assert hash_words(text) == whole
        assert np.array_equal(np.concatenate(list(runs_of(text, 5))), runs)
        assert len(hash_words("a" * 1000)) == 32  # a word over the block is cut
    finally:
        floor._powers.cache_clear()


def test_equal_runs_have_equal_hashes_and_others_do_not() -> None:
    hashes = np.array(hash_words("a b c a b c b a"), np.uint64)
    runs = shingles(hashes, 3)
    assert runs[0] == runs[3] and len(set(runs.tolist())) == 5
    assert np.array_equal(shingles_at(hashes, np.array([0, 3]), 3), runs[[0, 3]])
    assert len(next(runs_of("too short", 5))) == 1 and not list(runs_of("...", 5))


@given(st.dictionaries(st.sampled_from("abc"), FEW), FEW)
def test_overlap_by_hashes_equals_overlap_by_tuples(items: dict[str, str], text: str) -> None:
    index = Items(items)
    assert index.hit_by([text]) == hit_by_tuples(items, text)
    assert index.unchecked == {name for name, item in items.items() if len(words(item)) < LEAST}
