"""The device and the number format of a run."""

import importlib.metadata
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from charter.ground.artifact.errors import CharterError

PRECISIONS = ("float32", "bfloat16", "int8")
_KERNELS = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16"}
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")
# Files that reveal a GPU: NVIDIA's driver, its device in a container, and those of WSL and ROCm, which torch also
# calls CUDA. Only the first one selects a GPU by default.
_GPU_FILES = ("/proc/driver/nvidia/version", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")


@dataclass(frozen=True)
class Execution:
    """Device ("cpu", "cuda", "cuda:1", "mps") and precision of all steps of a run: "float32", "bfloat16" or "int8".
    With int8 a CPU samples and scores with policies; everything else is float32."""

    device: str = "cpu"
    precision: str = "float32"


def choose_execution(device: str | None = None, precision: str | None = None) -> Execution:
    """Checks the requested device and precision, and fills in defaults.

    Without a device: a CUDA GPU if this machine and the installed torch have one, else the CPU. Without a
    precision: bfloat16 if its products are fast (CUDA, and CPUs with instructions for it), else float32.
    Raises CharterError for unknown names, and for a device that this machine lacks. It doesn't load torch, so a
    GPU with a driver may still fail.
    """
    if device is None or device == "auto":
        device = "cpu" if _lacking_cuda(_GPU_FILES[:1]) else "cuda"
    if not _DEVICE.fullmatch(device):
        raise CharterError(f"unknown device {device!r}: use cpu, cuda, cuda:N or mps")
    if device.startswith("cuda") and (reason := _lacking_cuda(_GPU_FILES)):
        raise CharterError(f"--device {device}: no CUDA GPU here ({reason}); use --device cpu")
    if device == "mps" and sys.platform != "darwin":
        raise CharterError("--device mps: only Macs have it; use --device cpu")
    if precision is None:
        fast = device.startswith("cuda") or (device == "cpu" and multiplies_bfloat16())
        precision = "bfloat16" if fast else "float32"
    if precision not in PRECISIONS:
        raise CharterError(f"unknown precision {precision!r}: use {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}")
    if precision == "int8" and device != "cpu":
        raise CharterError(f"--precision int8: only the CPU has it, not {device}; use --device cpu, or bfloat16")
    return Execution(device, precision)


def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU has instructions for bfloat16 products (AVX512-BF16, AMX), according to Linux."""
    return bool({"avx512_bf16", "amx_bf16"} & set(instructions(cpuinfo)))


def instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """This CPU's instructions that decide torch's kernels, according to Linux. With others the same products round
    differently."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text("utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return []
    return sorted(_KERNELS & set(flags.group(1).split())) if flags else []


def _lacking_cuda(files: tuple[str, ...]) -> str:
    """Why torch can't use a CUDA GPU here, or "" for no known reason. It doesn't load torch: the version names the
    build, and one of the files reveals a driver."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "torch is not installed"
    if version.endswith("+cpu"):
        return f"torch {version} is built without CUDA"
    return "" if any(Path(file).exists() for file in files) else "there is no driver"
