"""What strangers made is refused in one line or read; it takes no minute, a gigabyte more than it takes on the disk, and
the folder it came in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile
import pytest

CASES = hostile.cases()
MOST = 2**30
Reader = Callable[[hostile.Case, Path], dict[str, Any]]


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """Makes a case and says what came of reading it."""
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("hostile_child.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def read(case: hostile.Case, at: Path) -> dict[str, Any]:
        target = at / "made"
        target.mkdir(parents=True)
        (at / "case").mkdir()
        path = case.make(at / "case")
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(json.dumps([str(path), str(target)]) + "\n")
        child.stdin.flush()
        outcome: dict[str, Any] = json.loads(child.stdout.readline())
        files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
        outcome["size"] = sum(one.stat().st_size for one in files)
        shutil.rmtree(at)
        return outcome

    with child:
        yield read


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=() if case.quick else pytest.mark.slow) for case in CASES]
)
def test_hostile_input_is_refused_or_read(case: hostile.Case, reader: Reader, tmp_path: Path) -> None:
    outcome = reader(case, tmp_path / "all")
    print(json.dumps({"name": case.name, **outcome}))
    wanted = {True: ("refused",), False: ("loaded",), None: ("refused", "loaded")}[case.refused]
    assert outcome["outcome"] in wanted, outcome
    assert "\n" not in outcome["said"] and outcome["length"] < 1000, outcome
    assert "memory" not in outcome["said"].lower() and "alloc" not in outcome["said"], outcome
    assert outcome["taken"] <= outcome["size"] + MOST, outcome
    assert outcome["opened"] == []


def test_there_are_two_hundred_and_they_are_the_same_each_time() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 200
    assert names == [case.name for case in hostile.cases()]
