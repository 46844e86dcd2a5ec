"""Finds duplicate documents: exact copies by a fingerprint, near copies by MinHash (Broder 1997).

A document's shingles are its runs of SHINGLE words. Under a random order of all shingles, the first ones of two
documents are equal with the probability J = |A & B| / |A | B| (Jaccard). A signature holds the first shingle under each
of k orders. The share of equal places estimates J with the deviation sqrt(J (1 - J) / k). Orders are h -> a h + b
modulo 2^32, a odd.

Candidates share a band: of b bands of r places each, two documents share one with P(J) = 1 - (1 - J^r)^b, an S curve.
`bands` takes the largest r that still finds pairs at the threshold with RECALL, which gives the fewest candidates. Each
candidate is then compared by the signatures' estimate, so the threshold decides, not the curve.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from charter.ground.artifact.errors import CharterError
from charter.ground.text.shingles import Hashes, mix64, runs_of

Signature = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.int64]

SHINGLE = 5
RECALL = 0.99
# Shingles hashed at once under all orders: the table fits a core's cache.
_COLUMNS = 256
# Band keys sorted at once and pairs compared at once: they bound memory.
_KEYS, _PAIRS = 1 << 22, 1 << 14
# Leaders to compare in a bucket; members that match none of them are left to the other bands.
_ROUNDS = 32


def fingerprint(text: str) -> bytes:
    """A fingerprint of 16 bytes, equal for texts that differ only in case and blanks."""
    plain = " ".join(text.casefold().split())
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def first_equal(fingerprints: npt.NDArray[np.void]) -> Numbers:
    """For each document the number of the first one with its fingerprint (if its own, keep it), [documents]."""
    _, first, inverse = np.unique(fingerprints, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def signature(text: str, permutations: int = 128, seed: int = 0) -> Signature:
    """The MinHash signature of a text, [permutations]; without words every place is the largest number.

    A text of fewer than SHINGLE words is one shingle.
    """
    factor, shift = _orders(permutations, seed)
    least = np.full(permutations, np.iinfo(np.uint32).max, np.uint32)
    for block in runs_of(text, SHINGLE):
        hashes = (block >> np.uint64(32)).astype(np.uint32)
        for start in range(0, len(hashes), _COLUMNS):
            ranks = hashes[start : start + _COLUMNS] * factor
            ranks += shift
            np.minimum(least, ranks.min(axis=1), out=least)
    return least


@cache
def _orders(permutations: int, seed: int) -> tuple[Signature, Signature]:
    """Factors and shifts as columns, [permutations, 1]."""
    values = mix64(np.arange(1, 2 * permutations + 1, dtype=np.uint64) + np.uint64((seed + 1) << 32))
    halves = (values >> np.uint64(32)).astype(np.uint32)[:, None]
    return halves[:permutations] | np.uint32(1), halves[permutations:]


def likeness(first: Signature, second: Signature) -> npt.NDArray[np.float64]:
    """Estimated Jaccard similarity of signatures, [..., permutations] each -> [...]."""
    return np.asarray((first == second).mean(axis=-1))


def match_probability(jaccard: float, bands: int, rows: int) -> float:
    """The S curve: the probability that two documents of this similarity share a band."""
    return float(1 - (1 - jaccard**rows) ** bands)


def bands(permutations: int, threshold: float, recall: float = RECALL) -> tuple[int, int]:
    """(bands, rows of each) with the most rows that still find a pair at the threshold with `recall`."""
    fitting = [
        (permutations // rows, rows)
        for rows in range(1, permutations + 1)
        if match_probability(threshold, permutations // rows, rows) >= recall
    ]
    return fitting[-1] if fitting else (permutations, 1)


class NearDuplicates:
    """Finds near copies of earlier documents among any number of documents in order.

    Files in `folder` hold signatures and band keys and overwrite earlier ones. Memory holds 8 bytes a document and, for
    one part of a band at a time, about 100 bytes for each of _KEYS documents.
    """

    def __init__(self, folder: Path, permutations: int = 128, threshold: float = 0.8) -> None:
        """`threshold`: least estimated Jaccard similarity of near copies."""
        self.permutations, self.threshold = permutations, threshold
        self.bands, self.rows = bands(permutations, threshold)
        self.count = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._signatures = folder / "signatures.u4"
        self._keys = [folder / f"band{band:03d}.u8" for band in range(self.bands)]
        for path in (self._signatures, *self._keys):
            path.write_bytes(b"")

    def add(self, signatures: Signature) -> None:
        """Adds the next documents' signatures, [documents, permutations]. Raises CharterError for another width."""
        if signatures.ndim != 2 or signatures.shape[1] != self.permutations:
            raise CharterError(
                f"signatures of shape {list(signatures.shape)}, expected [documents, {self.permutations}]; "
                "make all of them with the same permutations"
            )
        with self._signatures.open("ab") as file:
            file.write(np.ascontiguousarray(signatures, np.uint32).tobytes())
        for band, path in enumerate(self._keys):
            with path.open("ab") as file:
                file.write(self._key(signatures, band).tobytes())
        self.count += len(signatures)

    def _key(self, signatures: Signature, band: int) -> Hashes:
        """A hash of a band's places, [documents]."""
        hashes = np.full(len(signatures), band, np.uint64)
        for place in range(band * self.rows, (band + 1) * self.rows):
            hashes = mix64(hashes + signatures[:, place])
        return hashes

    def first(self) -> Numbers:
        """For each document the number of the first one in its cluster (if its own, keep it), [documents].

        Clusters are the connected components of the compared pairs that share a band and reach the threshold. In a
        band's bucket, each member is compared with the first; the members that differ, with the first of them; and so
        on.
        """
        cluster = np.arange(self.count)
        if not self.count:
            return cluster
        shape = (self.count, self.permutations)
        signatures: Signature = np.memmap(self._signatures, np.uint32, "r", shape=shape)
        for path in self._keys:
            keys: Hashes = np.memmap(path, np.uint64, "r", shape=(self.count,))
            for members, buckets in self._buckets(keys):
                self._join(signatures, cluster, members, buckets)
        return cluster

    def _buckets(self, keys: Hashes) -> Iterator[tuple[Numbers, Hashes]]:
        """(documents, their keys) that share a key with another, sorted by key and number, one part of the keys at a
        time."""
        parts = -(-self.count // _KEYS)
        for part in range(parts):
            places = [
                start + np.flatnonzero(keys[start : start + _KEYS] % np.uint64(parts) == part)
                for start in range(0, self.count, _KEYS)
            ]
            numbers = np.concatenate(places)
            sorted_keys = keys[numbers]
            order = np.argsort(sorted_keys, kind="stable")
            numbers, sorted_keys = numbers[order], sorted_keys[order]
            same = sorted_keys[1:] == sorted_keys[:-1]
            shared = np.zeros(len(sorted_keys), bool)
            shared[1:] = same
            shared[:-1] |= same
            yield numbers[shared], sorted_keys[shared]

    def _join(self, signatures: Signature, cluster: Numbers, members: Numbers, keys: Hashes) -> None:
        """Compares each bucket's members with its first; those that differ, with the first of them; and so on."""
        for _ in range(_ROUNDS):
            if not len(members):
                return
            starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
            lengths = np.diff(np.r_[starts, len(keys)])
            leaders = np.repeat(members[starts], lengths)
            fits = cluster[leaders] == cluster[members]
            open_ = np.flatnonzero(~fits)
            for start in range(0, len(open_), _PAIRS):
                some = open_[start : start + _PAIRS]
                alike = likeness(signatures[leaders[some]], signatures[members[some]])
                fits[some] = alike >= self.threshold
            _unite(cluster, leaders[open_][fits[open_]], members[open_][fits[open_]])
            members, keys = members[~fits], keys[~fits]


def _unite(cluster: Numbers, ones: Numbers, others: Numbers) -> None:
    """Merges the clusters of pairs in place; a cluster's name is its first document."""
    for first, second in zip(ones.tolist(), others.tolist(), strict=True):
        a, b = _root(cluster, first), _root(cluster, second)
        cluster[max(a, b)] = min(a, b)
    while not np.array_equal(above := cluster[cluster], cluster):
        cluster[:] = above


def _root(cluster: Numbers, number: int) -> int:
    while (above := int(cluster[number])) != number:
        cluster[number] = cluster[above]
        number = above
    return number
