"""Checks the numbers of a corpus against each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from charter.ground.artifact.curves import read_object
from charter.ground.artifact.manifest import Manifest

# numbers that are sums over the parts of a corpus
ADDED = ("unique", "documents", "heldout", "bytes", "tokens")
COUNTED = dict(zip(ADDED, ("documents_unique", "documents", "documents_heldout", "bytes", "tokens"), strict=True))


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yields contradictions: composition.json must agree with counts.json and the shards, and its parts must add up."""
    whole, counts = read_object(folder / "composition.json"), read_object(folder / "counts.json")
    splits = read_object(folder / "corpus.json")["splits"]
    total, by = whole["total"], whole["by"]
    shards = [shard for split in splits.values() for shard in split]
    in_shards = {key: sum(shard[key] for shard in shards) for key in ("bytes", "tokens")}
    in_shards["documents"], in_shards["heldout"] = (
        sum(s["documents"] for s in splits[k]) for k in ("train", "heldout")
    )
    for key in ADDED:
        if total[key] != counts[COUNTED[key]]:
            yield f"composition.json has {total[key]} {key}; counts.json says {counts[COUNTED[key]]}"
        if key in in_shards and total[key] != in_shards[key]:
            yield f"composition.json has {total[key]} {key}; the shards hold {in_shards[key]}"
        for name, parts in by.items():
            if (part_sum := sum(part[key] for part in parts.values())) != total[key]:
                yield f"composition.json: {key} by {name} add up to {part_sum}, not {total[key]}"
    documents_read, dropped = (sum(part["read"] for part in by["source"].values()), sum(whole["dropped"].values()))
    if documents_read != counts["documents_read"] or documents_read - dropped != total["unique"]:
        yield (
            f"composition.json: {documents_read} documents read less {dropped} dropped aren't the "
            f"{total['unique']} kept of {counts['documents_read']} in counts.json"
        )
