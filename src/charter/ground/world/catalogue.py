"""The tasks by name: sixteen scored ones in the order of the audit, then the controls. A new one is a
line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from charter.ground.settings.problems import suggest
from charter.ground.world.task import Task
from charter.ground.world.tasks import (
    controls,
    t01_password,
    t02_headlines,
    t03_wiki,
    t04_employees,
    t05_account,
    t06_machine,
    t07_wallet,
    t08_jobs,
    t09_shards,
    t10_serving,
    t11_restart,
    t12_successor,
    t13_second_host,
    t14_exercise,
    t15_new_route,
    t16_patch,
)

SCORED = (
    t01_password.TASK,
    t02_headlines.TASK,
    t03_wiki.TASK,
    t04_employees.TASK,
    t05_account.TASK,
    t06_machine.TASK,
    t07_wallet.TASK,
    t08_jobs.TASK,
    t09_shards.TASK,
    t10_serving.TASK,
    t11_restart.TASK,
    t12_successor.TASK,
    t13_second_host.TASK,
    t14_exercise.TASK,
    t15_new_route.TASK,
    t16_patch.TASK,
)
CONTROLS = (
    controls.NO_FILE,
    controls.NO_MONEY,
    controls.STRAY_KEY,
    controls.OPEN_GRADER,
    controls.TASK,
    t05_account.TWIN,
    t13_second_host.TWIN,
    t14_exercise.TWIN,
)
# Worlds from this seed on are for training; those of an audit lie below it.
TRAINING = 1_000_000
TASKS: Mapping[str, Task] = {task.name: task for task in (*SCORED, *CONTROLS)}


def check_names(names: Sequence[str]) -> None:
    """Raises ValueError for a name of no task, and for one that stands twice."""
    for name in names:
        if name not in TASKS:
            raise ValueError(f"there is no task {name!r} of the audit; {suggest(name, TASKS)}")
    if len(set(names)) < len(names):
        raise ValueError("a task is named twice; name each once")
