"""Generated against people's questions on behaviours: one Spearman's rho over all behaviours of all given reports.

Each REPORT is an evaluate step with the task behaviours, such as one a checkpoint, whose rows say who wrote them
(`source`: human or authored; lm or ai).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.measure.intervals import interval
from charter.ground.measure.question_sets import agreement, ceiling, halves, shares
from charter.ground.measure.score import Table


def described(table: Table) -> str:
    """A correlation with its 95 % interval over behaviours."""
    low, high = interval(table)
    ends = "no interval" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return f"{table.value:.3f} ({ends}), n {table.n}, behaviours {len(table.clusters)}"


def main() -> None:
    """Command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("report", nargs="+", type=Path, help="folder of an evaluate step")
    options.add_argument("--json", action="store_true", help="print the shares as one JSON object")
    chosen = options.parse_args()
    try:
        points = [
            point
            for report in chosen.report
            for point in shares(read_objects(report / "samples/behaviours.jsonl"), str(report))
        ]
    except (CharterError, OSError) as error:
        sys.exit(f"behaviour_sets.py: error: {error}")
    if chosen.json:
        print(json.dumps(points, indent=1))
        return
    if not points:
        sys.exit("behaviour_sets.py: error: no behaviour has five questions of people and five of a model")
    own = halves(points)
    print(f"generated and people's sets: {described(agreement(points))}")
    print(f"halves of people's sets:     {described(own)}")
    if own.n and own.value > 0:
        print(f"ceiling of whole sets:       {ceiling(own.value):.3f}")


if __name__ == "__main__":
    main()
