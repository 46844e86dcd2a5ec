"""Reuse, supersede and restore, resume, damage, locks, failures of a run directory."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import walk
from charter.ground.artifact.manifest import digest_tree
from charter.ground.artifact.store import read_manifest, verify_files
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.execution import Execution
from charter.runner import directory, identity
from charter.runner import execute as execute_module
from charter.runner.forecast import forecast, plan_records
from charter.runner.pace import START
from charter.runner.plan import Plan
from charter.runner.show import run_records, view_run
from charter.runner.step_runner import sweep
from charter.terminal.launch import settings as launch_settings

PlanOf = Callable[..., Plan]
Run = Callable[..., list[str]]


def statuses(plan: Plan) -> dict[str, str]:
    return {line.planned.name: line.status for line in forecast(plan)}


def expected_notes(*steps: str) -> list[str]:
    """The notes of a first run; the rooms for tests estimate one minute, and only for the first step."""
    lines = [f"{step} (step {n} of {len(steps)}): started" for n, step in enumerate(steps, 1)]
    lines[0] += "; left in the run: 1 minute"
    return [line for started, step in zip(lines, steps, strict=True) for line in (started, f"{step}: done")]


def test_a_run_makes_whole_artifacts_and_a_second_reuses_them(folder: Path, plan_of: PlanOf, run: Run) -> None:
    assert run(plan_of()) == expected_notes("made", "taught", "report")
    for step, kind in (("made", "dialogues"), ("taught", "checkpoint"), ("report", "report")):
        manifest = read_manifest(folder / "run" / step)
        assert (manifest.status, manifest.kind) == ("done", kind)
        assert verify_files(folder / "run" / step, manifest) == []
    assert manifest.restricted == ["harmful.jsonl"] and read_manifest(folder / "run" / "made").restricted == []
    modes = {f.path: (folder / "run/report" / f.path).stat().st_mode & 0o777 for f in manifest.files}
    assert modes["harmful.jsonl"] == 0o600 != modes["report.json"]
    assert not list((folder / "run" / ".partial").iterdir())
    assert manifest.metrics[0].value is None and "nan" in str(manifest.metrics[0].note)
    assert [m.step for m, _ in walk(folder / "run" / "report")] == ["made", "taught", "report"]
    before = digest_tree(folder / "run")
    assert run(plan_of()) == ["made: reused", "taught: reused", "report: reused"]
    assert digest_tree(folder / "run") == before


def test_sources_edited_while_a_run_goes_on_stop_it(
    folder: Path, plan_of: PlanOf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids name the code that the plan saw; other code must not publish under them."""
    plan = plan_of()
    monkeypatch.setattr(identity, "_digest", lambda package: "edited")
    with pytest.raises(CharterError, match="made: somebody edited charter's sources during this run"):
        run(plan)
    assert not (folder / "run" / "made").exists()


def test_other_settings_supersede_and_the_old_are_found_again(folder: Path, plan_of: PlanOf, run: Run) -> None:
    run(plan_of())
    first = read_manifest(folder / "run" / "taught")
    assert statuses(plan_of("taught.lr=2e-3")) == {"made": "reused", "taught": "run", "report": "run"}
    run(plan_of("taught.lr=2e-3"))
    assert read_manifest(folder / "run" / "taught").resolved["lr"] == 2e-3
    shelf = folder / "run" / ".superseded"
    assert {p.name for p in shelf.iterdir()} >= {f"taught-{first.id[:12]}"}
    assert statuses(plan_of())["taught"] == "reused"
    notes = run(plan_of())
    assert "taught: reused (restored from .superseded)" in notes
    assert read_manifest(folder / "run" / "taught") == first
    assert len(list(shelf.iterdir())) == 2  # the other two artifacts, ready to come back


def test_a_tampered_file_is_made_again(folder: Path, plan_of: PlanOf, run: Run) -> None:
    run(plan_of())
    target = folder / "run" / "taught" / "weights" / "w.json"
    original = target.read_bytes()
    target.write_bytes(original.replace(b"seed", b"feed"))
    notes = run(plan_of())
    assert notes[1] == "taught is damaged and runs again: weights/w.json was changed (sha256 differs)"
    assert notes[0] == "made: reused" and notes[-1] == "report: reused"
    assert target.read_bytes() == original


@pytest.mark.parametrize("name", ["manifest.json", "config.json"])
def test_a_missing_file_is_made_again(folder: Path, plan_of: PlanOf, run: Run, name: str) -> None:
    run(plan_of())
    (folder / "run" / "taught" / name).unlink()
    assert "taught: done" in run(plan_of())
    assert read_manifest(folder / "run" / "taught").status == "done"


