"""The `charter` command in a process that kills itself at a chosen moment of a chosen step.

Run as a script: kill_rooms.py STEP TARGET CALL WHEN ARGUMENTS..., where TARGET is module:name of what a room
calls, CALL counts its calls in that step of this process, and WHEN is before or after that call.
"""

import importlib
import os
import signal
import sys
from typing import Any

from charter.cli.main import execute
from charter.ground.artifact.workspace import Workspace

now = {"step": "", "calls": 0}


def watch_steps() -> None:
    real = Workspace.__init__

    def init(self: Workspace, *words: Any, **named: Any) -> None:
        now["step"], now["calls"] = str(named["step"]), 0
        real(self, *words, **named)

    Workspace.__init__ = init  # type: ignore[method-assign]


def kill_at(step: str, target: str, call: int, when: str) -> None:
    module, _, name = target.partition(":")
    *path, last = name.split(".")
    owner = importlib.import_module(module)
    for part in path:
        owner = getattr(owner, part)
    real = getattr(owner, last)

    def watched(*words: Any, **named: Any) -> Any:
        due = now["step"] == step and (now.update(calls=int(now["calls"]) + 1), now["calls"])[1] == call
        if due and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = real(*words, **named)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, last, watched)


if __name__ == "__main__":
    watch_steps()
    kill_at(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
    sys.exit(execute(sys.argv[5:]))
