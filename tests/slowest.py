"""Writes tests/slow.txt from the durations that pytest printed (`--durations=0`): python tests/slowest.py LOG.

A test of SINGLE seconds or more is slow; of a parametrised test the shortest case stays, and others of CASE seconds or
more are slow. Tests of KEPT places stay whatever they take.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

SINGLE, CASE, LONG = 2.5, 1.0, 8.0
# the whole way, attackers and published clients, what must be equal, and the laws of the house
KEPT = (
    "tests/whole/",
    "tests/equivalence/",
    "tests/structure/",
    "test_schemathesis",
    "test_up_command",
    "test_doctor",
    "test_no_route_shows",
)
HEAD = """\
# Tests that take a second or more beside others of their kind: `make slow` runs them, `make test` leaves them out.
# Of each parametrised test its shortest case stays. Written by tests/slowest.py from pytest's durations.
"""


def slow(log: str) -> list[str]:
    """The names of slow tests, from lines such as "3.21s call     tests/cli/test_init.py::test_it[a case]"."""
    cases: dict[str, dict[str, float]] = defaultdict(dict)
    for seconds, name in re.findall(r"^([0-9.]+)s call +(\S.*?)\s*$", log, re.M):
        cases[name.partition("[")[0]][name] = float(seconds)
    names = []
    for test, seconds_by_name in cases.items():
        if any(place in test for place in KEPT):
            continue
        shortest, *others = sorted(seconds_by_name, key=seconds_by_name.__getitem__)
        if seconds_by_name[shortest] >= (LONG if others else SINGLE):
            names.append(shortest)
        names += [name for name in others if seconds_by_name[name] >= CASE]
    return sorted(names)


if __name__ == "__main__":
    names = slow(Path(sys.argv[1]).read_text("utf-8"))
    (Path(__file__).parent / "slow.txt").write_text(HEAD + "\n".join(names) + "\n", "utf-8")
    print(f"{len(names)} slow tests")
