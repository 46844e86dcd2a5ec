"""No request makes the server open a file or a connection, whatever its schemas refer to, in both APIs and in tools."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# a hook of audit events sees what every library does in the end, and can't be taken away: hence a process. The test's
# own client and server speak over connections that were made before it.
CHILD = """
import asyncio, json, sys, tempfile
from pathlib import Path
sys.path[:0] = {folders!r}
import httpx
import encodings.idna, socket, urllib.request
import test_foreign_references as references
from lobby import MODEL, configuration, toy_sources
from charter_service.accounts.keys import (KeyLimits, make_key)
from charter_service.accounts.organisations import (make_organisation)
from charter_service.web.database import writing
from charter.ground.settings.execution import Execution
from charter_service.api.app import make_app
from charter_service.api.opening import open_service

SAID = [{{"role": "user", "content": "Say it"}}]
WATCHED = ("open", "urllib.Request", "socket.getaddrinfo", "socket.connect", "socket.__new__", "os.listdir")


def asked(schema):
    whole = {{"type": "object", **schema}} if isinstance(schema.get("type", "object"), str) else schema
    base = {{"model": MODEL, "messages": SAID, "max_tokens": 3}}
    held = {{"type": "json_schema", "schema": schema}}
    tool = {{"name": "f", "input_schema": whole}}
    function = {{"type": "function", "function": {{"name": "f", "parameters": whole}}}}
    named = {{"type": "json_schema", "json_schema": {{"name": "a", "schema": schema}}}}
    yield "/v1/messages", {{**base, "output_config": {{"format": held}}}}
    yield "/v1/messages", {{**base, "tools": [tool], "tool_choice": {{"type": "any"}}}}
    yield "/v1/messages", {{**base, "tools": [{{"type": "web_search_20250305", "name": "web_search"}}]}}
    yield "/v1/chat/completions", {{**base, "response_format": named}}
    yield "/v1/chat/completions", {{**base, "tools": [function], "tool_choice": "required"}}


async def run(folder):
    config = configuration()
    service = open_service(config, folder, toy_sources(config, folder, {{}}), Execution())
    with writing(service.database) as connection:
        organisation = make_organisation(connection, "acme")
        key = make_key(connection, organisation, "a", ("messages", "tools"), limits=KeyLimits(10**6, 10**9, 10**9, 64))[1]
    own = str(folder)
    reached, counts = [], dict()

    def hook(event, given):
        if event in WATCHED and not (event == "open" and str(given[0]).startswith((own, "/proc/self", "/proc/stat"))):
            reached.append((event, str(given)[:200]))

    transport = httpx.ASGITransport(make_app(service))
    headers = {{"x-api-key": key, "anthropic-version": "2023-06-01"}}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as web:
        async def send(path, body):
            answer = await web.post(path, json=body)
            assert answer.status_code in (200, 400), (answer.text, body)
            counts[answer.status_code] = counts.get(answer.status_code, 0) + 1

        for schema in references.schemas(-1, 20):  # whatever is imported late
            for path, body in asked(schema):
                await send(path, body)
        counts.clear()
        sys.addaudithook(hook)
        given = list(references.schemas({seed}, {count}))
        for number, schema in enumerate(given):
            path, body = list(asked(schema))[number % 5]
            await send(path, body)
        seen = list(reached)
        open("/dev/null").close()
        assert len(reached) == len(seen) + 1, "the hook sees nothing"
    service.close()
    print(json.dumps([counts, seen[:5]]))


with tempfile.TemporaryDirectory() as name:
    asyncio.run(run(Path(name)))
"""


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_schemas_of_requests_open_no_file_and_no_connection(count: int) -> None:
    folders = [str(HERE), str(HERE.parents[1]), str(HERE.parent / "forms")]
    child = CHILD.format(folders=folders, seed=3, count=count)
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-2000:]
    counts, reached = json.loads(done.stdout)
    assert reached == []
    assert counts["200"] > count // 20 and sum(counts.values()) == count, counts
