"""Evaluations that people started from the admin pages: who, of which model, and how each ended. At most one runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, select, update

from charter_service.accounts.tables import EVALUATIONS
from charter_service.web.database import alone
from charter_service.web.refusal import NotFound, Refusal, Stale
from charter_service.web.tokens import new_id

State = Literal["running", "finished", "failed", "stopped", "interrupted"]
RUNNING: State = "running"
AGAIN: tuple[State, ...] = ("failed", "stopped", "interrupted")  # states that can be resumed
_E = EVALUATIONS.c


@dataclass(frozen=True, slots=True)
class NewEvaluation:
    """An evaluation to start. `tasks`: separated by commas, empty for those of the card; `questions` of each, 0 for
    all."""

    model: str
    tasks: str
    questions: int
    by: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation: `questions` of each task, 0 for all; `run`: the folder's name; `pid`: its process while it
    runs."""

    id: str
    model: str
    tasks: str
    questions: int
    run: str
    state: State
    created: float
    ended: float | None
    by: str
    pid: int | None


def begin(connection: Connection, new: NewEvaluation, run: str) -> Evaluation:
    """A new evaluation that runs. Raises Refusal, 409, if another one runs."""
    alone(connection)
    check_free(connection)
    values: dict[str, Any] = {
        "id": f"eval_{new_id()}",
        "model": new.model,
        "tasks": new.tasks,
        "questions": new.questions,
        "run": run,
        "state": RUNNING,
        "created": time.time(),
        "ended": None,
        "by": new.by[:200],
        "pid": None,
    }
    connection.execute(EVALUATIONS.insert().values(**values))
    return Evaluation(**values)


def check_free(connection: Connection) -> None:
    """Raises Refusal, 409, if an evaluation runs."""
    other = connection.execute(select(_E.run).where(_E.state == RUNNING).limit(1)).scalar()
    if other is not None:
        raise Refusal(f"{other} is running, and only one evaluation runs at a time; stop it, or wait for its end", 409)


def resume(connection: Connection, id: str) -> Evaluation:
    """Sets an ended evaluation running again. Raises NotFound; Stale if it has finished; Refusal if another runs."""
    alone(connection)
    check_free(connection)
    evaluation = find_evaluation(connection, id)
    if evaluation.state not in AGAIN:
        raise Stale(f"{evaluation.run} is {evaluation.state}; only one that failed or was stopped can be resumed")
    connection.execute(update(EVALUATIONS).where(_E.id == id).values(state=RUNNING, ended=None, pid=None))
    return find_evaluation(connection, id)


def note_pid(connection: Connection, id: str, pid: int) -> None:
    """Stores the process of a running evaluation."""
    connection.execute(update(EVALUATIONS).where(_E.id == id, _E.state == RUNNING).values(pid=pid))


def end(connection: Connection, id: str, state: State) -> bool:
    """Ends a running evaluation; False if it doesn't run any more."""
    values: dict[str, Any] = {"state": state, "ended": time.time(), "pid": None}
    conditions = (_E.id == id, _E.state == RUNNING)
    return bool(connection.execute(update(EVALUATIONS).where(*conditions).values(**values)).rowcount)


def find_evaluation(connection: Connection, id: str) -> Evaluation:
    """An evaluation. Raises NotFound."""
    row = connection.execute(select(EVALUATIONS).where(_E.id == id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no evaluation {id[:80]}")
    return _evaluation(row)


def evaluations(connection: Connection, most: int = 50) -> list[Evaluation]:
    """The newest, newest first."""
    rows = connection.execute(select(EVALUATIONS).order_by(_E.created.desc(), _E.id).limit(most))
    return [_evaluation(row) for row in rows]


def running(connection: Connection) -> list[Evaluation]:
    """Those that run, by the table."""
    return [_evaluation(row) for row in connection.execute(select(EVALUATIONS).where(_E.state == RUNNING))]


def _evaluation(row: Row[Any]) -> Evaluation:
    return Evaluation(**row._mapping)
