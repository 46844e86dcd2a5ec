"""Does some work, then waits until people have written enough lines beside the run."""

import os
from collections.abc import Sequence

from charter.ground.artifact.errors import Waiting
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from rooms_for_test.votes.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    def produce(items: Sequence[int], number: int) -> list[int]:
        if "CALLS" in os.environ:
            with open(os.environ["CALLS"], "a") as file:
                file.write(f"votes-{number}\n")
        return list(items)

    out.chunks("work", [1, 2, 3], 1, produce)
    out.people.mkdir(parents=True, exist_ok=True)
    answers = out.people / "answers"
    lines = answers.read_text().split() if answers.exists() else []
    if len(lines) < settings.wanted:
        missing = settings.wanted - len(lines)
        raise Waiting(f"waits for {missing} of {settings.wanted} answers: write {answers}, then run again")
    out.write_jsonl("dialogues.jsonl", [{"id": line} for line in lines])
    out.metric("answers", len(lines))
