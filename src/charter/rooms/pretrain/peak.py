"""What a machine could do: floating-point operations a second at its best, by which speeds are judged (`flops`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import torch

from charter.ground.model.linear import product

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


@lru_cache(maxsize=4)
def peak(device: str, precision: str, seconds: float = 0.2) -> float:
    """Operations a second at best: of a known GPU in bfloat16 its maker's figure, else of square products, measured."""
    kind = torch.device(device).type
    if kind == "cuda" and precision == "bfloat16":
        name = torch.cuda.get_device_name(device)
        known = [rate for part, rate in KNOWN.items() if part in name]
        if known:
            return known[0] * 1e12
    return measured_peak(device, torch.bfloat16 if precision == "bfloat16" else torch.float32, seconds)


@torch.no_grad()
def measured_peak(device: str, dtype: torch.dtype, seconds: float = 0.2, size: int = 0) -> float:
    """Operations a second of products of square matrices, the best of repeated ones; of two libraries in float32."""
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
    """Returns when the device has made the result."""
    if result.device.type == "cuda":
        torch.cuda.synchronize(device)
