"""Kills a run before each n-th of its changes to the disk in turn; checks the visible artifacts and the result of a resume.

Run as a script (it forks): kill_everywhere.py FOLDER N. Prints the number of instants.
"""

import gc
import os
import shutil
import signal
import sys
from pathlib import Path

from charter import building
from charter.ground.artifact.progress import SilentProgress
from charter.ground.artifact.store import read_manifest, verify_files
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.runner.execute import execute
from charter.runner.plan import make_plan
from conftest import RECIPE, ROOMS

CHANGES = ("replace", "rename", "mkdir", "unlink", "rmdir", "fsync")


def run(folder: Path, changes: list[str]) -> None:
    recipe = load_recipe(folder.parent / "recipe.yaml", changes)
    execute(make_plan(recipe, folder.parent, folder, Execution()), SilentProgress())


def killed_run(folder: Path, changes: list[str], instant: int) -> bool:
    """Runs in a child that kills itself before its n-th change of the disk; returns whether it did."""
    child = os.fork()
    if child == 0:
        count = 0

        def watched(function):  # type: ignore[no-untyped-def]
            def call(*args, **keywords):  # type: ignore[no-untyped-def]
                nonlocal count
                count += 1
                if count == instant:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **keywords)

            return call

        for name in CHANGES:
            setattr(os, name, watched(getattr(os, name)))
        try:
            run(folder, changes)
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def content(folder: Path) -> dict[str, object]:
    """The visible artifacts, all of which must be whole."""
    artifacts: dict[str, object] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            manifest = read_manifest(path)
            assert manifest.status == "done" and verify_files(path, manifest) == []
            artifacts[path.name] = (manifest.id, manifest.files, manifest.metrics)
    return artifacts


def main(root: Path, every: int) -> int:
    os.fsync = lambda _: None  # a killed process loses nothing that it has written; only a power cut would
    gc.freeze()  # what is imported: each step searches for garbage at its end
    building.ROOMS = ROOMS
    (root / "recipe.yaml").write_text(RECIPE)
    (root / "mine.jsonl").write_text('{"id": "a", "messages": [{"role": "user", "content": "hi"}]}\n')
    changed = ["made.count=5"]
    for name, changes in (("whole", []), ("other", changed)):
        run(root / name, changes)
    shutil.copytree(root / "whole", root / "both")
    run(root / "both", changed)
    # a first run; a run that supersedes another; one that restores superseded artifacts
    scenes = ((None, [], "whole"), ("whole", changed, "other"), ("both", [], "whole"))
    instants = 0
    for start, changes, expected in scenes:
        instant = 1
        while True:
            folder = root / "here"
            shutil.rmtree(folder, ignore_errors=True)
            if start is not None:
                shutil.copytree(root / start, folder)
            if not killed_run(folder, changes, instant):
                break
            visible = content(folder) if folder.exists() else {}
            if start is None:
                reference = content(root / expected)
                assert all(visible[step] == reference[step] for step in visible)
            run(folder, changes)
            assert content(folder) == content(root / expected), (start, instant)
            assert not list((folder / ".partial").glob("*")), (start, instant)
            folders = {p.name for p in (folder / ".superseded").glob("*")}
            expected_count = {"whole": 3, "both": 3}.get(start or "", 0)
            assert len(folders) == expected_count, (start, instant, folders)
            instant, instants = instant + every, instants + 1
    return instants


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), int(sys.argv[2])), "instants")
