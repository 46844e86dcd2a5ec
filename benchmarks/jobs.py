"""A recipe with its steps side by side, against the same recipe with its steps in turn.

Both sides run `charter run` in a new folder with as many threads in all: in turn each step has all of them, side by
side each has its share. The demo by default; `--recipe` and `--until` choose another one, or a part.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side import Claim, Comparison, Figures, compare, parser

from charter.ground.artifact.errors import CharterError

RECIPES = Path(__file__).parents[1] / "recipes"


def _run(options: argparse.Namespace, jobs: int) -> Figures:
    recipe = "tiny.yaml" if options.quick else options.recipe
    command = [sys.executable, "-m", "charter", "run", str(RECIPES / recipe), "--jobs", str(jobs)]
    command += ["--until", options.until] if options.until else []
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, options.threads // jobs))}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run([*command, "--out", f"{folder}/run"], env=environment, stderr=subprocess.PIPE)
        if done.returncode:
            raise CharterError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
        return {"seconds": time.perf_counter() - began, "threads_of_a_step": environment["OMP_NUM_THREADS"]}


def beside(options: argparse.Namespace) -> Figures:
    """As many steps at a time as `--jobs` says."""
    return _run(options, options.jobs)


def in_turn(options: argparse.Namespace) -> Figures:
    """One step after the other."""
    return _run(options, 1)


if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--recipe", default="demo.yaml", help="a file of recipes/, or a path")
    options.add_argument("--until", default="", help="only this step and what it needs")
    options.add_argument("--jobs", type=int, default=2, help="steps at a time")
    compare(
        Comparison(
            "Steps side by side, or in turn",
            {"side by side": beside, "in turn": in_turn},
            [Claim("seconds of the run", "seconds", "side by side", ("in turn",), lower=True)],
            ["seconds", "threads_of_a_step"],
            needs=(),
        ),
        options.parse_args(),
    )
