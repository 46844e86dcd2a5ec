"""New weights through the API: who may give them, from where, and what becomes of streams and of what is kept."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lobby import OTHER, Hall, configuration, open_hall, until
from pydantic import ValidationError

import toys
from charter.ground.generate.engine import Engine
from charter.ground.generate.sampling import Sampling
from charter.ground.model.checkpoint import load_policy, save_policy
from charter.ground.text.tokenizer import train_tokenizer
from charter_service.api.config import make_config

TEXT = "/v1/completions"
PROMPT = list(range(40, 90))
ASKED = {"max_tokens": 8, "seed": 3, "logprobs": 0, "return_token_ids": True, "return_weight_versions": True}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of weights: start, new, and some that don't fit."""
    folder = tmp_path_factory.mktemp("weights")
    toys.policy_folder(folder / "start", 0)
    toys.policy_folder(folder / "new", 3)
    save_policy(toys.model(), train_tokenizer(["some other words"] * 4, toys.VOCABULARY), folder / "words")
    save_policy(toys.model(), toys.tokenizer(), folder / "untied", untied=True)
    return folder


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[Hall]:
    models = [{"id": "policy", "source": "start", "weights_from": str(weights)}, {"id": OTHER, "source": "o"}]
    with open_hall(tmp_path_factory.mktemp("hall"), configuration(models=models)) as made:
        yield made


@pytest.fixture(scope="module")
def client(hall: Hall) -> Iterator[httpx2.Client]:
    headers = {"authorization": f"Bearer {hall.key(scopes=('messages', 'weights'))}"}
    with httpx2.Client(base_url=hall.url, headers=headers, timeout=60) as made:
        yield made


