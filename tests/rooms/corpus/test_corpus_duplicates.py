"""MinHash against exact Jaccard, bands against their curve, and clusters against a slow method."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.text.overlap import words
from charter.rooms.corpus import duplicates
from charter.rooms.corpus.duplicates import (
    NearDuplicates,
    bands,
    fingerprint,
    first_equal,
    likeness,
    match_probability,
    signature,
)

WORDS = [f"word{number}" for number in range(2000)]


def jaccard(one: str, other: str, size: int = duplicates.SHINGLE) -> float:
    sets = []
    for text in (one, other):
        own = words(text)
        sets.append({tuple(own[i : i + size]) for i in range(max(1, len(own) - size + 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def varied(rng: random.Random, text: str, changes: int) -> str:
    own = text.split()
    for place in rng.sample(range(len(own)), changes):
        own[place] = rng.choice(WORDS)
    return " ".join(own)


def pairs(count: int, length: int = 200, seed: int = 1) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=length)) for _ in range(count)]
    return [(text, varied(rng, text, rng.randrange(0, length // 4))) for text in texts]


@given(st.text(max_size=40))
def test_a_fingerprint_knows_neither_case_nor_blanks(text: str) -> None:
    assert fingerprint(f"  {text}\n\n") == fingerprint(text)
    assert fingerprint("One \t\nTwo".upper()) == fingerprint("one two")
    assert len(fingerprint(text)) == 16
    assert fingerprint(text + "x") != fingerprint(text)


def test_the_first_of_equal_fingerprints_is_named() -> None:
    texts = ["a", "b", "A ", "c", "B", "a"]
    fingerprints = np.array([np.void(fingerprint(text)) for text in texts])
    assert first_equal(fingerprints).tolist() == [0, 1, 0, 3, 1, 0]


def test_the_estimate_errs_as_theory_says() -> None:
    for permutations in (64, 256):
        errors, deviations = [], []
        for one, other in pairs(150):
            exact = jaccard(one, other)
            errors.append(likeness(signature(one, permutations), signature(other, permutations)) - exact)
            deviations.append(np.sqrt(exact * (1 - exact) / permutations))
        assert max(deviations) <= 0.5 / np.sqrt(permutations)
        spread = np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(deviations)))
        assert 0.85 < spread < 1.15
        assert abs(np.mean(errors)) < 4 * np.mean(deviations) / np.sqrt(len(errors))


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(0, 5))
def test_equal_texts_have_equal_signatures_whatever_stands_between_their_words(words: list[str], seed: int) -> None:
    one, other = signature(" ".join(words), 16, seed), signature(",\n ".join(words).upper() + " !", 16, seed)
    assert np.array_equal(one, other)
    assert (one == np.iinfo(np.uint32).max).all() == (not words)


def test_a_seed_is_an_order_of_its_own() -> None:
    one, other = pairs(1)[0]
    estimates = [likeness(signature(one, 64, seed), signature(other, 64, seed)) for seed in range(8)]
    assert len(set(map(float, estimates))) > 1
    assert not np.array_equal(signature(one, 64, 0), signature(one, 64, 1))


def test_bands_are_the_widest_that_find_pairs_at_the_threshold() -> None:
    assert bands(128, 0.8) == (21, 6)
    assert match_probability(0.8, 21, 6) == pytest.approx(1 - (1 - 0.8**6) ** 21)
    assert match_probability(0.8, 18, 7) < duplicates.RECALL < match_probability(0.8, 21, 6)
    for permutations, threshold in ((16, 0.5), (64, 0.7), (256, 0.9)):
        count, rows = bands(permutations, threshold)
        assert count * rows <= permutations and match_probability(threshold, count, rows) >= duplicates.RECALL


def world(seed: int = 3) -> list[str]:
    """Twelve texts, each with some near copies, in a random order."""
    rng = random.Random(seed)
    texts = []
    for _ in range(12):
        text = " ".join(rng.choices(WORDS, k=150))
        texts += [text] + [varied(rng, text, rng.randrange(0, 12)) for _ in range(rng.randrange(0, 5))]
    rng.shuffle(texts)
    return texts


def slow(signatures: np.ndarray, threshold: float) -> list[int]:
    """The first document of each document's cluster, from all pairs."""
    cluster = list(range(len(signatures)))
    for j in range(len(signatures)):
        for i in range(j):
            if cluster[i] != cluster[j] and likeness(signatures[i], signatures[j]) >= threshold:
                low, high = sorted((cluster[i], cluster[j]))
                cluster = [low if c == high else c for c in cluster]
    return cluster


def test_clusters_are_those_of_all_pairs_however_the_documents_come(tmp_path: Path) -> None:
    signatures = np.array([signature(text) for text in world()])
    expected = slow(signatures, 0.8)
    assert 12 <= len(set(expected)) < len(signatures)
    for piece in (1, 7, 1000):
        near = NearDuplicates(tmp_path / "near")
        for start in range(0, len(signatures), piece):
            near.add(signatures[start : start + piece])
        assert near.first().tolist() == expected


def test_small_parts_and_crowded_buckets_change_nothing(tmp_path: Path, monkeypatch) -> None:
    signatures = np.array([signature(text) for text in world(5)] + [signature("the same")] * 30)
    expected = slow(signatures, 0.8)
    monkeypatch.setattr(duplicates, "_KEYS", 8)
    monkeypatch.setattr(duplicates, "_PAIRS", 4)
    near = NearDuplicates(tmp_path)
    near.add(signatures)
    assert near.first().tolist() == expected
    # documents that share a band and nothing else: all fall into one bucket and only the twins stay together
    rows = bands(32, 0.8)[1]
    noise = np.random.default_rng(0).integers(0, 2**32, (12, 32), dtype=np.uint32)
    noise[:, :rows] = 7
    noise[9] = noise[4]
    near = NearDuplicates(tmp_path, 32)
    near.add(noise)
    assert near.first().tolist() == [*range(9), 4, 10, 11]
    monkeypatch.setattr(duplicates, "_ROUNDS", 3)
    assert near.first().tolist() == [*range(9), 4, 10, 11]  # another band tells


def test_nothing_is_nothing_and_another_width_is_refused(tmp_path: Path) -> None:
    near = NearDuplicates(tmp_path)
    assert near.first().tolist() == []
    with pytest.raises(CharterError, match=r"expected \[documents, 128\]"):
        near.add(np.zeros((2, 64), np.uint32))
