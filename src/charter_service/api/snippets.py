"""Examples of calls with this server's address and model, for the index page and the reference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HELLO = "Why is the sky blue?"
VERSION = "anthropic-version: 2023-06-01"


@dataclass(frozen=True, slots=True)
class Snippet:
    """An example: its id, title and text."""

    id: str
    title: str
    text: str


def bodies(model: str) -> dict[str, dict[str, Any]]:
    """An example of a body for each path that takes one."""
    turn = {"role": "user", "content": HELLO}
    message = {"model": model, "max_tokens": 200, "temperature": 0, "messages": [turn]}
    return {
        "/v1/messages": message,
        "/v1/messages/count_tokens": {"model": model, "messages": [turn]},
        "/v1/messages/batches": {"requests": [{"custom_id": "first", "params": message}]},
        "/v1/complete": {
            "model": model,
            "prompt": f"\n\nHuman: {HELLO}\n\nAssistant:",
            "max_tokens_to_sample": 200,
            "temperature": 0,
        },
        "/v1/chat/completions": {"model": model, "max_tokens": 200, "temperature": 0, "messages": [turn]},
        "/v1/completions": {"model": model, "prompt": "The sky is", "max_tokens": 20, "temperature": 0},
        "/tokenize": {"model": model, "prompt": "The sky is"},
        "/detokenize": {"model": model, "tokens": [1, 2]},
        "/collective_rpc": {"method": "reload_weights", "kwargs": {"weights_path": "/shared/weights/000001"}},
        "/update_weight_version": {"new_version": "000001"},
        "/v1/feedback": {"request_id": "req_…", "thumb": "down", "words": "It made this up."},
        "/v1/appeals": {"words": "The stopped requests were from our tests."},
    }


def curl(address: str, method: str, path: str, model: str, versioned: bool, keyed: bool = True) -> str:
    """A call from a shell."""
    lines = [f"curl {address}{path}"]
    if method not in ("GET", "POST"):
        lines[0] = f"curl -X {method} {address}{path}"
    if keyed:
        lines.append('-H "x-api-key: $CHARTER_API_KEY"')
    if versioned:
        lines.append(f'-H "{VERSION}"')
    if (body := bodies(model).get(path)) is not None and method == "POST":
        text = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
        lines += ['-H "content-type: application/json"', f"-d '{text}'"]
    elif path == "/v1/files" and method == "POST":
        lines.append('-F "file=@report.pdf;type=application/pdf"')
    elif method == "POST":
        lines[0] = f"curl -X POST {address}{path}"
    return " \\\n  ".join(lines)


def snippets(address: str, model: str, keyed: bool) -> list[Snippet]:
    """The examples of the index page."""
    key = '"sk-charter-…"' if keyed else '"none"'
    return [
        Snippet("today", "Messages, with curl", curl(address, "POST", "/v1/messages", model, True, keyed)),
        Snippet(
            "anthropic",
            "Messages, with Anthropic's SDK",
            f"from anthropic import Anthropic\n\n"
            f"client = Anthropic(base_url={json.dumps(address)}, api_key={key})\n"
            f"message = client.messages.create(\n    model={json.dumps(model)},\n    max_tokens=200,\n"
            f'    messages=[{{"role": "user", "content": {json.dumps(HELLO)}}}],\n'
            f"    # the client's own version of the API has no temperature\n"
            f'    extra_headers={{"anthropic-version": "2023-06-01"}},\n'
            f'    extra_body={{"temperature": 0}},\n)\nprint(message.content[0].text)',
        ),
        Snippet(
            "2023", "Text completions of 2023, with curl", curl(address, "POST", "/v1/complete", model, True, keyed)
        ),
        Snippet(
            "2023-sdk",
            "Text completions, with Anthropic's SDK of 2023",
            f"from anthropic import AI_PROMPT, HUMAN_PROMPT, Anthropic\n\n"
            f"client = Anthropic(base_url={json.dumps(address)}, api_key={key})\n"
            f"answer = client.completions.create(\n    model={json.dumps(model)},\n    max_tokens_to_sample=200,\n"
            f"    temperature=0,\n"
            f'    prompt=f"{{HUMAN_PROMPT}} {HELLO}{{AI_PROMPT}}",\n)\nprint(answer.completion)',
        ),
        Snippet(
            "openai",
            "Chat, with OpenAI's SDK",
            f"from openai import OpenAI\n\n"
            f"client = OpenAI(base_url={json.dumps(address + '/v1')}, api_key={key})\n"
            f"answer = client.chat.completions.create(\n    model={json.dumps(model)},\n    temperature=0,\n"
            f'    messages=[{{"role": "user", "content": {json.dumps(HELLO)}}}],\n)\n'
            f"print(answer.choices[0].message.content)",
        ),
    ]


def code_of(address: str, body: Mapping[str, Any], keyed: bool = True) -> list[Snippet]:
    """The code that sends this body of the Messages API: by curl and Anthropic's SDK, in the form of today and in that
    of 2023."""
    key = '"sk-charter-…"' if keyed else '"none"'
    old = _of_2023(body)
    facts = {name: value for name, value in body.items() if name not in ("temperature", "top_p", "top_k")}
    extra = {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body}
    today = ",\n    ".join(f"{name}={_python(value)}" for name, value in facts.items())
    if extra:
        today += f",\n    extra_body={_python(extra)}"
    then = ",\n    ".join(f"{name}={_python(value)}" for name, value in old.items())
    client = f"client = Anthropic(base_url={_python(address)}, api_key={key})"
    start = f"from anthropic import Anthropic\n\n{client}\n"
    return [
        Snippet("code-curl", "Messages, with curl", posted(address, "/v1/messages", body, keyed)),
        Snippet(
            "code-python",
            "Messages, with Anthropic's SDK",
            f"{start}message = client.messages.create(\n    {today},\n)\nprint(message.content[0].text)",
        ),
        Snippet("code-2023", "Text completions of 2023, with curl", posted(address, "/v1/complete", old, keyed)),
        Snippet(
            "code-2023-python",
            "Text completions, with Anthropic's SDK of 2023",
            f"{start}answer = client.completions.create(\n    {then},\n)\nprint(answer.completion)",
        ),
    ]


def posted(address: str, path: str, body: Mapping[str, Any], keyed: bool) -> str:
    """A POST from a shell. No text of the body ends the quotes around it."""
    quoted = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    key = ['-H "x-api-key: $CHARTER_API_KEY"'] if keyed else []
    lines = [f"curl {address}{path}", *key, f'-H "{VERSION}"', '-H "content-type: application/json"']
    return " \\\n  ".join([*lines, f"-d '{quoted}'"])


def _python(value: Any) -> str:
    """A value of JSON's texts, numbers and lists as Python: they are spelled alike."""
    return json.dumps(value, ensure_ascii=False)


def _of_2023(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same request in the form of 2023: the turns as one text."""
    names = {"user": "Human", "assistant": "Assistant"}
    turns = "".join(f"\n\n{names[turn['role']]}: {turn['content']}" for turn in body["messages"])
    if body["messages"][-1]["role"] == "user":
        turns += "\n\nAssistant:"
    old = {name: body[name] for name in ("temperature", "top_p", "top_k", "stop_sequences") if name in body}
    prompt = f"{body.get('system', '')}{turns}"
    return {"model": body["model"], "prompt": prompt, "max_tokens_to_sample": body["max_tokens"], **old}
