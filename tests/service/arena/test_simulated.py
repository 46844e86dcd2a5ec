"""Simulated workers: what they read of a page, how they wait, and what they leave in the database of a real server."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from arena_load import Server, write_config
from hall import Hall, configuration, open_hall
from sqlalchemy import select

from charter.cli.main import execute
from charter.ground.artifact.errors import CharterError
from charter_service.arena import simulated
from charter_service.arena.simulated import Away, Page, Visitor, _judge, different_words, percentiles
from charter_service.people.export import open_people
from charter_service.people.progress import progress_of
from charter_service.people.tables import PEOPLE
from charter_service.web.database import reading


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    with open_hall(tmp_path, configuration()) as hall:
        yield hall


def test_pages_are_read_as_people_read_them(hall: Hall) -> None:
    for model in hall.models.values():
        model.words = lambda messages, seed: f'<b>bold</b> & "{seed % 5}"\n</div>'
    ann = hall.person()
    task = Page(ann.get("/task/harmless"))
    assert task.form("/consent") and not task.form("/begin")
    ann.agree("harmless")
    begin = Page(ann.get("/task/harmless")).form("/begin")
    assert begin and begin.texts == ["plan"] and len(begin.hidden["csrf"]) == 64
    talk = ann.begin("harmless", "a plan")
    assert Page(ann.get(talk)).form("/ask")
    turn = ann.ask(talk)
    page = Page(ann.get(talk))
    assert [text[:15] for text in page.replies] == ['<b>bold</b> & "'] * 2
    assert all(text.endswith("\n</div>") for text in page.replies)
    form = page.form("/vote")
    assert form and form.choices["choice"] == ["-4", "-3", "-2", "-1", "1", "2", "3", "4", "tie", "both_bad"]
    ann.vote(talk, turn)
    ann.post(f"{talk}/finish", rating=4)
    rita = hall.person("rita", "reviewer").agree("review")
    review = Page(rita.get("/review"))
    assert review.judged.startswith("<b>bold</b>") and review.judged.endswith("</div>")
    assert next(f.action for f in review.forms if "rating" in f.choices).startswith("/review/")


def test_a_page_that_waits_names_its_turn(hall: Hall) -> None:
    for model in hall.models.values():
        model.held = []
    ann = hall.person()
    talk = ann.begin()
    ann.post(f"{talk}/ask", number=1, text="hello")
    assert len(Page(ann.get(talk)).waiting or "") == 32


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_who_is_told_to_wait_waits_and_asks_again() -> None:
    statuses, seen = [429, 503, 200], []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers["cookie"])
        handler.send_response(statuses.pop(0))
        handler.send_header("retry-after", "0")
        handler.send_header("set-cookie", "a=b; Path=/; HttpOnly")
        handler.send_header("content-length", "0")
        handler.end_headers()

    with serving(answer) as url:
        browser = Visitor(url)
        assert browser.get("/").status == 200
        browser.close()
    assert seen == ["", "a=b", "a=b"]


def test_a_long_wait_is_an_answer() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(429)
        handler.send_header("retry-after", "600")
        handler.send_header("content-length", "0")
        handler.end_headers()

    with serving(answer) as url:
        browser = Visitor(url)
        assert browser.get("/").status == 429
        with pytest.raises(CharterError, match="answered 429"):
            browser.page("/")
        browser.close()


def test_a_service_that_is_away_for_long_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "PATIENCE", 0.3)
    with pytest.raises(Away, match="is the service running"):
        Visitor("http://127.0.0.1:1").get("/")
    for url in ("https://127.0.0.1", "127.0.0.1:80", "x"):
        with pytest.raises(CharterError, match="not the address of a service"):
            Visitor(url)


def test_without_a_judge_many_different_words_are_worth_more() -> None:
    few, many = different_words("", ["a a a a", "a b c d"])
    assert few < many


def test_a_judge_is_a_preference_models_scores(checkpoints: Path) -> None:
    scores = _judge(str(checkpoints / "reward"))("hello", ["one reply", "another"])
    assert len(scores) == 2 and scores[0] != scores[1]
    with pytest.raises(CharterError, match="there is no folder"):
        _judge("nothing")


def test_percentiles() -> None:
    assert percentiles([n / 1000 for n in range(1, 101)]) == {"n": 100, "p50": 51.0, "p95": 96.0, "p99": 100.0}
    assert percentiles([0.5]) == {"n": 1, "p50": 500.0, "p95": 500.0, "p99": 500.0}


@pytest.mark.timeout(300)
def test_simulated_workers_do_every_task_of_a_real_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = f"sqlite:///{tmp_path / 'people.sqlite'}"
    config = write_config(tmp_path, place)
    server = Server(config)
    server.start()
    other = tmp_path / "other.yaml"
    other.write_text(config.read_text().replace("people.sqlite", "other.sqlite"))
    open_people(str(tmp_path / "other.sqlite")).dispose()
    try:
        words = ["--url", server.url, "--workers", "6", "--votes", "40"]
        assert execute(["arena", "simulate", str(other), *words]) == 1
        err = capsys.readouterr().err
        assert f"the service at {server.url} has another database than {other}" in err
        assert err.count("\n") == 1 and "<" not in err
        assert execute(["arena", "simulate", str(config), *words]) == 0
    finally:
        server.end(signal.SIGTERM)
    out = capsys.readouterr().out
    assert "votes a second" in out and "POST /turn/ID/vote" in out and "refused" not in out, out
    engine = open_people(place)
    with reading(engine) as connection:
        assert {row.simulated for row in connection.execute(select(PEOPLE))} == {True}
        progress = progress_of(connection, 3)
    engine.dispose()
    assert {task.source for task in progress.tasks} == {"simulated"}
    assert sum(task.votes for task in progress.tasks) == 40
    attempts = sum(task.attempts for task in progress.tasks)
    assert sum(queue.done for queue in progress.reviews) == min(20, attempts) * 3
    assert not any(task.states["open"] for task in progress.tasks)


def test_nobody_to_work_for_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated, "PATIENCE", 0.3)
    place = f"sqlite:///{tmp_path / 'people.sqlite'}"
    config = write_config(tmp_path, place)
    open_people(place).dispose()
    assert execute(["arena", "simulate", str(config), "--url", "http://127.0.0.1:1", "--workers", "2"]) == 1
    assert "no answer from" in capsys.readouterr().err
