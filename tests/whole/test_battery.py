"""The battery killed at random moments and resumed: no answer lost or doubled, the same scores."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import toys
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.store import read_manifest, verify_files
from charter.runner.identity import package_folder

KILLS = 6
WORDS = ["--limit", "6", "--set", "evaluate.chunk=2"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def start(folder: Path, out: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CHARTER_LAUNCHED": "1",
        "CHARTER_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(package_folder().parent),
        "PYTHONWARNINGS": "ignore",
    }
    words = [sys.executable, "-m", "charter", "eval", "./model", "--out", out, *WORDS]
    with (folder / f"{out}.log").open("ab") as log:
        return subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)


def test_killed_at_random_moments_it_gives_the_same_scores(tmp_path: Path) -> None:
    toys.policy_folder(tmp_path / "model")
    began = time.monotonic()
    assert start(tmp_path, "whole").wait() == 0, (tmp_path / "whole.log").read_text()[-2000:]
    seconds = time.monotonic() - began
    rng = random.Random(5)
    killed = 0
    for _ in range(KILLS):
        process = start(tmp_path, "broken")
        try:
            process.wait(timeout=rng.uniform(0.2, 0.6) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            report = tmp_path / "broken/evaluate"
            if report.exists():  # the kill came after the end
                assert not verify_files(report, read_manifest(report)), "a report that is not whole is visible"
                break
    assert killed >= 2, "the kills came too late to mean anything"
    assert start(tmp_path, "broken").wait() == 0, (tmp_path / "broken.log").read_text()[-2000:]
    whole, broken = (read_manifest(tmp_path / name / "evaluate") for name in ("whole", "broken"))
    assert broken.id == whole.id and broken.metrics == whole.metrics and broken.files == whole.files
    for path in (tmp_path / "broken/evaluate/samples").iterdir():
        told = ("item", "task", "mode", "sample")
        counts = Counter(tuple(row.get(key) for key in told) for row in read_objects(path))
        assert set(counts.values()) <= {1}, path.name
