"""Where and in which number format a run computes."""

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

from charter.ground.artifact.errors import CharterError

PRECISIONS = ("float32", "bfloat16")
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True)
class Execution:
    """Device ("cpu", "cuda", "cuda:1", "mps") and precision ("float32", "bfloat16") of all steps of a run."""

    device: str = "cpu"
    precision: str = "float32"


def choose_execution(device: str | None = None, precision: str | None = None) -> Execution:
    """Checks the asked device and precision and fills in what was left out.

    Without a device: a CUDA GPU if this machine and the installed torch have one, else the CPU. Without a
    precision: bfloat16 on CUDA, float32 elsewhere: it is exact, and on most CPUs the fast one.
    Raises CharterError for names that don't exist.
    """
    device = device if device not in (None, "auto") else _present_device()
    if device is None or not _DEVICE.fullmatch(device):
        raise CharterError(f"unknown device {device!r}: use cpu, cuda, cuda:N or mps")
    if precision is None:
        precision = "bfloat16" if device.startswith("cuda") else "float32"
    if precision not in PRECISIONS:
        raise CharterError(f"unknown precision {precision!r}: use {' or '.join(PRECISIONS)}")
    return Execution(device, precision)


def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU has instructions for bfloat16 products (AVX512-BF16, AMX), as far as Linux tells."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text("utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return False
    return bool(flags and {"avx512_bf16", "amx_bf16"} & set(flags.group(1).split()))


def _present_device() -> str:
    """Looks for a GPU without loading torch: a driver in the kernel and a torch built for it."""
    try:
        cpu_build = importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        cpu_build = True
    return "cuda" if not cpu_build and Path("/proc/driver/nvidia/version").exists() else "cpu"
