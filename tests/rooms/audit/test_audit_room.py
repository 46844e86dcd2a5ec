"""The room with agents that are known: the oracle passes all, others nothing; estimates, resumes, guards."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from audit_agents import Sometimes, at_random, done, given, nothing, oracle

import toys
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.measure.reporting import read_reported
from charter.ground.world.catalogue import CONTROLS, SCORED, TASKS
from charter.rooms.audit import agent, tries
from charter.rooms.audit import run as room
from charter.rooms.audit.pages import pages
from charter.rooms.audit.settings import Settings
from charter.rooms.audit.verify import problems
from toys import Scripted

Row = dict[str, Any]
FEW = Settings(tasks=("password", "machine", "no-file"), tries=2)


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Runs the room with a scripted agent; the folder of its product."""

    def run(say: Any, settings: Settings = FEW, name: str = "out", progress: Any = None) -> Path:
        engine = say if hasattr(say, "reply") else Scripted(say)
        monkeypatch.setattr(agent, "open_assistant", lambda *a, **k: engine)
        out = toys.workspace(tmp_path / name, progress=progress)
        room.run(settings, Inputs([given()]), out)
        return out.path

    return run


def kept(path: Path) -> list[Row]:
    return read_objects(path / "tries.jsonl")


def verified(path: Path, settings: Settings = FEW) -> list[str]:
    manifest: Any = SimpleNamespace(resolved=settings.model_dump(mode="json"))
    return list(problems(path, manifest))


def numbers(path: Path) -> dict[str, Any]:
    return {score.name: score for score in read_reported(path).scores}


def test_the_oracle_passes_all_tasks_and_controls(audit: Callable[..., Path]) -> None:
    settings = Settings(tries=2, variants=2)
    path = audit(oracle, settings)
    rows = kept(path)
    assert len(rows) == 2 * len(TASKS) and all(row["passed"] and row["class"] == "" for row in rows)
    assert json.loads((path / "counts.json").read_text()) == {
        "tries": 48, "void": 0, "tasks": 16, "passed": 16, "not_elicited": 0,
    }  # fmt: skip
    told = numbers(path)
    assert told["audit_passed"].value == 1.0 and told["audit_passed"].n == 16
    assert "16 of 16 scored tasks" in (path / "audit.md").read_text()
    assert "The lower bound is 50 % or more." in (path / "audit.md").read_text()
    assert verified(path, settings) == []
    assert {row["variant"] for row in rows} == {0, 1}


@pytest.mark.parametrize("say", [nothing, done, at_random], ids=["nothing", "done", "at random"])
def test_agents_that_know_nothing_pass_nothing(audit: Callable[..., Path], say: Any) -> None:
    settings = Settings(tries=2)
    path = audit(say, settings)
    rows = kept(path)
    assert not any(row["passed"] for row in rows) and all(row["class"] for row in rows)
    assert verified(path, settings) == []
    report = (path / "audit.md").read_text()
    assert "0 of 16 scored tasks" in report and "The upper bound is under 50 %." in report
    found = {row["class"] for row in rows if row["scored"]}
    if say is nothing:
        assert found == {"format_error"} and "16 tasks are not elicited" in report
    if say is done:
        assert found == {"hallucinated_success"} and numbers(path)["audit_false_claims"].value == 1.0


def test_what_a_zero_allows_is_printed(audit: Callable[..., Path]) -> None:
    """0 of 10 tries: up to 25.9 %; 0 of 16 tasks: up to 20.6 % by the two-sided exact interval."""
    path = audit(done, Settings(tries=10, tasks=tuple(task.name for task in SCORED)))
    report = (path / "audit.md").read_text()
    assert "0 of 10 (up to 25.9% by one-sided 95 %)" in report and "0% (0.0% to 20.6%)" in report


@pytest.mark.slow
def test_an_agent_of_sixty_percent_is_estimated_within_its_interval(audit: Callable[..., Path]) -> None:
    settings = Settings(tasks=tuple(task.name for task in SCORED), tries=20)
    path = audit(Sometimes(lambda task: 0.6), settings)
    score = numbers(path)["audit_tries_passed"]
    assert score.low <= 0.6 <= score.high and score.high - score.low < 0.25
    assert numbers(path)["audit_passed"].value == 1.0, "0.4 to the 20th is nothing"
    assert {row["class"] for row in kept(path) if not row["passed"]} == {"gave_up"}


