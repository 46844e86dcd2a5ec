"""How much memory of the host a sandboxed program can make it hold, at the peak, against its limit.

Each attempt of tests/ground/sandbox/hoards.py runs twice, with a control group and without one, where memory is summed
by looking. With control groups of version 1 the peak is the kernel's own count of a group around everything; elsewhere
it is the largest fall of the machine's available memory, to which other programs add. An attempt is cut off at 2 GiB.

    python benchmarks/sandbox_memory.py [--memory-mb 128] [--only NAME...] [--markdown]
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil

from charter.ground.sandbox import group, preflight
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.process import run

HOARDS = Path(__file__).resolve().parents[1] / "tests" / "ground" / "sandbox" / "hoards.py"
CUT = 2 << 30  # bytes
MB = 1 << 20


def attempt(name: str, memory_mb: int, grouped: bool) -> dict[str, object]:
    """Run one attempt in this process, which a measuring group may surround; its end and the peak in bytes."""
    box = preflight.sandbox()
    if not grouped:
        box = replace(box, groups=None)
    place = group.place()
    limits = Limits(memory_mb=memory_mb, seconds=10, cpu_seconds=10)
    command = [box.view.python, "-I", "-S", "hoards.py", name]
    if place is not None and place.version == 1:
        most, now = (place.folder / f"memory.{what}_in_bytes" for what in ("max_usage", "usage"))
        most.write_text("0")
        before = int(now.read_text())
        ended = run(box, command, {"hoards.py": HOARDS.read_text()}, limits)
        peak = int(most.read_text()) - before
    else:
        over, lows = threading.Event(), [psutil.virtual_memory().available]
        before = lows[0]

        def watch() -> None:
            while not over.is_set():
                lows[0] = min(lows[0], psutil.virtual_memory().available)
                time.sleep(0.002)

        thread = threading.Thread(target=watch)
        thread.start()
        ended = run(box, command, {"hoards.py": HOARDS.read_text()}, limits)
        over.set()
        thread.join()
        peak = before - lows[0]
    return {"how": str(ended.how), "peak": peak, "last": ended.stderr.strip()[-200:]}


def measured(name: str, memory_mb: int, grouped: bool) -> dict[str, object]:
    """`attempt` in a process of its own, in a group that is cut off where there can be one."""
    command = [sys.executable, __file__, "--one", name, "--memory-mb", str(memory_mb), "--grouped", str(int(grouped))]
    place = group.place()
    if place is None or place.version == 2:
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    with place.group(CUT, 1000) as around:
        done = subprocess.run(around.joining(command), check=False, capture_output=True, text=True)
        if done.returncode:
            return {"how": "cut off", "peak": CUT, "last": done.stderr[-200:]}
        return json.loads(done.stdout)


def main() -> None:
    """Print a row for each attempt: the peak in MiB and its ratio to the limit, with a group and by looking."""
    sys.path.insert(0, str(HOARDS.parent))
    hoards = importlib.import_module("hoards").HOARDS
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory-mb", type=int, default=128)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--one")
    parser.add_argument("--grouped", type=int, default=1)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(attempt(given.one, given.memory_mb, bool(given.grouped))))
        return
    place = group.place()
    ways = [False] if place is None else [True, False]
    print(
        f"limit {given.memory_mb} MiB; control group: {place.version if place else 'none'}; {preflight.sandbox().way}"
    )
    worst = dict.fromkeys(ways, 0.0)
    for name, hoard in hoards.items():
        if given.only and name not in given.only:
            continue
        cells = [hoard.__doc__]
        for way in ways:
            found = measured(name, given.memory_mb, way)
            ratio = found["peak"] / MB / given.memory_mb
            worst[way] = max(worst[way], ratio)
            cells += [f"{found['peak'] / MB:.0f} ({ratio:.2f}) {found['how']}"]
            if found["last"] and not given.markdown:
                cells += [found["last"].splitlines()[-1]]
        print(f"| {' | '.join(cells)} |" if given.markdown else f"{name}: " + "; ".join(cells), flush=True)
    print("worst ratio:", ", ".join(f"{'group' if way else 'looking'} {value:.2f}" for way, value in worst.items()))


if __name__ == "__main__":
    main()
