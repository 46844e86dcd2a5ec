"""Makes rows in chunks; a test may ask it to fail at a chunk (of one step), or to count its calls."""

import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.seed import derive_seed
from rooms_for_test.words.settings import Settings


def meet(place: Path, step: str) -> None:
    """Returns when another step is here too; fails if none comes."""
    place.mkdir(exist_ok=True)
    (place / step).write_text(str(os.getpid()))
    for _ in range(1200):
        if len(list(place.iterdir())) > 1:
            return
        time.sleep(0.05)
    raise ValueError(f"{step} was alone")


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    def produce(items: Sequence[int], number: int) -> list[dict[str, object]]:
        fault = os.environ.get("FAULT", "").removesuffix(f" {out.step}")
        if fault == f"refuse {number}":
            raise CharterError("the room\nrefuses this")
        if fault == f"crash {number}":
            raise ValueError("nobody foresaw this")
        if fault == f"interrupt {number}":
            raise KeyboardInterrupt
        if fault == f"full {number}":
            raise OSError(28, "No space left on device", "somewhere")
        if fault == f"kill {number}":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == f"meet {number}":
            meet(Path(os.environ["MEETING"]), out.step)
        if "CALLS" in os.environ:
            with open(os.environ["CALLS"], "a") as file:
                file.write(f"{number}\n")
        rng = random.Random(derive_seed(out.seed, number))
        return [{"id": str(i), "value": rng.random(), "pair": (i, number)} for i in items]

    rows = out.chunks("words", range(settings.count), settings.chunk, produce, "words")
    out.log_truncate(0)
    for step, row in enumerate(rows):
        out.log(step=step, value=row["value"])
    out.write_jsonl("dialogues.jsonl", rows)
    out.metric("mean", sum(float(str(row["value"])) for row in rows) / len(rows), low=0.0, high=1.0, n=len(rows))
