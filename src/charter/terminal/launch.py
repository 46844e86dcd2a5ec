"""Starts the process again with settings for computing that only a new process can take.

The memory allocator gives pages back to the system after each large tensor and then faults them in again;
if it keeps them, training is up to 1.5 times as fast. Huge pages need fewer look-ups of addresses: one stream
of int8 is 3 to 7 % faster. The number of threads is set so that it can be recorded: a resume under another
number would give other results. Idle threads stop waiting awake soon, since on a busy machine that takes the cores from
the work that they wait for; commands that adapt their threads do so only where the machine is busy at the start.
Processes that torchrun started on one machine, and steps side by side (`--jobs`), divide its cores among them.
"""

import os
import sys

from charter.ground.settings.environment import physical_cores, spinning

LAUNCHED = "CHARTER_LAUNCHED"


def settings(jobs: int = 1, adapts: bool = False) -> dict[str, str]:
    """The environment of computing commands, with `jobs` steps at a time; variables that the user has set stay.
    `adapts`: the command takes as many threads as cores are idle, while it runs."""
    return {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "100000000000",
        "MALLOC_TOP_PAD_": "268435456",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "OMP_NUM_THREADS": str(max(1, physical_cores() // (jobs * _processes_here()))),
        "TOKENIZERS_PARALLELISM": "false",
        **spinning(adapts),
    }


def _processes_here() -> int:
    """Processes of this run on this machine."""
    setting = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(setting) if setting.isdigit() and int(setting) > 0 else 1


def relaunch(jobs: int = 1, threads: int | None = None, adapts: bool = False) -> None:
    """Replaces this process with the same command under these settings; does nothing the second time. `threads`: as
    many as the user asks for, whatever the variables say. `adapts`: as in `settings`."""
    if os.environ.get(LAUNCHED) == "1":
        return
    variables = dict(os.environ)
    if _processes_here() > 1 and variables.get("OMP_NUM_THREADS") == "1":
        del variables["OMP_NUM_THREADS"]  # what torchrun sets by itself
    if threads is not None:
        variables["OMP_NUM_THREADS"] = str(threads)
    environment = {**settings(jobs, adapts), **variables, LAUNCHED: "1"}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
