"""Verdicts from another process, which gets the tasks' names, seeds and lines, and nothing else of the agent's.

python -m charter.ground.world.judging < TRIES > VERDICTS
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from charter.ground.artifact.errors import CharterError
from charter.ground.world.catalogue import TASKS
from charter.ground.world.task import Verdict, judged

Judged = tuple[str, int, Sequence[str]]  # a task's name, the world's seed, the lines


def judged_apart(tries: Sequence[Judged]) -> list[Verdict]:
    """The verdict on each try, by the predicates of a process of its own. Raises CharterError if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(tries), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CharterError(f"the process that judges tries ended with {done.returncode}: {last}")
    return [Verdict(**{**one, "violations": tuple(one["violations"])}) for one in json.loads(done.stdout)]


def main() -> None:
    """Reads tries as JSON and writes their verdicts."""
    tries = json.load(sys.stdin)
    json.dump([asdict(judged(TASKS[name], seed, lines)) for name, seed, lines in tries], sys.stdout)


if __name__ == "__main__":
    main()
