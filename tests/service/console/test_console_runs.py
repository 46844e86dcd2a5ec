"""Evaluation runs on the admin pages: read from disk whatever its names, shown in a sandbox; and evaluations as
processes that end with the server."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from lobby import MODEL, Hall, Said, configuration, open_hall, until
from test_admin_pages import Admin, program

from charter.ground.artifact.manifest import FileRecord, Manifest, Metric, Timing
from charter.ground.artifact.store import read_manifest, write_manifest
from charter_service.accounts.evaluations import Evaluation, NewEvaluation, begin, find_evaluation, note_pid
from charter_service.accounts.store import open_accounts
from charter_service.accounts.tables import EVALUATIONS
from charter_service.api.evaluating import Evaluating, eval_command
from charter_service.console.evaluations import find_file, list_names, open_run
from charter_service.web.audit import Wanted, search_acts
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal, Stale

NASTY = "run <b>&'\" ü;.."
HTML = "<script>document.title = 'ran'</script><h1>report</h1>"


def make_run(folder: Path, name: str, value: float = 0.5) -> Path:
    """A run with one step that has a report."""
    step = folder / name / "eval"
    step.mkdir(parents=True)
    (folder / name / "run.json").write_text("{}")
    (step / "report.html").write_text(HTML)
    (step / "secret.txt").write_text("not listed")
    manifest = Manifest(
        kind="report",
        id="abc",
        status="done",
        step="eval",
        room="evaluate",
        recipe=name,
        files=[FileRecord(path="report.html", bytes=len(HTML), sha256="0" * 64)],
        metrics=[Metric(name="arc", label="<i>ARC</i>", value=value, low=0.4, high=0.6, n=10)],
        timing=Timing(started="2026-01-01T00:00:00Z"),
    )
    write_manifest(step, manifest)
    return step


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    folder = tmp_path / "runs"
    make_run(folder, "first")
    make_run(folder, NASTY)
    with open_hall(tmp_path, configuration(runs=str(folder)), said=Said("x")) as found:
        yield found


def get(hall: Hall, path: str) -> httpx.Response:
    return httpx.get(hall.url + path, headers=program(hall), timeout=30)


def test_runs_of_any_name_are_listed_and_opened(hall: Hall) -> None:
    admin = Admin(hall)
    assert {one["name"] for one in get(hall, "/admin/runs").json()["runs"]} == {"first", NASTY}
    page = admin.get("/admin/runs").text
    assert "<b>&" not in page and quote(NASTY, safe="") in page
    run = admin.get(f"/admin/runs/{quote(NASTY, safe='')}").text
    assert "0.5000" in run and "0.4000 to 0.6000" in run and "<i>ARC" not in run


def test_a_report_runs_nothing(hall: Hall) -> None:
    answer = get(hall, "/admin/runs/first/eval/report.html")
    assert answer.text == HTML and answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox;") and "default-src 'none'" in policy and "script" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "first/eval/secret.txt",
        "first/eval/manifest.json",
        "first/eval/../eval/report.html",
        "first/eval/..%2f..%2frun.json",
        "first/eval/%2e%2e/%2e%2e/run.json",
        "first/../first/eval/report.html",
        "..%2fruns/first/eval/report.html",
        "first/eval//etc/passwd",
        "first/..%2ffirst%2feval/report.html",
        ".hidden/eval/report.html",
        "nobody/eval/report.html",
        "first/none/report.html",
        "first/eval/report.html%00",
    ],
)
def test_only_listed_files_of_a_run_are_sent(hall: Hall, path: str) -> None:
    url = httpx.URL(hall.url).copy_with(raw_path=f"/admin/runs/{path}".encode())
    answer = httpx.get(url, headers=program(hall))
    assert answer.status_code in (400, 404) or answer.text == HTML, path  # the client folds plain dots


def test_who_opens_a_file_with_harmful_text_is_noted(hall: Hall) -> None:
    step = Path(hall.service.config.runs) / "first" / "eval"
    write_manifest(step, read_manifest(step).model_copy(update={"restricted": ["report.html"]}))

    def openings() -> list[tuple[str, str]]:
        with reading(hall.service.database) as connection:
            rows, _ = search_acts(connection, Wanted(what="harmful_file"))
        return [(one.act.what, one.act.whose) for one in rows]

    assert get(hall, f"/admin/runs/{quote(NASTY, safe='')}/eval/report.html").text == HTML and not openings()
    assert get(hall, "/admin/runs/first/eval/report.html").text == HTML
    assert openings() == [("harmful_file.open", "first/eval/report.html")]
    assert get(hall, "/admin/runs/first/eval/secret.txt").status_code == 404 and len(openings()) == 1


def test_links_are_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "runs", tmp_path / "outside"
    step = make_run(folder, "run")
    make_run(outside, "other")
    (folder / "link").symlink_to(outside / "other")
    (step / "report.html").unlink()
    (step / "report.html").symlink_to("/etc/hostname")
    (folder / "run" / "linked").symlink_to(outside / "other" / "eval")
    assert [name for name, _ in list_names(folder)] == ["run"]
    assert [one.name for one in open_run(folder, "run").steps] == ["eval"]
    with pytest.raises(NotFound):
        find_file(folder, "run", "eval", "report.html")
    assert list_names(tmp_path / "nowhere") == []


def test_broken_manifests_do_not_hide_a_run(tmp_path: Path) -> None:
    make_run(tmp_path, "run")
    for name, text in (("a", "{"), ("b", "[" * 100_000), ("c", '{"format": 99}'), ("d", "")):
        (tmp_path / "run" / name).mkdir()
        (tmp_path / "run" / name / "manifest.json").write_text(text)
    assert [one.name for one in open_run(tmp_path, "run").steps] == ["eval"]


def test_the_gate_and_a_comparison_say_what_the_commands_say(hall: Hall) -> None:
    asked = get(hall, "/admin/runs/first?require=nothing_such").json()
    assert asked["gate"]["error"] and str(hall.service.evaluating.folder) not in asked["gate"]["error"]  # type: ignore[union-attr]
    for wrong in ("require=a%20b", "max=x", "max=arc=--help", "require=--rules", "baseline=nobody", "min=arc=1e9"):
        assert get(hall, f"/admin/runs/first?{wrong}").status_code in (400, 404), wrong
    assert get(hall, "/admin/runs/compare?a=first&b=nobody").status_code == 404
    failed = Admin(hall).get(f"/admin/runs/first?baseline={quote(NASTY)}")  # the command says no facts
    assert failed.status_code == 200 and "does not pass" in failed.text


def endless(one: Evaluation, source: str, folder: Path) -> list[str]:
    """Writes a line, and never ends, whatever it is asked."""
    code = "import signal, sys, time; print('\\x1b[31mbegun\\x00', flush=True); time.sleep(1000)"
    return [sys.executable, "-c", code, str(folder / one.run)]


def alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def pid_of(hall: Hall) -> int:
    return int(until(lambda: next((one.pid for one in hall.rows(EVALUATIONS) if one.pid), 0)))


def test_an_evaluation_runs_alone_and_is_stopped_and_resumed(hall: Hall) -> None:
    evaluating: Any = hall.service.evaluating
    evaluating._command = endless
    headers, form = program(hall), {"model": MODEL, "tasks": "arc", "questions": "5"}
    started = httpx.post(f"{hall.url}/admin/evaluations", json=form, headers=headers, timeout=30)
    assert started.status_code == 200, started.text
    id, pid = started.json()["id"], pid_of(hall)
    other = httpx.post(f"{hall.url}/admin/evaluations", json=form, headers=headers, timeout=30)
    assert other.status_code == 409 and "one evaluation runs at a time" in other.text
    until(lambda: "begun" in get(hall, f"/admin/evaluations/{id}").json()["log"])
    page = Admin(hall).get(f"/admin/evaluations/{id}").text
    assert "\x1b" not in page and "\x00" not in page and "Stop" in page
    stopped = httpx.post(f"{hall.url}/admin/evaluations/{id}/stop", headers=headers, json={}, timeout=60)
    assert stopped.json()["state"] == "stopped" and not alive(pid)
    assert httpx.post(f"{hall.url}/admin/evaluations/{id}/stop", headers=headers, json={}).status_code == 409
    again = httpx.post(f"{hall.url}/admin/evaluations/{id}/resume", headers=headers, json={}, timeout=30)
    assert again.json()["state"] == "running"
    hall.service.evaluating.close()  # type: ignore[union-attr]
    assert [one.state for one in hall.rows(EVALUATIONS)] == ["interrupted"]
    with reading(hall.service.database) as connection:
        acts, _ = search_acts(connection, Wanted(what="evaluation"))
    assert [one.act.what for one in acts] == ["evaluation.resume", "evaluation.stop", "evaluation.start"]


def test_what_is_asked_of_an_evaluation_is_checked(hall: Hall) -> None:
    good, headers = {"model": MODEL, "tasks": "arc", "questions": "5"}, program(hall)
    for change in (
        {"model": "nobody"},
        {"tasks": "--help"},
        {"tasks": "a;b"},
        {"questions": ""},
        {"questions": "-1"},
        {"questions": "999999999"},
    ):
        answer = httpx.post(f"{hall.url}/admin/evaluations", json={**good, **change}, headers=headers)
        assert answer.status_code == 400, change
    assert hall.rows(EVALUATIONS) == []
    for path in ("/admin/evaluations/none", "/admin/runs/none"):
        assert get(hall, path).status_code == 404


def test_what_a_killed_server_left_is_ended_and_can_be_resumed(tmp_path: Path) -> None:
    database = open_accounts(str(tmp_path / "serve.sqlite"))
    first = Evaluating(database, tmp_path, endless)
    one = first.start("source", NewEvaluation("m", "", 1, "test"))
    with reading(database) as connection:
        pid = find_evaluation(connection, one.id).pid
    assert pid is not None and alive(pid)
    watch = first._watch
    assert watch is not None
    second = Evaluating(database, tmp_path, endless)  # the first is forgotten, as after a kill
    until(lambda: not alive(pid))
    watch.join()  # a killed server's thread would not write either
    with reading(database) as connection:
        assert find_evaluation(connection, one.id).state == "interrupted"
    resumed = second.resume(one.id, "source")
    assert resumed.run == one.run
    with pytest.raises(Refusal, match="one evaluation"):
        second.start("source", NewEvaluation("m", "", 1, "test"))
    second.close()
    with pytest.raises(Stale):
        second.stop(one.id)
    database.dispose()


def test_another_process_with_the_number_of_a_left_one_lives_on(tmp_path: Path) -> None:
    database = open_accounts(str(tmp_path / "serve.sqlite"))
    with writing(database) as connection:
        one = begin(connection, NewEvaluation("m", "", 1, "test"), "run")
        note_pid(connection, one.id, os.getpid())
    Evaluating(database, tmp_path)
    assert signal.SIGKILL and alive(os.getpid())
    database.dispose()


def test_the_command_names_the_run_and_runs_behind_all_else(tmp_path: Path) -> None:
    one = Evaluation("e", "m", "arc,bbq", 7, "eval-m", "running", 0.0, None, "x", None)
    command = eval_command(one, "pkg:llm", tmp_path)
    assert command[:3] == ["nice", "-n", "19"] and command[-4:] == ["--limit", "7", "--out", str(tmp_path / "eval-m")]
    assert command[command.index("--tasks") + 1] == "arc,bbq"


def test_without_a_folder_the_page_says_what_to_set(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("x")) as hall:
        assert "Set <code>runs</code>" in Admin(hall).get("/admin/runs").text
        assert get(hall, "/admin/runs/first").status_code == 404
