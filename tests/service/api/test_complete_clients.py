"""Anthropic's own clients of 2023, unmodified, each in a process of its own: 0.7.8, which speaks version 2023-06-01, and
0.2.10, which speaks 2023-01-01.

They need packages of their time, in folders beside the environment's own (`make`): a test skips where they are missing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lobby import MODEL, Hall, open_hall

EARLY, FIRST = (Path(sys.prefix) / name for name in ("early-anthropic", "first-anthropic"))

JUNE = r"""
import asyncio, json, sys
import anthropic
from anthropic import AI_PROMPT, HUMAN_PROMPT, Anthropic, AsyncAnthropic

url, key, narrow, model = sys.argv[1:]
prompt = f"{HUMAN_PROMPT} How do bees find their way?{AI_PROMPT}"
asked = dict(model=model, prompt=prompt, max_tokens_to_sample=8, temperature=0)
client = Anthropic(base_url=url, api_key=key, max_retries=0)
whole = client.completions.create(**asked)
pieces = list(client.completions.create(**asked, stream=True))

async def later():
    async with AsyncAnthropic(base_url=url, api_key=key) as client:
        one = await client.completions.create(**asked, metadata={"user_id": "u1"}, top_k=-1, top_p=-1)
        stream = await client.completions.create(**asked, stream=True)
        return one.completion, [piece.completion async for piece in stream]

one, streamed = asyncio.run(later())

def error(client=client, **more):
    try:
        client.completions.create(**{**asked, **more})
    except anthropic.APIStatusError as found:
        return [type(found).__name__, found.status_code, found.body["error"]["message"]]

busy = Anthropic(base_url=url, api_key=narrow, max_retries=0)
held = busy.completions.create(**{**asked, "max_tokens_to_sample": 900, "temperature": 1}, stream=True)
next(iter(held))
limited = error(busy)
import threading
timer = threading.Timer(0.2, held.response.close)
timer.start()
again = Anthropic(base_url=url, api_key=narrow, max_retries=4).completions.create(**asked).completion
timer.join()
print(json.dumps({
    "version": anthropic.__version__,
    "whole": [whole.completion, whole.stop_reason, whole.model],
    "pieces": [[piece.completion, piece.stop_reason] for piece in pieces],
    "later": [one, streamed],
    "errors": [error(prompt="Hi"), error(model="claude-2"), error(Anthropic(base_url=url, api_key="no", max_retries=0))],
    "limited": limited,
    "again": again,
}))
"""

JANUARY = r"""
import asyncio, json, sys
import anthropic

url, key, model = sys.argv[1:]
prompt = f"{anthropic.HUMAN_PROMPT} How do bees find their way?{anthropic.AI_PROMPT}"
asked = dict(model=model, prompt=prompt, max_tokens_to_sample=8, temperature=0, stop_sequences=[anthropic.HUMAN_PROMPT])
client = anthropic.Client(key, api_url=url)
whole = client.completion(**asked)
pieces = list(client.completion_stream(**asked))

async def later():
    stream = await client.acompletion_stream(**asked)
    return (await client.acompletion(**asked))["completion"], [piece["completion"] async for piece in stream]

one, streamed = asyncio.run(later())
try:
    client.completion(**asked | {"prompt": prompt + " x", "model": "claude-v1"})
except anthropic.ApiException as found:
    said = [found.args[0], found.args[1]["error"]["type"]]
client._session.close()
print(json.dumps({
    "version": anthropic.constants.ANTHROPIC_VERSION, "whole": whole, "pieces": pieces, "later": [one, streamed], "said": said
}))
"""


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall")) as made:
        yield made


def run(folder: Path, program: str, *given: str) -> Any:
    if not folder.is_dir():
        pytest.skip(f"{folder.name} is not installed beside {sys.prefix}: run make")
    asked = [sys.executable, "-c", program, *given]
    done = subprocess.run(
        asked, env={"PYTHONPATH": str(folder), "PATH": ""}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_client_of_june_runs_unmodified(hall: Hall) -> None:
    narrow = hall.key("narrow", limits={"concurrency": 1})
    found = run(EARLY, JUNE, hall.url, hall.key(), narrow, MODEL)
    text = found["whole"][0]
    assert found["version"].startswith("0.7.") and len(text) >= 8
    assert found["whole"][1:] == ["max_tokens", MODEL]
    assert "".join(piece for piece, _ in found["pieces"]) == text and len(found["pieces"]) >= 3
    assert [stop for _, stop in found["pieces"]] == [None] * (len(found["pieces"]) - 1) + ["max_tokens"]
    assert found["later"][0] == text == "".join(found["later"][1])
    (first, lost, unknown) = found["errors"]
    assert first[:2] == ["BadRequestError", 400] and first[2].startswith('prompt must start with "\n\nHuman:" turn')
    assert lost[:2] == ["NotFoundError", 404] and unknown[:2] == ["AuthenticationError", 401]
    assert found["limited"][:2] == ["RateLimitError", 429] and found["again"] == text


def test_the_client_of_january_runs_unmodified(hall: Hall) -> None:
    found = run(FIRST, JANUARY, hall.url, hall.key(), MODEL)
    assert found["version"] == "2023-01-01"
    text = found["whole"]["completion"]
    assert len(text) >= 8 and found["whole"]["stop_reason"] == "max_tokens"
    texts = [piece["completion"] for piece in found["pieces"]]
    assert texts[-1] == text == found["later"][0] == found["later"][1][-1]
    assert all(text.startswith(part) for part in texts) and len(set(texts)) >= 2
    assert found["said"] == ["post request failed with status code: 404", "not_found_error"]
