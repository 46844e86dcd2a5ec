"""Console pages of evaluation runs: scores with intervals, two runs side by side, the gate, reports and cards; and
starting an evaluation of a served model.

Reports are somebody's HTML: they are sent with a policy of their own that runs no script and reaches nothing. Runs on
disk are read through the manifests of their steps. A run's name comes from a listing of the folder, never from a path
that somebody sends; a file from a step's manifest. Links are not followed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection
from starlette.responses import FileResponse, Response

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST, Manifest
from charter.ground.artifact.store import read_manifest
from charter_service.accounts import evaluations
from charter_service.accounts.evaluations import AGAIN, RUNNING, Evaluation, NewEvaluation
from charter_service.api.admin_entrance import TAG, AdminRoutes, Done, Shown, Visit
from charter_service.api.errors import ApiError, invalid
from charter_service.api.evaluating import Evaluating, Note
from charter_service.api.registry import Served
from charter_service.api.rendering import ADMIN
from charter_service.api.wire.answers import rfc3339
from charter_service.console.listing import timed
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound

MOST_RUNS, MOST_STEPS = 500, 200
LARGEST = 64 * 2**20  # bytes of a file that a page sends
LARGEST_MANIFEST = 8 * 2**20
RUNS, STARTED = f"{ADMIN}/runs", f"{ADMIN}/evaluations"
TASKS = re.compile(r"[a-z0-9_]+(,[a-z0-9_]+)*")
METRIC = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,99}")
MOST_QUESTIONS, COMMAND_SECONDS, MOST_RESULTS = 100_000, 120, 50
REPORT_POLICY = "; ".join(
    (
        "sandbox",
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
TYPES = {".html": "text/html; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png", ".json": "application/json"}
_one_at_a_time = threading.Lock()
_results: dict[tuple[Any, ...], dict[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Step:
    """A finished step."""

    name: str
    manifest: Manifest

    def metrics(self) -> list[dict[str, Any]]:
        """Its metrics, with intervals where it has any."""
        names = ("name", "label", "value", "low", "high", "n", "unit", "better", "group", "meaning")
        return [{name: getattr(metric, name) for name in names} for metric in self.manifest.metrics]

    def pages(self) -> list[str]:
        """The files that a browser can show."""
        return [
            file.path
            for file in self.manifest.files
            if file.path.endswith((".html", ".md")) or file.path == "report.json"
        ]


@dataclass(frozen=True, slots=True)
class Run:
    """A run: its name, when it last changed, and its finished steps in the order of their work."""

    name: str
    changed: float
    steps: tuple[Step, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """What it holds, for caches."""
        return tuple(step.manifest.id for step in self.steps)


def list_names(folder: Path) -> list[tuple[str, float]]:
    """Names of runs and when each last changed, newest first; empty if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            runs = [
                (run.name, run.stat(follow_symlinks=False).st_mtime)
                for run in entries
                if run.is_dir(follow_symlinks=False) and _is_shown(run.name) and _is_run(Path(run.path))
            ]
    except OSError:
        return []
    return sorted(runs, key=lambda run: (-run[1], run[0]))[:MOST_RUNS]


def open_run(folder: Path, name: str) -> Run:
    """A run by its name. Raises NotFound."""
    changed = dict(list_names(folder)).get(name)
    if changed is None:
        raise NotFound(f"there is no run {name[:80]!r}; the page of evaluations lists all")
    steps = sorted(_steps(folder / name), key=lambda step: (step.manifest.timing.started, step.name))
    return Run(name, changed, tuple(steps))


def find_file(folder: Path, run: str, step: str, path: str) -> tuple[Path, bool]:
    """A file of a step that its manifest lists, and whether it holds harmful text. Raises NotFound."""
    unknown = NotFound("there is no such file in this run")
    source = next((candidate for candidate in open_run(folder, run).steps if candidate.name == step), None)
    if source is None or path not in {file.path for file in source.manifest.files}:
        raise unknown
    root = (folder / run / step).resolve()
    place = root / path
    if place.resolve() != place or not place.is_relative_to(root) or not place.is_file():
        raise unknown  # a link, or a path that leaves the folder
    if place.stat().st_size > LARGEST:
        raise NotFound(f"{path[:80]} has over {LARGEST // 2**20} MiB; read it on the server")
    return place, path in source.manifest.restricted


def _steps(run: Path) -> Iterator[Step]:
    with os.scandir(run) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and _is_shown(entry.name))
    for name in names[:MOST_STEPS]:
        manifest = run / name / MANIFEST
        try:
            if not manifest.is_symlink() and manifest.stat().st_size <= LARGEST_MANIFEST:
                yield Step(name, read_manifest(run / name))
        except (CharterError, OSError, RecursionError):
            continue  # unfinished, or not Charter's


def _is_run(place: Path) -> bool:
    return (place / "run.json").is_file()


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name.isprintable()


