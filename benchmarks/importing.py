"""Start of the command line: seconds of `charter --help`, with what its imports take.

Each run is a new process; the median of the runs counts (the first one fills the file cache and is dropped). The aim
is 0.4 s on two cores. `trl --help` is timed beside it where TRL is installed.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import time
from functools import partial

from side import Claim, Comparison, Figures, compare, parser, version

AIM = 0.4
TOP = 12
COMMANDS = {
    "charter --help": [sys.executable, "-m", "charter", "--help"],
    "trl --help": [sys.executable, "-m", "trl.cli.main", "--help"],
}
_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| (\s*)(\S+)")


def helped(options: argparse.Namespace, name: str) -> Figures:
    """Median and least seconds of a command, and the packages whose modules take the longest to import."""
    seconds = []
    for _ in range(3 if options.quick else options.runs + 1):
        started = time.perf_counter()
        subprocess.run(COMMANDS[name], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    kept = seconds[1:]
    figures: Figures = {"seconds": statistics.median(kept), "least": min(kept), "runs": len(kept)}
    figures["peak_gib"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return figures | {"imports": offenders(COMMANDS[name])}


def offenders(command: list[str]) -> dict[str, int]:
    """Milliseconds of import by top-level package (each module's own time, not what it imports), longest first."""
    timed = [command[0], "-X", "importtime", *command[1:]]
    done = subprocess.run(timed, check=True, capture_output=True, text=True)
    own: dict[str, float] = {}
    for line in done.stderr.splitlines():
        if found := _LINE.match(line):
            package = found[4].split(".")[0]
            own[package] = own.get(package, 0.0) + int(found[1]) / 1000
    ordered = sorted(own.items(), key=lambda item: -item[1])
    return {package: round(ms) for package, ms in ordered[:TOP]}


def _sides() -> dict[str, partial[Figures]]:
    names = [name for name in COMMANDS if name.startswith("charter") or version("trl")]
    return {name: partial(helped, name=name) for name in names}


COMPARISON = Comparison(
    title=str(__doc__),
    sides=_sides(),
    claims=(
        Claim("charter --help", "seconds", "charter --help", aim=AIM, lower=True),
        Claim("beside TRL", "seconds", "charter --help", ("trl --help",), lower=True),
    ),
    columns=("seconds", "least", "runs", "imports"),
    needs=(),
)


def main() -> None:
    """Command line."""
    options = parser(COMPARISON.title)
    options.add_argument("--runs", type=int, default=7, help="timed runs of each command")
    compare(COMPARISON, options.parse_args())


if __name__ == "__main__":
    main()
