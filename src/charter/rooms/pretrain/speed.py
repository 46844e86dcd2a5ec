"""Speeds of a run, in a file of their own: they depend on the machine, and the log must be equal on a resume.

speed.jsonl has a line per optimizer step: seconds, tokens a second, model FLOPs utilisation (`learn.flops`, a share of
the machine's `peak`), and the peak memory of the process: resident on a CPU, allocated on a GPU.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.workspace import Workspace, drop_torn_line
from charter.ground.learn.flops import work
from charter.ground.learn.parallel import world
from charter.ground.model.linear import product
from charter.ground.model.shape import Shape

# Dense bfloat16 with float32 sums, TFLOP/s, by a part of the device's name; the makers' figures.
KNOWN = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "A10": 125.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
    "MI300X": 1307.0,
}
SPEED = "speed.jsonl"


@lru_cache(maxsize=4)
def peak(device: str, precision: str, seconds: float = 0.2) -> float:
    """Peak operations a second: the maker's figure for a known GPU in bfloat16, else measured on square products."""
    kind = torch.device(device).type
    if kind == "cuda" and precision == "bfloat16":
        name = torch.cuda.get_device_name(device)
        rates = [rate for part, rate in KNOWN.items() if part in name]
        if rates:
            return rates[0] * 1e12
    return measure_peak(device, torch.bfloat16 if precision == "bfloat16" else torch.float32, seconds)


@torch.no_grad()
def measure_peak(device: str, dtype: torch.dtype, seconds: float = 0.2, size: int = 0) -> float:
    """Operations a second of square matrix products, the best of many by two libraries."""
    size = size or (1024 if torch.device(device).type == "cpu" else 8192)
    a, b = (torch.rand(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    libraries: tuple[Callable[[], torch.Tensor], ...] = (lambda: a @ b.t(), lambda: product(a, b))
    for multiply in libraries:
        _wait(device, multiply())
        until = time.perf_counter() + seconds / 2
        while time.perf_counter() < until:
            started = time.perf_counter()
            _wait(device, multiply())
            best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def _wait(device: str, result: torch.Tensor) -> None:
    """Wait until the device has computed the result."""
    if result.device.type == "cuda":
        torch.cuda.synchronize(device)


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
        return {"rate": row["tokens_per_second"], "mfu": f"{row['mfu']:.0%}", "memory": f"{row['peak_gib']:.1f} GiB"}


def memory_gib(device: str) -> float:
    """Peak memory of this process so far."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
