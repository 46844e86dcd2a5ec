"""Learning in several processes against one: the same recipe under torchrun, and without it.

Prints how far the losses of each room lie apart that starts from the same artifacts, the tokens that each process
learnt from, and the seconds that it took: one process has all cores, N processes share them, so that on one CPU this measures what sharing costs, not what
more machines bring.

    python benchmarks/parallel.py --processes 2 --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
LEARNING = ("pretrain", "finetune", "preference", "rl")


def _recipe(folder: Path, seed: int) -> Path:
    texts = sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "src" / "charter").glob("*/README.md"))
    rows = [json.dumps({"text": part}) for path in texts for part in path.read_text("utf-8").split("\n## ")]
    (folder / "texts.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    steps: list[dict[str, Any]] = [
        {
            "name": "corpus",
            "room": "corpus",
            "from": {"sources": ["./texts.jsonl"]},
            "settings": {"vocabulary": {"size": 1024}, "heldout_share": 0.1},
        },
        {
            "name": "pretrain",
            "room": "pretrain",
            "from": {"corpus": "corpus"},
            "settings": {
                "sizing": {"layers": 4, "width": 128, "heads": 4, "key_heads": 2, "head_size": 32, "context": 256},
                "learning": {"steps": 20, "batch_tokens": 4096, "microbatch_tokens": 2048},
                "samples": {"prompts": []},
            },
        },
        {
            "name": "finetune",
            "room": "finetune",
            "from": {"policy": "random:tiny", "dialogues": "shipped:helpful.train"},
            "settings": {"batch": 8, "epochs": 2, "limit": 80, "lr": 3e-4, "microbatch_tokens": 1024},
        },
        {
            "name": "preference",
            "room": "preference",
            "from": {"policy": "finetune", "comparisons": "shipped:comparisons.train"},
            "settings": {"batch": 6, "epochs": 4, "lr": 3e-5, "head_lr": 3e-4, "pairs": {"limit": 60}},
        },
        {
            "name": "rl",
            "room": "rl",
            "from": {"policy": "finetune", "reward": "preference", "prompts": "shipped:red_team.train"},
            "settings": {"steps": 20, "lr": 1e-4, "rollout": {"prompts": 8, "replies": 2, "max_tokens": 24}},
        },
    ]
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "parallel", "seed": seed, "steps": steps}), "utf-8")
    return path


def _run(path: Path, out: Path, processes: int, until: str) -> None:
    alone = [sys.executable]
    several = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [
        *(alone if processes == 1 else several),
        "-m",
        "charter",
        "run",
        str(path),
        "--out",
        str(out),
        "--until",
        until,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path])}
    subprocess.run([*command, "--device", "cpu", "--precision", "float32"], env=environment, check=True)


def _rows(out: Path, step: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / step / "log.jsonl").read_text("utf-8").splitlines()]


def _seconds(out: Path, step: str) -> float:
    return float(json.loads((out / step / "manifest.json").read_text("utf-8"))["timing"]["seconds"])


def _show(step: str, one: Path, many: Path, processes: int, seed: int) -> None:
    first, second = ([row for row in _rows(out, step) if "loss" in row] for out in (one, many))
    apart = [abs(a["loss"] - b["loss"]) for a, b in zip(first, second, strict=True)]
    shares = [sum(own) for own in zip(*(row["tokens_of_each"] for row in second), strict=True)]
    equal = next((n for n, distance in enumerate(apart) if distance > 1e-5), len(apart))
    print(
        f"seed {seed}  {step:10}  losses apart by at most {max(apart[:equal], default=0):.1e} in {equal} of {len(first)} "
        f"steps, {max(apart):.1e} in all  last {first[-1]['loss']:.7f} and {second[-1]['loss']:.7f}  tokens of each "
        f"{shares}  {_seconds(one, step):.1f} s in one process, {_seconds(many, step):.1f} s in {processes}",
        flush=True,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--rooms", nargs="+", choices=LEARNING, default=LEARNING)
    options.add_argument("--seeds", type=int, nargs="+", default=[1])
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for seed in asked.seeds:
            folder = Path(place) / str(seed)
            folder.mkdir()
            path = _recipe(folder, seed)
            for room in asked.rooms:
                _run(path, folder / "alone", 1, room)
                many = folder / room
                shutil.copytree(folder / "alone", many)  # what the room starts from is the same to the bit
                shutil.rmtree(many / room)
                _run(path, many, asked.processes, room)
                _show(room, folder / "alone", many, asked.processes, seed)


if __name__ == "__main__":
    main()
