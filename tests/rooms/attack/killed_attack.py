"""The attack room in a process that is killed when the model is asked for the n-th time: `killed_attack.py FOLDER N`."""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from attack_world import World
from test_writers import PAIR, fit_writer, of, yielding

from charter.ground.text.dialogue import Message

folder, left = Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir(exist_ok=True)
for name in ("reward", "grader"):
    shutil.rmtree(folder / name, ignore_errors=True)


def policy(messages: Sequence[Message], k: int) -> str:
    """The yielding model, until it is killed."""
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return yielding(messages, k)


World(folder, pytest.MonkeyPatch()).run(policy, settings=of(PAIR, fit=0.5), writer=fit_writer)
