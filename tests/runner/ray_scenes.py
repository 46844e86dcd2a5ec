"""Scenes with two workers of a local Ray, printed as JSON: artifacts, notes and leftovers.

Run as a script, since Ray leaves what it started to the end of its process: ray_scenes.py FOLDER CHECKPOINTS SCENE...
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.progress import SilentBar, SilentProgress
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.runner.company import Company, Nobody
from charter.runner.execute import execute
from charter.runner.fanout import fan_out
from charter.runner.following import MARK
from charter.runner.plan import Plan, make_plan

RECIPE = """
name: fanned
seed: 3
steps:
  - name: labels
    room: feedback
    from: {{policy: "{0}/policy", labeller: "{0}/other", prompts: ./prompts.jsonl}}
    settings: {{shots: 0, chunk: 1, max_tokens: 24, known_limit: 4}}
  - name: report
    room: evaluate
    from: {{policy: "{0}/policy", grader: "{0}/grader", red_team: ./prompts.jsonl}}
    settings:
      chunk: 3
      change:
        replies: {{max_tokens: 8}}
        harmlessness: {{samples: 2, limit: 7}}
        lookalikes: {{limit: 3}}
        helpful: {{limit: 3}}
        hhh: {{limit: 4}}
        text: {{limit: 2}}
"""


class Watching(SilentProgress):
    """Keeps notes and labels of bars, and counts rows; calls `act` after the first chunk."""

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self.notes: list[str] = []
        self.workers: list[Any] = []
        self.made = self.found = 0
        self._act: Callable[[], None] | None = act

    def note(self, text: str) -> None:
        self.notes.append(text)

    def bar(self, description: str, total: int, done: int = 0) -> SilentBar:
        watching = self
        watching.found += done

        class Bar(SilentBar):
            def advance(self, n: int = 1, **shown: object) -> None:
                watching.made += n
                watching.workers.append(shown.get("workers"))
                act, watching._act = watching._act, None
                if act is not None:
                    act()

        return Bar()

    def describe(self) -> dict[str, Any]:
        return {"notes": self.notes, "workers": self.workers, "counted": [self.found, self.made]}


def worker_processes() -> list[psutil.Process]:
    """The processes of workers, by the names that Ray gives them."""
    workers = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(word.startswith("ray::Worker") for word in process.cmdline()):
                workers.append(process)
        except psutil.Error:
            continue
    return workers


def describe_artifacts(plan: Plan) -> dict[str, Any]:
    """Id, digests of all files, metrics and threads of each finished step."""
    artifacts = {}
    for planned in plan.steps:
        if (plan.run / planned.name).is_dir():
            manifest = read_manifest(plan.run / planned.name)
            files = [file.model_dump() for file in manifest.files]
            metrics = [metric.model_dump() for metric in manifest.metrics]
            facts = [manifest.id, manifest.status, manifest.environment.threads]
            artifacts[planned.name] = [*facts, files, metrics]
    return artifacts


class Scenes:
    def __init__(self, root: Path, checkpoints: Path) -> None:
        self.root = root
        rows = [toys.dialogue(f"p{n}", f"Help me with bad thing {n}.", topic="theft") for n in range(10)]
        toys.rows_file(root / "prompts.jsonl", rows)
        (root / "recipe.yaml").write_text(RECIPE.format(checkpoints))

    def plan(self, name: str, *changes: str) -> Plan:
        recipe = load_recipe(self.root / "recipe.yaml", list(changes))
        return make_plan(recipe, self.root, self.root / name, Execution())

    def run(self, plan: Plan, workers: Company, progress: Watching, until: str | None = None) -> dict[str, Any]:
        """Runs a plan; returns its artifacts, its error, and the processes and files that it left."""
        error = None
        try:
            execute(plan, progress, until, workers)
        except CharterError as refused:
            error = str(refused)
        leftovers = [path.name for path in sorted(plan.run.glob(".partial/*/*"))]
        processes = [process.pid for process in worker_processes()]
        outcome = {"made": describe_artifacts(plan), "error": error, "left": leftovers, "processes": processes}
        return outcome | progress.describe()

    def spoil(self, plan: Plan) -> None:
        """Removes the mark, as if a worker's machine saw another folder, and kills the workers."""
        (plan.run / ".partial" / "labels" / MARK).unlink()
        kill_all()


def kill_one() -> None:
    worker_processes()[0].kill()


def kill_all() -> None:
    for process in worker_processes():
        process.kill()


def main(root: Path, checkpoints: Path, names: Sequence[str]) -> dict[str, Any]:
    scenes = Scenes(root, checkpoints)
    outcomes: dict[str, Any] = {"alone": scenes.run(scenes.plan("alone"), Nobody(), Watching())}
    os.environ["OMP_NUM_THREADS"] = "2"  # of the process that leads; workers have one thread each
    with fan_out("local", 2, Execution(), Nobody()) as workers:
        if "killed" in names:
            outcomes["listens"] = sorted(listens())
            outcomes["killed"] = scenes.run(scenes.plan("killed"), workers, Watching(kill_one))
            outcomes["reused"] = scenes.run(scenes.plan("killed"), workers, Watching())
        if "refused" in names:
            plan = scenes.plan("refused")
            outcomes["refused"] = scenes.run(plan, workers, Watching(lambda: scenes.spoil(plan)), "labels")
            outcomes["resumed"] = scenes.run(plan, workers, Watching(), "labels")
        if "lost" in names:
            sys.modules["charter.runner.ray_cluster"].REPLACED = 0  # type: ignore[attr-defined]
            outcomes["lost"] = scenes.run(scenes.plan("lost"), workers, Watching(kill_all), "labels")
    outcomes["children"] = [process.pid for process in psutil.Process().children(recursive=True)]
    return outcomes


def listens() -> set[str]:
    """The addresses at which this process and its children listen."""
    addresses = set()
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                addresses.add(connection.laddr.ip.removeprefix("::ffff:"))
    return addresses


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])))
