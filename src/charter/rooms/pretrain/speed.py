"""Speeds of a run, in a file of their own: they depend on the machine, and the log must be equal on a resume.

speed.jsonl has a line per optimizer step: seconds, tokens a second, model FLOPs utilisation (`learn.flops`), and the
peak memory of the process: resident on a CPU, allocated on a GPU.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.workspace import Workspace, drop_torn_line
from charter.ground.learn.flops import work
from charter.ground.learn.parallel import world
from charter.ground.model.shape import Shape
from charter.rooms.pretrain.peak import peak

SPEED = "speed.jsonl"


class Speed:
    """A stopwatch over optimizer steps."""

    def __init__(self, out: Workspace, shape: Shape, first_step: int) -> None:
        self.path: Path = out.path / SPEED
        drop_torn_line(self.path)
        if self.path.exists():
            out.write_jsonl(SPEED, [row for row in read_objects(self.path) if row["step"] < first_step])
        self.shape, self.device = shape, out.device
        self.peak = peak(out.device, out.precision) * world().size
        self.began = time.perf_counter()

    def begin(self) -> None:
        """Start timing a step."""
        self.began = time.perf_counter()

    def end(self, step: int, lengths: Sequence[int]) -> dict[str, Any]:
        """Record the speed of a step over pieces of these lengths; returns the figures for the progress bar."""
        seconds = time.perf_counter() - self.began
        row = {
            "step": step,
            "seconds": round(seconds, 6),
            "tokens_per_second": sum(lengths) / seconds,
            "mfu": work(self.shape, lengths) / seconds / self.peak,
            "peak_gib": memory_gib(self.device),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        return {
            "rate": row["tokens_per_second"],
            "mfu": f"{row['mfu']:.0%}",
            "memory": f"{row['peak_gib']:.1f} GiB",
        }


def memory_gib(device: str) -> float:
    """Peak memory of this process so far."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