def give(client: httpx2.Client, folder: Path, status: int = 200) -> Any:
    body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
    answer = client.post("/collective_rpc", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def name(client: httpx2.Client, version: str) -> None:
    assert client.post("/reset_prefix_cache").json() == {"success": True}
    assert client.post("/update_weight_version", json={"new_version": version}).json()["success"]
    assert client.get("/weight_info").json() == {"weight_version": version}


def asked(client: httpx2.Client, **more: Any) -> dict[str, Any]:
    answer = client.post(TEXT, json={"model": "policy", "prompt": PROMPT, **ASKED, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_replies_come_from_the_new_weights_and_say_so(client: httpx2.Client, weights: Path) -> None:
    for version, folder in (("one", "start"), ("two", "new"), ("three", "start")):
        give(client, weights / folder)
        assert client.get("/weight_info").json() == {"weight_version": "unnamed"}
        name(client, version)
        answer = asked(client)
        (choice,) = answer["choices"]
        model, tokenizer = load_policy(weights / folder)
        expected = Engine(model, tokenizer, 1).generate([PROMPT], Sampling(max_tokens=8), 1, [3])[0][0]
        assert choice["token_ids"] == expected.ids and choice["prompt_token_ids"] == PROMPT
        found = choice["logprobs"]["token_logprobs"]
        assert found == pytest.approx(expected.logprobs, abs=1e-4)
        assert choice["weight_versions"] == [{"version": version, "start": 0, "end": len(expected.ids)}]
        assert asked(client)["system_fingerprint"] == answer["system_fingerprint"]
    assert len({asked(client)["system_fingerprint"], answer["system_fingerprint"]}) == 1


def test_a_stream_goes_on_through_a_change_and_says_where_it_was(
    hall: Hall, client: httpx2.Client, weights: Path
) -> None:
    give(client, weights / "start")
    name(client, "before")
    answers: list[dict[str, Any]] = []
    served = hall.service.registry.served[0].backend
    ask = threading.Thread(target=lambda: answers.append(asked(client, max_tokens=800, n=4, seed=1)))
    body = {"model": "policy", "prompt": PROMPT, "max_tokens": 600, "seed": 2, "stream": True}
    with client.stream("POST", TEXT, json=body) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        first = [next(lines) for _ in range(3)]
        ask.start()
        until(lambda: served.figures()["busy"] == 5)
        give(client, weights / "new")
        name(client, "after")
        rest = list(lines)
    ask.join()
    assert rest[-1] == "data: [DONE]" and "error" not in "".join(rest)
    last = json.loads(rest[-2].removeprefix("data: "))
    assert first and last["choices"][0]["finish_reason"] in ("length", "stop")
    for choice in answers[0]["choices"]:
        spans = choice["weight_versions"]
        assert spans[0]["start"] == 0 and spans[-1]["end"] == len(choice["token_ids"])
        assert all(a["end"] == b["start"] for a, b in pairwise(spans))
    seen = [[span["version"] for span in choice["weight_versions"]] for choice in answers[0]["choices"]]
    assert max(seen, key=len)[0] == "before" and max(seen, key=len)[-1] == "after"


def test_other_shapes_tokenizers_and_places_are_refused_and_change_nothing(
    client: httpx2.Client, weights: Path, tmp_path: Path
) -> None:
    give(client, weights / "new")
    name(client, "kept")
    linked = weights / "linked"
    linked.mkdir()
    for file in (weights / "new").iterdir():
        if file.name != "model.safetensors":
            shutil.copy(file, linked)
    shutil.copy(weights / "new" / "model.safetensors", tmp_path / "outside.safetensors")
    (linked / "model.safetensors").symlink_to(tmp_path / "outside.safetensors")
    before = asked(client)["choices"]
    for folder, status, words in (
        (weights / "words", 400, "tokenizer"),
        (weights / "untied", 400, "of another shape"),
        (weights / "nothing", 400, "no config.json"),
        (weights / "../elsewhere", 403, "must be below"),
        (tmp_path, 403, "must be below"),
        (linked, 403, "must be below"),
        (Path("a\0b"), 400, "null"),
    ):
        assert words in json.dumps(give(client, folder, status)), folder
    assert client.get("/weight_info").json() == {"weight_version": "kept"}
    after = asked(client)["choices"]
    assert [c["token_ids"] for c in before] == [c["token_ids"] for c in after]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": "x"}}),
        ("POST", "/reset_prefix_cache", None),
        ("POST", "/update_weight_version", {"new_version": "x"}),
        ("GET", "/weight_info", None),
    ],
)
def test_a_key_needs_the_scope(hall: Hall, method: str, path: str, body: Any) -> None:
    headers = {"authorization": f"Bearer {hall.key()}"}
    answer = httpx2.request(method, hall.url + path, json=body, headers=headers)
    assert answer.status_code == 403 and "lacks the scope weights" in answer.text
    assert httpx2.request(method, hall.url + path, json=body).status_code == 401


def test_other_calls_of_workers_and_other_ends_are_refused(client: httpx2.Client) -> None:
    body = {"method": "shutdown", "kwargs": {"weights_path": "x"}}
    assert client.post("/collective_rpc", json=body).status_code == 400
    given = {"model": "policy", "prompt": PROMPT, **ASKED, "stop_token_ids": [77]}
    answer = client.post(TEXT, json=given)
    assert answer.status_code == 400 and "token 77 ends no reply of policy" in answer.text
    ends = sorted(toys.tokenizer().ends)
    assert asked(client, stop_token_ids=ends)["choices"]


def test_without_a_folder_no_weights_are_taken(tmp_path: Path) -> None:
    with open_hall(tmp_path) as plain:
        headers = {"authorization": f"Bearer {plain.key(scopes=('weights',))}"}
        answer = httpx2.get(f"{plain.url}/weight_info", headers=headers)
        assert answer.status_code == 403 and "no model here takes new weights" in answer.text


def test_one_model_at_most_takes_weights() -> None:
    models = [{"id": n, "source": n, "weights_from": "there"} for n in ("a", "b")]
    with pytest.raises(ValidationError, match="one model at most"):
        configuration(models=models)
    made = make_config(["a=x", "b=y"], "", "db", weights_from="there")
    assert [model.weights_from for model in made.models] == ["there", ""]
