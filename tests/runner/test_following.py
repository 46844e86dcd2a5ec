"""A follower makes the leader's chunks, or says in one line why it would make others."""

import socket
from pathlib import Path
from typing import Any

import pytest

import toys
from charter import building
from charter.building import ROOMS
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.environment import environment_of
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.runner import following
from charter.runner.following import MARK, Task, follow, hand_out, sweep_up
from charter.runner.plan import PlannedStep, make_plan
from charter.runner.rooms import room_runner


@pytest.fixture(autouse=True)
def rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "ROOMS", ROOMS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def planned(tmp_path: Path, checkpoints: Path) -> PlannedStep:
    toys.rows_file(tmp_path / "prompts.jsonl", [toys.dialogue(f"p{n}", f"Help me, {n}.") for n in range(4)])
    (tmp_path / "recipe.yaml").write_text(
        f"""
        name: followed
        steps:
          - name: labels
            room: feedback
            from: {{policy: "{checkpoints / "policy"}", labeller: "{checkpoints / "other"}", prompts: ./prompts.jsonl}}
            settings: {{shots: 0, chunk: 1, max_tokens: 4, known_limit: 4}}
        """
    )
    recipe = load_recipe(tmp_path / "recipe.yaml", [])
    return make_plan(recipe, tmp_path, tmp_path / "run", Execution()).steps[0]


@pytest.fixture
def task(planned: PlannedStep, tmp_path: Path) -> Task:
    (tmp_path / "step").mkdir()
    return hand_out(planned, tmp_path / "step", environment_of(Execution()), None)


class All:
    leads = False

    def claim(self, key: str, number: int) -> bool:
        return True

    def wait(self) -> None:
        raise AssertionError("there is nobody else")


def test_a_task_comes_through_json_and_gives_the_chunks_of_one_process(
    task: Task, planned: PlannedStep, tmp_path: Path
) -> None:
    copy = Task.model_validate_json(task.model_dump_json())
    assert copy == task and copy.inputs == planned.inputs
    follow(copy, All())
    out = Workspace(tmp_path / "alone", step=planned.name, seed=planned.seed)
    room_runner(planned.room)(planned.settings, Inputs(planned.inputs), out)
    chunks = {path.name: path.read_bytes() for path in (tmp_path / "step" / "state").iterdir()}
    assert chunks == {path.name: path.read_bytes() for path in out.state.iterdir()}
    assert set(chunks) == {f"{key}-0000{n}.json" for key in ("pairs", "known", "labels") for n in range(4)}
    assert not (tmp_path / "step" / "files").exists()  # the artifact is the leader's to make


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mark": "of another folder"}, "does not see the run directory .* put the run, with --out"),
        ({"source": "other"}, "has other sources of charter than the leading machine"),
        ({"threads": 7}, "has threads 1 and the leading machine 7, .* run with OMP_NUM_THREADS=7"),
        ({"torch": "1.0"}, "has torch version .* and the leading machine 1.0"),
        ({"python": "2.7"}, "has Python .* and the leading machine 2.7: use one"),
        ({"path": Path("/nowhere/prompts.jsonl")}, r"does not see /nowhere/prompts.jsonl \(role prompts\)"),
    ],
)
def test_what_would_make_other_chunks_is_refused_in_one_line(task: Task, change: dict[str, Any], words: str) -> None:
    if "path" in change:
        inputs = tuple(
            entry.__class__(**{**entry.__dict__, **change}) if entry.role == "prompts" else entry
            for entry in task.inputs
        )
        task = task.model_copy(update={"inputs": inputs})
    elif change.keys() <= Task.model_fields.keys():
        task = task.model_copy(update=change)
    else:
        task = task.model_copy(update={"environment": task.environment.model_copy(update=change)})
    with pytest.raises(CharterError, match=f"^{socket.gethostname()} {words}") as refused:
        follow(task, All())
    assert "\n" not in str(refused.value)


def test_the_file_of_answers_is_for_processes_of_one_machine(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches: list[Path | None] = []
    monkeypatch.setattr(following, "room_runner", lambda room: lambda s, i, out: caches.append(out.cache))
    task = task.model_copy(update={"cache": tmp_path / "answers.sqlite"})
    follow(task, All())
    follow(task.model_copy(update={"host": "another"}), All())
    assert caches == [tmp_path / "answers.sqlite", None]


def test_what_followers_leave_is_swept_up(task: Task) -> None:
    (task.folder / "scratch-abc" / "files").mkdir(parents=True)
    (task.folder / "state").mkdir()
    assert (task.folder / MARK).read_text() == task.mark
    sweep_up(task.folder)
    assert [path.name for path in task.folder.iterdir()] == ["state"]
