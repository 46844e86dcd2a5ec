"""Whether two finished runs of one recipe say the same: every metric of every step, and every file of rows.

    python benchmarks/same_run.py BEFORE AFTER

For a change that moves code and must change no number. Exit code 1 if anything differs. Manifests, logs and pages hold
ids, times and versions, so files are compared only if they are rows: `*.jsonl` below a step, but for `log.jsonl`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from charter.ground.artifact.manifest import MANIFEST, Manifest
from charter.ground.artifact.store import read_manifest

Values = dict[str, tuple[float | None, float | None, float | None, int | None]]


def values(manifest: Manifest) -> Values:
    """Value, interval and n of each metric by its name."""
    return {m.name: (m.value, m.low, m.high, m.n) for m in manifest.metrics}


def rows(folder: Path) -> dict[str, bytes]:
    """Contents of the files of rows of a step."""
    files = [p for p in sorted(folder.rglob("*.jsonl")) if p.name != "log.jsonl"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


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
    steps, metrics, files, differences = (
        0,
        0,
        0,
        [f"step {name}: in one alone" for name in before.keys() ^ after.keys()],
    )
    for name in [name for name in before if name in after]:
        steps += 1
        old, new = values(read_manifest(before[name])), values(read_manifest(after[name]))
        metrics += len(old)
        for metric in sorted(old.keys() | new.keys()):
            if old.get(metric) != new.get(metric):
                differences.append(f"{name}.{metric}: {old.get(metric)} is now {new.get(metric)}")
        old_rows, new_rows = rows(before[name]), rows(after[name])
        files += len(old_rows)
        for file in sorted(old_rows.keys() | new_rows.keys()):
            if old_rows.get(file) != new_rows.get(file):
                differences.append(f"{name}/{file}: rows differ")
    print("\n".join(differences), end="\n" if differences else "")
    print(f"{steps} steps, {metrics} metrics, {files} files of rows: {len(differences)} differences")
    sys.exit(bool(differences))


if __name__ == "__main__":
    main()
