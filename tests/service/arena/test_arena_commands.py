"""`charter arena init`, `serve` and `invite`, with toy models in a process of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from charter.cli.main import execute
from charter_service.arena.config import load_config, make_collection

Charter = Callable[..., tuple[int, str, str]]


@pytest.fixture
def charter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Charter:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARTER_LAUNCHED", "1")

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = execute([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_init_writes_a_collection_that_holds_and_overwrites_nothing(charter: Charter, tmp_path: Path) -> None:
    code, out, _ = charter("arena", "init", "mine")
    assert code == 0 and "charter arena serve mine/arena.yaml" in out
    config = load_config(tmp_path / "mine/arena.yaml")
    made = make_collection(config, tmp_path / "mine")
    assert config.name == "mine" and len(made.golds["helpful"]) == len(made.golds["honest"]) == 4
    assert made.openings["helpful"]
    code, _, err = charter("arena", "init", "mine")
    assert code == 1 and "already has arena.yaml, and nothing is overwritten" in err


def test_invitations_are_printed_and_hold(charter: Charter, tmp_path: Path) -> None:
    charter("arena", "init", "mine")
    code, out, err = charter("arena", "invite", "mine/arena.yaml", "--count", 3, "--quota", 50)
    links = out.split()
    assert code == 0 and len(set(links)) == 3 and all("/join/" in link for link in links)
    assert "set url in the configuration" in err
    code, out, _ = charter("arena", "invite", "mine", "--role", "reviewer", "--json")
    assert code == 0 and json.loads(out)["role"] == "reviewer" and len(json.loads(out)["links"]) == 1
    assert charter("arena", "invite", "mine", "--role", "king")[0] == 1
    assert charter("arena", "invite", "none.yaml")[0] == 1
    assert (tmp_path / "mine/people.sqlite").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "change,said",
    [
        ({"models": [{"name": "a", "model": "nowhere"}]}, "arena.yaml: model a: there is no nowhere; name a step"),
        ({"models": [{"name": "a", "model": "random:tiny", "mode": "rejection", "grader": "./none"}]}, "none"),
        ({"reviews": ["none"]}, "is not a report; name the folder"),
        ({"database": "deep/down/people.sqlite"}, "there is no folder"),
        ({"golds": {"helpful": "none.jsonl"}}, "none.jsonl"),
    ],
)
def test_what_can_not_be_served_is_said_in_one_line(
    charter: Charter, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    written(tmp_path, **{"models": [{"name": "a", "model": "random:tiny"}], **change})
    code, out, err = charter("arena", "serve", "arena.yaml", "--port", 0)
    assert code == 1 and said in err and out == "" and len(err.strip().splitlines()) == 1


def test_an_address_that_is_taken_is_said(charter: Charter, tmp_path: Path) -> None:
    written(tmp_path, models=[{"name": "a", "model": "random:tiny"}])
    for words in (("--host", "203.0.113.9"), ("--host", "no.such.host.invalid")):
        code, _, err = charter("arena", "serve", "arena.yaml", "--port", 0, *words)
        assert code == 1 and "can't listen at" in err


def written(folder: Path, **facts: Any) -> Path:
    whole = {
        "name": "try",
        "tasks": {"helpful": {"gold_share": 0, "repeat_share": 0}},
        "sampling": {"max_tokens": 8},
        **facts,
    }
    (folder / "arena.yaml").write_text(yaml.safe_dump(whole))
    return folder / "arena.yaml"


@contextmanager
def served(config: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A service in a process of its own, and what it said of itself."""
    command = [
        sys.executable,
        "-m",
        "charter",
        "arena",
        "serve",
        str(config),
        "--port",
        "0",
        "--json",
        "--device",
        "cpu",
    ]
    environment = {**os.environ, "CHARTER_LAUNCHED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_two_toy_models_are_served_killed_and_served_again(charter: Charter, checkpoints: Path, tmp_path: Path) -> None:
    models = [{"name": name, "model": str(checkpoints / name)} for name in ("policy", "other")]
    config = written(tmp_path, models=models)
    with served(config) as (process, said):
        link = said["admin_invitation"]
        assert link.startswith(said["address"]) and said["address"].startswith("http://127.0.0.1:")
        with httpx.Client(base_url=said["address"]) as client:
            assert client.post(link, data={"name": "boss"}).status_code == 303
            cookie = client.cookies["charter_session"]
            csrf = field(client.get("/me").text, "csrf")
            client.post("/task/helpful/consent", data={"csrf": csrf})
            talk = client.post("/task/helpful/begin", data={"csrf": csrf}).headers["location"]
            client.post(f"{talk}/ask", data={"csrf": csrf, "number": 1, "text": "hello"})
        process.kill()  # at whatever it was doing
    with served(config) as (process, said):
        assert said["admin_invitation"] is None
        with httpx.Client(base_url=said["address"], cookies={"charter_session": cookie}) as client:
            for _ in range(600):
                page = client.get(talk).text
                if 'id="vote"' in page:
                    break
                time.sleep(0.05)
            nonce = field(page, "nonce")
            turn = re.findall(r"/turn/([0-9a-f]{32})/vote", page)[0]
            assert (
                client.post(f"/turn/{turn}/vote", data={"csrf": csrf, "nonce": nonce, "choice": "-4"}).status_code
                == 303
            )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and out == "" and "Traceback" not in err
        assert err.strip().endswith("run the same command again to continue")
        assert "POST /turn/" in err and "hello" not in err
    models[0]["model"] = str(checkpoints / "other")
    written(tmp_path, models=models)
    code, _, err = charter("arena", "serve", config, "--port", 0)
    assert code == 1 and "policy was another model when 1 votes" in err


def test_a_collection_is_served_once(charter: Charter, checkpoints: Path, tmp_path: Path) -> None:
    config = written(tmp_path, models=[{"name": "a", "model": str(checkpoints / "policy")}])
    with served(config) as (process, said):
        address = said["address"]
        assert charter("arena", "invite", config)[1].startswith(f"{address}/join/")
        code, out, err = charter("arena", "serve", config, "--port", 0)
        assert code == 1 and out == "" and f"is already served by process {process.pid}" in err
        assert len(err.strip().splitlines()) == 1
    code, out, err = charter("arena", "invite", config)  # as it was served last
    assert code == 0 and out.startswith(f"{address}/join/") and err == ""
    written(tmp_path, models=[{"name": "a", "model": "random:tiny"}], url="https://votes.example.org/")
    assert charter("arena", "invite", config)[1].startswith("https://votes.example.org/join/")


def test_ctrl_c_while_replies_are_under_way(checkpoints: Path, tmp_path: Path) -> None:
    config = written(
        tmp_path, models=[{"name": "a", "model": str(checkpoints / "policy")}], sampling={"max_tokens": 100_000}
    )
    with served(config, "--host", "localhost") as (process, said), httpx.Client(base_url=said["address"]) as client:
        client.post(said["admin_invitation"], data={"name": "boss"})
        csrf = field(client.get("/me").text, "csrf")
        client.post("/task/helpful/consent", data={"csrf": csrf})
        talk = client.post("/task/helpful/begin", data={"csrf": csrf}).headers["location"]
        client.post(f"{talk}/ask", data={"csrf": csrf, "number": 1, "text": "hello"})
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0 and "Traceback" not in err


def test_another_host_must_be_asked_for_and_says_what_it_means(checkpoints: Path, tmp_path: Path) -> None:
    config = written(tmp_path, models=[{"name": "a", "model": str(checkpoints / "policy")}])
    with served(config, "--host", "0.0.0.0") as (process, said):
        with urllib.request.urlopen(said["address"].replace("0.0.0.0", "127.0.0.1") + "/health") as answer:
            assert json.load(answer) == {"status": "ok"}
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert "--host 0.0.0.0 serves every machine that reaches this one without encryption" in err


def field(page: str, name: str) -> str:
    return re.findall(rf'name="{name}" value="([^"]*)"', page)[0]
