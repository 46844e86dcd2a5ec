"""What the screen finds of violating prompts by place and wrapping, and what it costs the harmless.

    python benchmarks/screen_places.py [--n 150] [--classifier encoder --classifier words] [--json FILE]

Reads AdvBench, MaliciousInstruct and JailbreakBench (violating), OKTest (look-alikes) below CHARTER_DATA, and the
package's held-out helpful prompts (ordinary). No classifier was taught with any of them. Intervals are Wilson's, 95 %;
milliseconds are of the processor, a conversation among many.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from charter.ground.measure.intervals import wilson
from charter.ground.moderation.opening import open_screen
from charter.ground.moderation.screen import Screen
from charter.ground.settings.places import data_folder
from charter.ground.settings.sources import shipped_folder
from charter.ground.text.dialogue import Message
from charter.rooms.evaluate.screening import PLACES

sys.path.append(str(Path(__file__).parents[1] / "tests" / "ground" / "moderation"))
from disguises import HELD, PASSING

SEED = 11


def sets(n: int) -> dict[str, list[str]]:
    """Texts by kind."""
    folder, dice = data_folder(), random.Random(SEED)
    red = folder / "red_team"
    with (red / "advbench_harmful_behaviors.csv").open(encoding="utf-8") as file:
        bad = [row["goal"] for row in csv.DictReader(file)]
    bad += [line.strip() for line in (red / "malicious_instruct.txt").read_text("utf-8").splitlines() if line.strip()]
    with (red / "jbb_behaviors.csv").open(encoding="utf-8") as file:
        bad += [row["Goal"] for row in csv.DictReader(file)]
    with gzip.open(folder / "over_refusal/oktest.jsonl.gz", "rt", encoding="utf-8") as file:
        alike = [json.loads(line)["prompt"] for line in file]
    rows = (shipped_folder() / "helpful.heldout.jsonl").read_text("utf-8").splitlines()
    plain = [json.loads(row)["messages"][0]["content"] for row in rows]
    found = {"violating": bad, "look-alikes": alike, "ordinary": plain}
    return {name: dice.sample(texts, min(n, len(texts))) for name, texts in found.items()}


def main() -> None:
    """Prints a table; with --json also writes the figures."""
    parser = argparse.ArgumentParser(description="The screen by place and wrapping.")
    parser.add_argument("--n", type=int, default=150)
    parser.add_argument("--classifier", action="append", help="as `charter policy try` takes them")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    screen, found, rows = open_screen(classifiers=options.classifier or ()), sets(options.n), []
    print("| place or wrapping | " + " | ".join(f"{kind} (n {len(t)})" for kind, t in found.items()) + " | ms |")
    print("|---|" + "---:|" * (len(found) + 1))
    for name, wrap in {**PLACES, **HELD, **PASSING}.items():
        cells, row, took = [], {"place": name}, 0.0
        for kind, texts in found.items():
            began = time.process_time()
            whole = stopped(screen, [wrap(t) for t in texts])
            took += time.process_time() - began
            low, high = wilson(whole, len(texts))
            row |= {kind: whole / len(texts), f"{kind}_low": low, f"{kind}_high": high}
            cells.append(f"{100 * whole / len(texts):.0f} % ({100 * low:.0f} to {100 * high:.0f})")
        row["milliseconds"] = 1000 * took / sum(map(len, found.values()))
        print(f"| {name} | " + " | ".join(cells) + f" | {row['milliseconds']:.0f} |", flush=True)
        rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def stopped(screen: Screen, conversations: Sequence[Sequence[Message]]) -> int:
    """How many are taken for violations, the disclosure of a high-risk use not counted."""
    rules = {rule.id for rule in screen.policy.high_risk}
    return sum(bool(v.category) and v.category not in rules for v in screen.prompts(conversations))


if __name__ == "__main__":
    main()