def read_json(text: str) -> Any:
    """What a command printed as JSON. Raises CharterError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CharterError("the command answered with something else than JSON") from None


ROUTES = AdminRoutes(TAG)


def _evaluating(visit: Visit) -> Evaluating:
    if visit.service.evaluating is None:
        raise ApiError(404, "no folder of runs is configured; set runs in the server's configuration")
    return visit.service.evaluating


@ROUTES.page("GET", RUNS, "Evaluation runs")
def runs_page(visit: Visit) -> Shown:
    """The runs in the configured folder, and the evaluations that were started here."""
    evaluating = visit.service.evaluating
    with reading(visit.service.database) as connection:
        started = evaluations.evaluations(connection)
    names = list_names(evaluating.folder) if evaluating else []
    data = {
        "configured": evaluating is not None,
        "runs": [{"name": name, "changed": rfc3339(changed)} for name, changed in names],
        "evaluations": [_evaluation_row(evaluation) for evaluation in started],
        "running": next((_evaluation_row(evaluation) for evaluation in started if evaluation.state == RUNNING), None),
        "models": [model.id for model in _local(visit)],
    }
    return Shown("admin_runs", "Evaluations", data)


def _evaluation_row(evaluation: Evaluation) -> dict[str, Any]:
    facts = asdict(evaluation)
    facts.pop("pid")
    return timed({**facts, "resumable": evaluation.state in AGAIN}, "created", "ended")


def _local(visit: Visit) -> list[Served]:
    """The models that this machine runs: `charter eval` reads them from where they come."""
    return [model for model in visit.service.registry.served if not model.model.backend]


@ROUTES.page("GET", f"{RUNS}/compare", "Two runs side by side")
def compare_page(visit: Visit) -> Shown:
    """What is better and worse in a second run than in a first, paired over the prompts that both answered."""
    folder = _evaluating(visit).folder
    first, second = open_run(folder, visit.query("a")), open_run(folder, visit.query("b"))
    answer = _command_answer(
        ("compare", first.name, first.ids, second.name, second.ids), folder, [first.name, second.name]
    )
    data = {"a": first.name, "b": second.name, "metrics": answer["facts"].get("metrics", []), "error": answer["error"]}
    return Shown("admin_compare", "Compare", data)


@ROUTES.page("GET", f"{RUNS}/{{run}}", "One run")
def run_page(visit: Visit) -> Shown:
    """The steps of a run with their metrics, and their reports. With `require`, `max` or `baseline`: the gate's
    result."""
    folder = _evaluating(visit).folder
    run, gate = open_run(folder, visit.part("run")), None
    options = _gate_options(visit, folder)
    if options:
        gate = _command_answer(("gate", run.name, run.ids, *options), folder, [run.name], options)
    data = {
        "run": run.name,
        "changed": rfc3339(run.changed),
        "steps": [
            {
                "name": step.name,
                "room": step.manifest.room,
                "id": step.manifest.id,
                "metrics": step.metrics(),
                "pages": [{"path": path, "place": _place(run.name, step.name, path)} for path in step.pages()],
            }
            for step in run.steps
        ],
        "others": [name for name, _ in list_names(folder) if name != run.name],
        "gate": gate,
        "asked": {name: visit.query(name) for name in ("require", "max", "min", "baseline")},
    }
    return Shown("admin_run", run.name, data)


def _place(run: str, step: str, path: str) -> str:
    return f"{RUNS}/{quote(run, safe='')}/{quote(step, safe='')}/{quote(path)}"


def _gate_options(visit: Visit, folder: Path) -> list[str]:
    """What the gate asks for. Raises ApiError for anything else than names, limits and a run."""
    options: list[str] = []
    if require := visit.query("require"):
        if not all(METRIC.fullmatch(name) for name in require.split(",")):
            raise invalid("require: expected names of metrics, separated by commas", "require")
        options.append(f"--require={require}")
    for name in ("max", "min"):
        if limit := visit.query(name):
            metric, equals, value = limit.partition("=")
            if not equals or not METRIC.fullmatch(metric) or not re.fullmatch(r"-?\d{1,9}(\.\d{1,9})?", value):
                raise invalid(f"{name}: expected METRIC=NUMBER, such as harm_rate=0.2", name)
            options.append(f"--{name}={limit}")
    if baseline := visit.query("baseline"):
        options.append(f"--baseline={folder / open_run(folder, baseline).name}")
    return options


def _command_answer(
    key: tuple[Any, ...], folder: Path, runs: Sequence[str], options: Sequence[str] = ()
) -> dict[str, Any]:
    """What `charter compare` or `charter gate` says of runs: its facts, and its error in one line. Results are kept by
    what the runs hold. Raises ApiError if another command is at work."""
    if key in _results:
        return _results[key]
    if not _one_at_a_time.acquire(blocking=False):
        raise ApiError(429, "another comparison is being made; try again in a few seconds", retry_after=5)
    try:
        places = [str((folder / name).resolve()) for name in runs]
        command = [sys.executable, "-m", "charter", str(key[0]), "--json", *options, "--", *places]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ApiError(504, f"it takes over {COMMAND_SECONDS} s; run charter {key[0]} on the server") from None
    finally:
        _one_at_a_time.release()
    words = " ".join(done.stderr.split()).removeprefix("charter: error: ")
    words = words.replace(f"{folder.resolve()}/", "").replace(f"{folder}/", "")
    facts = read_json(done.stdout) if done.stdout.strip() else {}
    answer = {"facts": facts if isinstance(facts, dict) else {}, "error": words if done.returncode else ""}
    if len(_results) >= MOST_RESULTS:
        _results.pop(next(iter(_results)))
    _results[key] = answer
    return answer


@ROUTES.page("GET", f"{RUNS}/{{run}}/{{step}}/{{path:path}}", "A file of a run")
def file_page(visit: Visit) -> Response:
    """A report, a card, or another file that a step's manifest lists; who opens one with harmful text is noted in the
    audit log. Raises NotFound."""
    path = str(visit.request.path_params["path"])
    run, step = visit.part("run"), visit.part("step")
    place, restricted = find_file(_evaluating(visit).folder, run, step, path)
    if restricted:
        with writing(visit.service.database) as connection:
            visit.note(connection, "harmful_file.open", f"{run}/{step}/{path}")
    headers = {"content-security-policy": REPORT_POLICY, "x-content-type-options": "nosniff"}
    return FileResponse(place, media_type=TYPES.get(place.suffix, "text/plain; charset=utf-8"), headers=headers)


@ROUTES.page("POST", STARTED, "Start an evaluation", "operate")
def start(visit: Visit) -> Done:
    """Starts an evaluation of a served model in the background. Raises Refusal, 409, if one runs."""
    evaluating, form = _evaluating(visit), visit.form
    tasks = "".join(form.text("tasks").split())
    if tasks and not (TASKS.fullmatch(tasks) and len(tasks) <= 500):
        raise invalid("tasks: expected names of evaluations, such as arc,bbq; charter explain lists all", "tasks")
    questions = form.number("questions")
    if questions is None or not 0 <= questions <= MOST_QUESTIONS:
        raise invalid(f"questions: expected 0 (all) to {MOST_QUESTIONS:,} of each evaluation", "questions")
    served = _model(visit, form.text("model"))
    new = NewEvaluation(served.id, tasks, questions, visit.by)
    evaluation = evaluating.start(served.model.source, new, _noting(visit, "evaluation.start"))
    return Done(f"{STARTED}/{evaluation.id}", _evaluation_row(evaluation))


def _noting(visit: Visit, act: str) -> Note:
    """Adds an act on an evaluation to the audit log."""

    def note(connection: Connection, evaluation: Evaluation) -> None:
        facts = {
            "run": evaluation.run,
            "model": evaluation.model,
            "tasks": evaluation.tasks,
            "questions": evaluation.questions,
        }
        visit.note(connection, act, evaluation.id, None, facts)

    return note


def _model(visit: Visit, id: str) -> Served:
    for model in _local(visit):
        if model.id == id:
            return model
    raise invalid(f"model: {id[:80]!r} is not a model that this machine runs", "model")


@ROUTES.page("GET", f"{STARTED}/{{evaluation}}", "One evaluation")
def evaluation_page(visit: Visit) -> Shown:
    """How an evaluation stands, and the end of its log."""
    evaluating = _evaluating(visit)
    with reading(visit.service.database) as connection:
        evaluation = evaluations.find_evaluation(connection, visit.part("evaluation"))
    log = evaluating.log(evaluation)
    on_disk = evaluation.run in dict(list_names(evaluating.folder))
    return Shown(
        "admin_evaluation", "Evaluation", {"evaluation": _evaluation_row(evaluation), "log": log, "there": on_disk}
    )


@ROUTES.page("POST", f"{STARTED}/{{evaluation}}/stop", "Stop an evaluation", "operate")
def stop(visit: Visit) -> Done:
    """Stops a running evaluation. Raises Stale if it has ended."""
    id = visit.part("evaluation")
    _evaluating(visit).stop(id)
    with writing(visit.service.database) as connection:
        _noting(visit, "evaluation.stop")(connection, evaluations.find_evaluation(connection, id))
    return _now(visit, id)


@ROUTES.page("POST", f"{STARTED}/{{evaluation}}/resume", "Resume an evaluation", "operate")
def go_on(visit: Visit) -> Done:
    """Resumes an evaluation that was stopped, was interrupted or failed."""
    id = visit.part("evaluation")
    with reading(visit.service.database) as connection:
        evaluation = evaluations.find_evaluation(connection, id)
    _evaluating(visit).resume(id, _model(visit, evaluation.model).model.source, _noting(visit, "evaluation.resume"))
    return _now(visit, id)


def _now(visit: Visit, id: str) -> Done:
    with reading(visit.service.database) as connection:
        return Done(f"{STARTED}/{id}", _evaluation_row(evaluations.find_evaluation(connection, id)))
