"""Filters of the corpus room: megabytes a second of one core for each, on texts of CHARTER_DATA/pretrain.

Processor seconds count, so that what else runs on the machine matters less; `share` is a filter's part of all of them.
With `--datasketch PYTHON`, an interpreter that has the package datasketch, its MinHash is made of the same words' runs
in turn with ours, and the ratio printed; its runs are joined before its clock starts. `--documents N` adds random
signatures of N documents, a fifth of them near copies, and measures the search for these: seconds, peak memory, found.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side import peak_gib

from charter.ground.text.columns import raw_rows
from charter.ground.text.overlap import words
from charter.ground.text.privacy import scrub
from charter.rooms.corpus.decontamination import Decontamination
from charter.rooms.corpus.duplicates import NearDuplicates, fingerprint, signature
from charter.rooms.corpus.language import detect
from charter.rooms.corpus.quality import problem

TEXTS = ("pepys_diary.jsonl.gz", "python_peps.jsonl.gz", "us_presidential_addresses.jsonl.gz")
BENCHMARKS = (
    *("agieval", "alpaca_eval", "anthropic_evals", "arc_challenge", "bbq", "constitutional_ai/evals", "flores_v1"),
    *("gsm8k/test.jsonl.gz", "hhh_alignment", "humaneval", "long_context", "mmlu", "mt_bench", "ntrex", "pairwise"),
    *("quality", "race_high", "red_team", "triviaqa", "truthfulqa"),
)
SHORT = 1000
PEER = """
import json, sys, time
from datasketch import MinHash
documents = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
documents = [[run.encode() for run in document] for document in documents]
started = time.process_time()
for document in documents:
    MinHash(num_perm=128, seed=0).update_batch(document)
print(time.process_time() - started)
"""


def rate(texts: list[str], work: Callable[[str], object]) -> float:
    """Processor seconds for a megabyte of UTF-8, the better of two rounds after a warm-up."""
    work(texts[0])
    seconds = []
    for _ in range(2):
        started = time.process_time()
        for text in texts:
            work(text)
        seconds.append(time.process_time() - started)
    return min(seconds) / (sum(len(text.encode()) for text in texts) / 1e6)


def against_datasketch(texts: list[str], python: str) -> dict[str, float]:
    """Megabytes a second of both MinHashes in three turns, the best of each, and their ratio."""
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for text in texts:
                own = words(text)
                file.write(json.dumps([" ".join(own[i : i + 5]) for i in range(len(own) - 4)]) + "\n")
        ours, theirs = [], []
        for _ in range(3):
            ours.append(rate(texts, signature))
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [python, "-c", PEER, str(path)], check=True, capture_output=True, text=True, env=environment
            )
            theirs.append(float(done.stdout) / megabytes)
    return {"ours": 1 / min(ours), "datasketch": 1 / min(theirs), "ratio": min(theirs) / min(ours)}


def near_copies(documents: int) -> dict[str, float]:
    """Search among random signatures in which every fifth document copies one before it, at a similarity of 0.9."""
    drawn = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        near = NearDuplicates(Path(folder))
        copies = 0
        for start in range(0, documents, 50_000):
            count = min(50_000, documents - start)
            made = drawn.integers(0, 2**32, (count, 128), dtype=np.uint32)
            copied = np.arange(5, count, 5)
            mask = drawn.random((len(copied), 128)) < 0.9
            made[copied] = np.where(mask, made[copied - 1], made[copied])
            copies += len(copied)
            near.add(made)
        started = time.process_time()
        found = near.first()
        seconds = time.process_time() - started
    dropped = int(np.count_nonzero(found != np.arange(documents)))
    return {"seconds": seconds, "copies": copies, "dropped": dropped, "peak_gib": peak_gib()}


def measured(options: argparse.Namespace) -> dict[str, Any]:
    data = Path(options.data)
    texts = [row["text"] for name in TEXTS for _, row in raw_rows(data / "pretrain" / name)]
    texts = texts[:: 20 if options.quick else 1]
    started = time.process_time()
    tests = Decontamination(data / name for name in BENCHMARKS[: 2 if options.quick else None])
    built = time.process_time() - started
    filters: dict[str, Callable[[str], object]] = {
        "language": detect,
        "quality": lambda text: problem(text, "prose", language="en"),
        "fingerprint": fingerprint,
        "signature": signature,
        "privacy": scrub,
        "decontamination": tests.hits,
    }
    seconds = {name: rate(texts, work) for name, work in filters.items()}
    short = [text[i : i + SHORT] for text in texts for i in range(0, len(text), 8 * SHORT)]
    report: dict[str, Any] = {
        "megabytes": sum(len(text.encode()) for text in texts) / 1e6,
        "filters": {
            name: {"mb_per_second": 1 / each, "share": each / sum(seconds.values())} for name, each in seconds.items()
        },
        "all": 1 / sum(seconds.values()),
        "all_of_1000_characters": 1 / sum(rate(short, work) for work in filters.values()),
        "benchmarks": {
            "items": tests.items,
            "unchecked": len(tests.unchecked),
            "runs": tests.runs,
            "megabytes": tests.bytes / 1e6,
            "seconds": built,
        },
    }
    if options.datasketch:
        report["minhash"] = against_datasketch(texts, options.datasketch)
    if options.documents:
        report["near_copies"] = near_copies(options.documents)
    return report


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", default=os.environ.get("CHARTER_DATA", ""), help="default: CHARTER_DATA")
    options.add_argument("--datasketch", default="", help="an interpreter that has the package datasketch")
    options.add_argument("--documents", type=int, default=0, help="random documents for the search of near copies")
    options.add_argument("--quick", action="store_true", help="a twentieth of the texts and two benchmarks")
    given = options.parse_args()
    if not given.data:
        sys.exit("corpus_filters.py: error: no data; set CHARTER_DATA to the folder that holds pretrain")
    print(json.dumps(measured(given), indent=1))


if __name__ == "__main__":
    main()
