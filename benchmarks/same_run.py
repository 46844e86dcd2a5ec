"""Whether two finished runs of one recipe say the same: every metric of every step, and every file of a step.

    python benchmarks/same_run.py BEFORE AFTER

For a change that moves code and must change no number. Exit code 1 if anything differs. Rows, weights and other files
are compared byte by byte. In pages, reports and logs the ids of a run's artifacts, which depend on the code, are
written as the names of their steps; times, speeds, the commit and digests of the source are left out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from charter.ground.artifact.manifest import MANIFEST, Manifest
from charter.ground.artifact.store import read_manifest

Values = dict[str, tuple[float | None, float | None, float | None, int | None]]
IDS = re.compile(r"\b[0-9a-f]{8,64}\b")
LOG = "log.jsonl"
TEXTS = frozenset({".json", ".md", ".html", ".svg", ".csv", ".yaml"})
# what a machine decides: keys of JSON, lines of pages, durations in pages
PASSING_KEYS = re.compile(r"seconds|per_second|^time$|^Commit$|^Source digest$|memory")
PASSING_LINES = re.compile(r"\b(Commit|Source digest)\b")
DURATIONS = re.compile(r"\b\d[\d.,]* (s|seconds|minutes)\b")


def values(manifest: Manifest) -> Values:
    """Value, interval and n of each metric by its name."""
    return {m.name: (m.value, m.low, m.high, m.n) for m in manifest.metrics}


def names_of(run: Path) -> dict[str, str]:
    """Steps by the first eight digits of their artifact's id."""
    return {read_manifest(p.parent).id[:8]: p.parent.name for p in run.glob(f"*/{MANIFEST}")}


def lasting(value: Any) -> Any:
    """JSON without the keys of what a machine decides."""
    if isinstance(value, dict):
        return {key: lasting(v) for key, v in value.items() if not PASSING_KEYS.search(key)}
    return [lasting(v) for v in value] if isinstance(value, list) else value


def content(file: Path, names: dict[str, str]) -> list[str] | bytes:
    """What of a file must be equal: lines of a text, bytes of any other."""
    if file.suffix not in TEXTS and file.name != LOG:
        return file.read_bytes()
    text = IDS.sub(lambda found: names.get(found[0][:8], found[0]), file.read_text("utf-8"))
    if file.suffix == ".json":
        return json.dumps(lasting(json.loads(text)), indent=1).splitlines()
    if file.name == LOG:
        return [json.dumps(lasting(json.loads(line))) for line in text.splitlines()]
    return [DURATIONS.sub("N", line) for line in text.splitlines() if not PASSING_LINES.search(line)]


def compare_files(before: Path, after: Path, names: tuple[dict[str, str], dict[str, str]]) -> Iterator[str]:
    """What differs between a step's files, and one empty line for each equal file."""
    old, new = (
        {str(p.relative_to(step)): p for p in step.rglob("*") if p.is_file() and p.name != MANIFEST}
        for step in (before, after)
    )
    for file in sorted(old.keys() | new.keys()):
        if file not in old or file not in new:
            yield f"{before.name}/{file}: in one alone"
            continue
        left, right = content(old[file], names[0]), content(new[file], names[1])
        if left == right:
            yield ""
        elif isinstance(left, bytes) or isinstance(right, bytes) or len(left) != len(right):
            yield f"{before.name}/{file}: {len(left)} and {len(right)} bytes or lines differ"
        else:
            changed = [(n, *pair) for n, pair in enumerate(zip(left, right, strict=True), 1) if pair[0] != pair[1]]
            at, was, now = changed[0]
            yield f"{before.name}/{file}, {len(changed)} lines, first {at}: {was[:200]} is now {now[:200]}"


def main() -> None:
    """Print what differs, then one line that sums it up."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    places = parser.parse_args()
    before, after = (
        {p.parent.name: p.parent for p in sorted(place.glob(f"*/{MANIFEST}"))}
        for place in (places.before, places.after)
    )
    compare = partial(compare_files, names=(names_of(places.before), names_of(places.after)))
    differences = [f"step {name}: in one alone" for name in before.keys() ^ after.keys()]
    steps = metrics = files = 0
    for name in [name for name in before if name in after]:
        steps += 1
        old, new = values(read_manifest(before[name])), values(read_manifest(after[name]))
        metrics += len(old)
        for metric in sorted(old.keys() | new.keys()):
            if old.get(metric) != new.get(metric):
                differences.append(f"{name}.{metric}: {old.get(metric)} is now {new.get(metric)}")
        lines = list(compare(before[name], after[name]))
        files += len(lines)
        differences += filter(None, lines)
    print("\n".join(differences), end="\n" if differences else "")
    print(f"{steps} steps, {metrics} metrics, {files} files: {len(differences)} differences")
    sys.exit(bool(differences))


if __name__ == "__main__":
    main()
