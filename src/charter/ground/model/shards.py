"""How weights are split into safetensors files: one file, or numbered shards with an index if they are large."""

import json
from collections.abc import Mapping
from pathlib import Path

SHARD_BYTES = 4_000_000_000
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def shard_plan(sizes: Mapping[str, int], limit: int = SHARD_BYTES) -> dict[str, list[str]]:
    """File name -> tensor names, in order, none over `limit` bytes unless one tensor alone is."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    if len(shards) == 1:
        return {SINGLE: shards[0]}
    return {f"model-{i:05d}-of-{len(shards):05d}.safetensors": names for i, names in enumerate(shards, 1)}


def write_index(folder: Path, plan: Mapping[str, list[str]], sizes: Mapping[str, int]) -> None:
    """Writes the index of the tensors in each shard; nothing for a single file."""
    if len(plan) == 1:
        return
    weight_map = {name: file for file, names in plan.items() for name in names}
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
