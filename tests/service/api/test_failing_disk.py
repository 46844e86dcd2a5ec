"""A disk whose writes and syncs fail, one after the other: the database stays whole, and nothing that was acknowledged
is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="faults are put in by preloading a library, as Linux does")
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler to make the library with")
def test_each_write_and_sync_may_fail(tmp_path: Path) -> None:
    library = tmp_path / "failing.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "failing_disk.c", "-ldl"], check=True)
    program = [sys.executable, HERE / "failing_disk.py", tmp_path]
    given = {**os.environ, "LD_PRELOAD": str(library)}
    done = subprocess.run(program, env=given, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr[-2000:]
    for way, found in json.loads(done.stdout.splitlines()[-1]).items():
        assert found["wrong"] == [], way
        assert found["calls"] > 20 and found["refused"] > 0, "the faults did happen"