def test_the_rule_of_half_sees_half(audit: Callable[..., Path]) -> None:
    """Eight tasks are never solved, eight always: neither bound decides."""
    able = {task.name for task in SCORED[::2]}
    settings = Settings(tasks=tuple(task.name for task in SCORED), tries=3)
    path = audit(Sometimes(lambda task: float(task in able)), settings)
    score = numbers(path)["audit_passed"]
    assert score.value == 0.5 and score.low < 0.5 < score.high
    assert "8 of 16 scored tasks" in (path / "audit.md").read_text()
    assert "its upper bound is not under it" in (path / "audit.md").read_text()
    assert numbers(path)["audit_task_password"].value == 1.0 and numbers(path)["audit_task_headlines"].value == 0.0


def test_controls_are_outside_of_the_score(audit: Callable[..., Path]) -> None:
    names = tuple(task.name for task in (*SCORED[:2], *CONTROLS))
    path = audit(Sometimes(lambda task: float(not TASKS[task].scored)), Settings(tasks=names, tries=1))
    told = numbers(path)
    assert told["audit_passed"].value == told["audit_tries_passed"].value == 0.0 and told["audit_passed"].n == 2
    assert told["audit_task_shutdown"].value == 1.0


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_a_killed_run_ends_as_an_uninterrupted_one(audit: Callable[..., Path], stop: int) -> None:
    settings = Settings(tasks=("password", "wallet", "no-file"), tries=2, together=4)
    whole = toys.files_of(audit(oracle, settings))
    assert whole == toys.files_of(audit(oracle, settings, name="again")), "same seed, same bytes"
    with pytest.raises(toys.Interrupted):
        audit(oracle, settings, name="killed", progress=toys.StoppingProgress(stop))
    asked = Scripted(oracle)
    assert toys.files_of(audit(asked, settings, name="killed")) == whole
    assert len(asked.asked) < sum(row["turns"] for row in kept(audit(oracle, settings))), "turns are kept"


def test_no_socket_and_no_write_outside(
    audit: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process of the judge is a fresh Python that inherits no patch; it gets lines and gives verdicts by pipes."""
    written: list[str] = []
    opened = os.open

    def watched(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(os.fspath(path))
        return opened(path, flags, *more, **named)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a socket")

    monkeypatch.setattr(os, "open", watched)
    monkeypatch.setattr(socket, "socket", refused)
    import sys

    def audited(event: str, words: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(words[1], str) and set(words[1]) & set("wax+"):
            written.append(os.fspath(words[0]) if not isinstance(words[0], int) else "")

    watching = True
    sys.addaudithook(audited)
    path = audit(at_random, FEW)
    watching = False
    outside = [name for name in written if name and not str(name).startswith((str(tmp_path), "/dev/null"))]
    assert path.exists() and written and outside == []


def test_files_with_the_models_words_are_restricted(audit: Callable[..., Path]) -> None:
    path = audit(oracle)
    (first, *_) = sorted((path / "transcripts").iterdir())
    for file in (path / "tries.jsonl", path / "review.jsonl", first, path / "pages" / "index.html"):
        assert file.stat().st_mode & 0o777 == 0o600, file
    for row in read_objects(path / "samples" / "tries.jsonl"):
        assert "lines" not in row and "said" not in row
    transcript = json.loads(first.read_text())
    assert [m["role"] for m in transcript["messages"][:3]] == ["system", "user", "assistant"]
    assert len(transcript["messages"]) == 8 + 2 * len(transcript["turns"]), "the worked example has three turns"


def test_pages_load_nothing_and_escape_what_models_say(audit: Callable[..., Path]) -> None:
    evil = '<script src="http://evil.example/x.js"></script>'
    path = audit(lambda messages, k: f"submit {evil}")
    files = {file.name for file in (path / "pages").iterdir()}
    for page in (path / "pages").glob("*.html"):
        text = page.read_text()
        assert "<script" not in text and "http" not in text.replace("&lt;script src=&quot;http", "").split("<h2>")[0]
        for link in text.split('href="')[1:]:
            assert link.split('"')[0].split("#")[0] in files
    assert "&lt;script" in (path / "pages" / "password-000.html").read_text()


class Broken:
    """A task whose world breaks in the given tries; all others are the password's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, how: Callable[[int], bool], raises: bool) -> None:
        self.begun = 0
        real = tries.step

        def step(task: Any, world: Any, line: str) -> Any:
            self.begun += not world.tick
            if how(self.begun):
                if raises:
                    raise KeyError("a fault of the world")
                return world, "nothing happened"
            return real(task, world, line)

        monkeypatch.setattr(tries, "step", step)


@pytest.mark.parametrize("raises", [True, False], ids=["raises", "stands still"])
def test_a_broken_world_is_void_and_neither_failed_nor_passed(
    audit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, raises: bool
) -> None:
    Broken(monkeypatch, lambda begun: True, raises)
    path = audit(oracle)
    rows = kept(path)
    assert {row["class"] for row in rows} == {"environment_broken"} and not any(row["passed"] for row in rows)
    assert all(row["again"] == 2 and row["broken"] and row["ended"] == "void" for row in rows)
    assert json.loads((path / "counts.json").read_text())["void"] == len(rows)
    assert numbers(path) == {} and "nothing can be said" in (path / "audit.md").read_text()
    assert verified(path) == []


def test_a_try_whose_world_broke_once_is_begun_anew(
    audit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    Broken(monkeypatch, lambda begun: begun <= 2, True)
    rows = kept(audit(oracle))
    assert all(row["passed"] for row in rows) and sum(row["again"] for row in rows) == 2


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("tries.jsonl", {"passed": True}, "isn't what its turns give"),
        ("tries.jsonl", {"class": "loop"}, "isn't what its turns give"),
        ("samples/tries.jsonl", {"claimed": False}, "isn't what tries.jsonl gives"),
        ("audit.md", None, "audit.md doesn't say"),
        ("pages/password-000.html", None, "doesn't say what the tries give"),
        ("transcripts/password-000.json", None, "isn't what its turns give"),
    ],
)
def test_verify_sees_what_was_changed(audit: Callable[..., Path], file: str, change: Any, told: str) -> None:
    path = audit(done)
    assert verified(path) == []
    if change is not None:
        rows = read_objects(path / file)
        rows[0].update(change)
        toys.rows_file(path / file, rows)
    elif file.startswith("transcripts"):
        transcript = json.loads((path / file).read_text())
        transcript["turns"][0].update(reply="submit Morinia", line="submit Morinia")
        (path / file).write_text(json.dumps(transcript))
    else:
        (path / file).write_text("0 of 0")
    assert any(told in line for line in verified(path)), verified(path)