def test_chunks_resume_without_redoing(
    folder: Path, plan_of: PlanOf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plan_of())
    whole = (folder / "run" / "made" / "dialogues.jsonl").read_bytes()
    calls = folder / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("FAULT", "crash 2")
    plan = plan_of("made.noise.strength=1.0")
    with pytest.raises(CharterError, match=r"step made: ValueError: nobody foresaw this; the traceback is in"):
        run(plan)
    partial = folder / "run" / ".partial" / "made"
    assert read_manifest(partial).status == "failed"
    assert "nobody foresaw this" in (partial / "traceback.txt").read_text()
    assert statuses(plan)["made"] == "resume"
    monkeypatch.setenv("FAULT", "")
    assert run(plan)[0].startswith("made (step 1 of 3): resumed")
    assert calls.read_text().split() == ["0", "1", "2"]
    assert (folder / "run" / "made" / "dialogues.jsonl").read_bytes() == whole  # the room ignores the noise
    assert not partial.exists()


def test_partial_work_of_other_settings_is_kept_and_goes_on_when_they_come_back(
    folder: Path, plan_of: PlanOf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLS", str(folder / "calls"))
    monkeypatch.setenv("FAULT", "refuse 1")
    with pytest.raises(CharterError, match=r"^step made: the room refuses this$"):
        run(plan_of())
    monkeypatch.setenv("FAULT", "")
    note = "made: unfinished work under other settings is kept, and resumes when they come back"
    assert forecast(plan_of("made.count=5"))[0].standing.notes == (note,)
    assert run(plan_of("made.count=5"), "made")[0] == note
    assert (folder / "calls").read_text().split() == ["0", "0", "1", "2"]
    assert statuses(plan_of())["made"] == "resume"
    assert run(plan_of(), "made")[0].startswith("made (step 1 of 1): resumed")
    assert (folder / "calls").read_text().split()[4:] == ["1", "2"]
    assert not list((folder / "run" / ".partial").iterdir())


def test_unfinished_work_of_two_settings_changes_places(
    folder: Path, plan_of: PlanOf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [plan_of(), plan_of("made.count=5")]
    for fault, plan in zip(("refuse 1", "refuse 2", "refuse 2"), (*plans, plans[0]), strict=True):
        monkeypatch.setenv("FAULT", fault)
        with pytest.raises(CharterError):
            run(plan)
    aside = folder / "run" / ".partial" / f"made@{plans[1].steps[0].id[:12]}"
    assert {path.name for path in aside.parent.iterdir()} == {"made", aside.name}
    assert len(list((aside.parent / "made" / "state").iterdir())) == 2
    assert len(sweep(folder / "run", partial=True, superseded=False)) == 2 and not aside.exists()


def test_work_that_saved_nothing_is_not_kept(
    folder: Path, plan_of: PlanOf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "refuse 0")
    for change in ("made.count=6", "made.count=5"):
        with pytest.raises(CharterError):
            run(plan_of(change))
    assert [path.name for path in (folder / "run" / ".partial").iterdir()] == ["made"]


@pytest.mark.parametrize(
    ("fault", "error", "status"), [("interrupt 1", KeyboardInterrupt, "started"), ("full 1", CharterError, "failed")]
)
def test_an_interrupt_and_a_full_disk_keep_the_work(
    folder: Path,
    plan_of: PlanOf,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    error: type[BaseException],
    status: str,
) -> None:
    monkeypatch.setenv("FAULT", fault)
    with pytest.raises(error) as caught:
        run(plan_of())
    if error is CharterError:
        assert str(caught.value).startswith("the disk is full (somewhere)")
    partial = folder / "run" / ".partial" / "made"
    assert read_manifest(partial).status == status
    assert [p.name for p in (partial / "state").iterdir()] == ["words-00000.json"]


def test_a_resume_under_another_environment_is_refused(
    folder: Path, plan_of: PlanOf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "refuse 1")
    with pytest.raises(CharterError):
        run(plan_of())
    monkeypatch.setenv("FAULT", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with pytest.raises(CharterError, match=r"threads 2 .* resume with 7, .*OMP_NUM_THREADS=2, .*gc .* --partial"):
        run(plan_of())
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(CharterError, match=r"precision float32 .* bfloat16, .*--precision float32"):
        run(plan_of(execution=Execution("cpu", "bfloat16")))
    assert forecast(plan_of(execution=Execution("cuda", "float32")))[0].standing.refusal
    with monkeypatch.context() as other:
        other.setattr("charter.ground.settings.environment.instructions", lambda: ["sse9"])
        with pytest.raises(CharterError, match=r"resume with sse9, .* run on a CPU that has these"):
            run(plan_of())
    removed = sweep(folder / "run", partial=True, superseded=False)
    assert [path.name for path, size in removed if size] == ["made"]
    assert run(plan_of(execution=Execution("cpu", "bfloat16")))[0].startswith("made (step 1 of 3): started")


def test_done_artifacts_are_reused_under_other_threads(
    plan_of: PlanOf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plan_of())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run(plan_of())[0] == "made: reused"


def test_until_runs_only_what_is_needed(folder: Path, plan_of: PlanOf, run: Run) -> None:
    plan = plan_of()
    assert run(plan, "taught") == expected_notes("made", "taught")
    assert {v.name: v.status for v in view_run(folder / "run")} == {
        "made": "done",
        "taught": "done",
        "report": "pending",
    }
    with pytest.raises(CharterError, match=r"--until tought: there is no such step; did you mean taught\?"):
        run(plan, "tought")


def test_a_directory_in_use_is_refused(folder: Path, plan_of: PlanOf, run: Run) -> None:
    (folder / "run").mkdir()
    with (folder / "run" / ".lock").open("w") as lock:
        lock.write("4242\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CharterError, match="is in use by process 4242"):
            run(plan_of())
        with pytest.raises(CharterError, match="is in use by process 4242"):
            sweep(folder / "run", partial=True, superseded=True)
    assert "made: done" in run(plan_of())


def test_a_source_that_changes_after_the_plan_is_refused(folder: Path, plan_of: PlanOf, run: Run) -> None:
    plan = plan_of()
    with (folder / "mine.jsonl").open("a") as file:
        file.write('{"id": "b", "messages": [{"role": "user", "content": "ho"}]}\n')
    with pytest.raises(CharterError, match=r"step made: .*mine.jsonl changed since the plan was made"):
        run(plan)
    assert plan_of().steps[0].id != plan.steps[0].id


def test_artifacts_of_another_run_can_be_used(
    folder: Path, plan_of: PlanOf, run: Run, recipe_of: Callable[..., str]
) -> None:
    run(plan_of(), "made")
    (folder / "run").rename(folder / "first")
    other = recipe_of(taught={"from": {"dialogues": "first/made"}})
    run(plan_of(text=other), "taught")
    manifest = read_manifest(folder / "run" / "taught")
    assert manifest.parents[0].path == "../first/made"
    assert [m.step for m, _ in walk(folder / "run" / "taught")] == ["made", "taught"]
    (folder / "first" / "made" / "dialogues.jsonl").write_text("{}\n")
    with pytest.raises(CharterError, match=r"first/made is damaged: dialogues.jsonl has 3 bytes"):
        run(plan_of("taught.steps=9"), "taught")


def test_an_artifact_of_another_run_that_was_replaced_after_the_plan_is_refused(
    folder: Path, plan_of: PlanOf, run: Run, recipe_of: Callable[..., str]
) -> None:
    """Its id would name the earlier content."""
    for name, change in (("first", "made.count=3"), ("second", "made.count=5")):
        run(plan_of(change), "made")
        (folder / "run").rename(folder / name)
    plan = plan_of(text=recipe_of(taught={"from": {"dialogues": "first/made"}}))
    (folder / "first/made").rename(folder / "first/old")
    (folder / "second/made").rename(folder / "first/made")
    with pytest.raises(CharterError, match=r"step taught: .*first/made was replaced since the plan was made"):
        run(plan, "taught")


def test_a_file_laid_beside_an_artifact_is_no_damage(folder: Path, plan_of: PlanOf, run: Run) -> None:
    run(plan_of())
    (folder / "run/report/.DS_Store").write_bytes(b"x")
    assert run(plan_of())[-1] == "report: reused"
    problems = verify_files(folder / "run/report", read_manifest(folder / "run/report"))
    assert problems == [".DS_Store is not in the manifest"]


def test_finished_work_that_was_not_published_survives_other_settings(
    folder: Path, plan_of: PlanOf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between a step's last file and its rename."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(directory, "publish", stop)
        run(plan_of(), "made")
    assert not (folder / "run/made").exists()
    run(plan_of("made.count=5"), "made")
    monkeypatch.setenv("CALLS", str(folder / "calls"))
    assert run(plan_of(), "made") == ["made: reused (restored from .superseded)"]
    assert not (folder / "calls").exists()


def test_show_and_plan_records_have_exactly_their_keys(folder: Path, plan_of: PlanOf, run: Run) -> None:
    keys = {"name", "room", "kind", "id", "path", "status", "metrics"}
    record = plan_records(forecast(plan_of()))[0]
    assert set(record) == keys | {"minutes", "memory_gib", "disk_gib"}
    assert (record["minutes"], record["memory_gib"]) == (1.0 + START, 0.5)
    run(plan_of())
    records = run_records(view_run(folder / "run"))
    assert all(set(one) == keys | {"parents", "intervals"} for one in records)
    assert [one["parents"] for one in records] == [
        [],
        [{"role": "dialogues", "step": "made"}],
        [{"role": "policy", "step": "taught"}],
    ]
    assert [one["intervals"] for one in records] == [{"mean": [0.0, 1.0, 6]}, {}, {}]
    assert records[1]["metrics"] == {"loss": 1.25} and records[2]["metrics"] == {"harm_rate": None}
    assert json.loads((folder / "run" / "run.json").read_text())["order"] == ["made", "taught", "report"]


def test_an_outdated_artifact_is_shown_as_such(folder: Path, plan_of: PlanOf, run: Run) -> None:
    run(plan_of())
    run(plan_of("taught.steps=5"), "taught")
    assert {v.name: v.status for v in view_run(folder / "run")}["report"] == "outdated"


def test_sweep_says_what_it_frees(folder: Path, plan_of: PlanOf, run: Run) -> None:
    run(plan_of())
    run(plan_of("taught.steps=5"))
    dry = sweep(folder / "run", partial=True, superseded=True, dry_run=True)
    assert len(dry) == 2 and all(size > 0 for _, size in dry)
    assert sweep(folder / "run", partial=True, superseded=True) == dry
    assert not list((folder / "run" / ".superseded").iterdir())
    assert run(plan_of("taught.steps=5"))[-1] == "report: reused"


def test_an_unwritable_directory_is_one_line(
    folder: Path, plan_of: PlanOf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--out helps only below the run directory."""

    def refuse(place: Path) -> Callable[..., None]:
        def write(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system", str(place))

        return write

    for place, advice in ((folder / "run/run.json", "choose another directory with --out"), (folder / "x", "name an")):
        monkeypatch.setattr(execute_module, "write_run_file", refuse(place))
        with pytest.raises(CharterError, match=rf"read-only \({place}\): change its rights or {advice}"):
            run(plan_of())


def test_a_run_directory_that_cannot_be_made_is_one_line(folder: Path, plan_of: PlanOf, run: Run) -> None:
    (folder / "run").symlink_to("/proc/nowhere")
    with pytest.raises(CharterError, match=r"cannot create the run directory .*run \(.*\): choose another with --out$"):
        run(plan_of())


@pytest.mark.parametrize(("every", "least"), [(12, 20), pytest.param(1, 240, marks=pytest.mark.slow)])
def test_killed_at_any_instant(tmp_path: Path, every: int, least: int) -> None:
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(here / "kill_everywhere.py"), str(tmp_path), str(every)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stdout + process.stderr
    assert int(process.stdout.split()[0]) > least  # instants at which it was killed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what is measured is glibc's, and Linux tells it")
def test_memory_that_a_step_left_free_goes_back_to_the_system() -> None:
    """Under the launcher's settings the allocator keeps everything below the last used block."""
    lines = (
        "import charter.runner.step_runner as step_runner",
        "mib = lambda: int(next(x for x in open('/proc/self/status') if 'VmRSS' in x).split()[1]) / 1024",
        "blocks = [bytearray(b'x') * 2**20 for _ in range(200)]; del blocks[:-1]",
        "before = mib(); step_runner.give_memory_back(); print(before - mib())",
    )
    process = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env={**os.environ, **launch_settings(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(process.stdout) > 150


def test_steps_share_the_file_of_answers_of_this_code_and_machine(
    folder: Path, plan_of: PlanOf, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches: list[Path] = []

    def spy(self: Workspace, name: str, value: Any) -> None:
        if name == "cache" and value is not None:
            caches.append(value)
        object.__setattr__(self, name, value)

    monkeypatch.setattr(Workspace, "__setattr__", spy)
    shelf = folder / "run" / ".cache"
    shelf.mkdir(parents=True)
    (shelf / "0123456789abcdef.sqlite-wal").write_text("of other code")
    run(plan_of())
    (name,) = set(caches)
    assert name.parent == shelf and len(caches) == 3
    assert list(shelf.iterdir()) == []
    name.write_text("answers")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run(plan_of("made.count=5"))
    assert caches[-1] != name and not name.exists(), "threads round otherwise"
    caches[-1].write_text("answers")
    run(plan_of("made.count=5"))
    assert [path for path, _ in sweep(folder / "run", partial=False, superseded=False, answers=True)] == [shelf]
    assert not shelf.exists()