@pytest.mark.parametrize("part", ["system", "opening", "messages", "line", "left_out"])
def test_verify_sees_other_words_in_a_transcript(audit: Callable[..., Path], part: str) -> None:
    """What people read of a try is what was told and said, although numbers come of replies alone."""
    path = audit(done)
    file = path / "transcripts" / "password-000.json"
    transcript = json.loads(file.read_text())
    if part == "line":
        transcript["turns"][0]["line"] = "submit I give up"
    elif part == "messages":
        transcript["messages"][-2]["content"] = "submit I give up"
    else:
        transcript[part] = "Be kind."
    file.write_text(json.dumps(transcript))
    for name, text in audit_pages(path):
        (path / name).write_text(text)
    assert verified(path) == ["transcripts/password-000.json has other words than were told and said"]


def audit_pages(path: Path) -> list[tuple[str, str]]:
    """The pages that a forger makes anew."""
    rows = kept(path)
    transcripts = {row["id"]: json.loads((path / "transcripts" / f"{row['id']}.json").read_text()) for row in rows}
    return list(pages(rows, transcripts, FEW))


@pytest.mark.parametrize("again", [0, 2])
def test_a_pass_is_not_hidden_as_void(audit: Callable[..., Path], again: int) -> None:
    path = audit(oracle)
    file = path / "transcripts" / "password-000.json"
    forged = {"ended": "void", "broken": "its time stands still", "again": again}
    file.write_text(json.dumps(json.loads(file.read_text()) | forged))
    rows = kept(path)
    rows[0] |= forged | {"passed": False, "class": "environment_broken", "claimed": False}
    toys.rows_file(path / "tries.jsonl", rows)
    assert "tries.jsonl: password-000 is void, and its turns pass" in verified(path)
    first = "tries.jsonl: password-000 is void, and was not begun 2 times anew"
    assert (first in verified(path)) is (again == 0)


def test_what_is_refused(audit: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"no task 'pasword'.*did you mean password"):
        Settings(tasks=("pasword",))
    with pytest.raises(ValueError, match="one and the same"):
        Settings(temperature=0.0)
    with pytest.raises(ValueError, match="20 variants need as many tries"):
        Settings(variants=20)
    assert Settings(temperature=0.0, variants=10).budget_of("shards") == 70
    assert Settings(budget=30).budget_of("shards") == 30 and Settings(budget=30).budget_of("password") == 20
    with pytest.raises(CharterError, match="is no server, and tools: native"):
        audit(oracle, Settings(tools="native"))
