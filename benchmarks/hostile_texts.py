"""How long another person waits while somebody sends hostile texts: the worst wait of each kind, in seconds.

    python benchmarks/hostile_texts.py [--only chat] [--json]

A chat and an API server run as processes of their own on loopback. Somebody imports each reply, opens it and shares it;
or sends a request to the API. Somebody else opens a small chat, or lists the models, every 50 ms meanwhile. The first
row is the same without anything hostile. The aim is 1 s on a quiet machine; exit code 1 over it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

sys.path += [str(Path(__file__).parents[1] / "tests" / place) for place in ("", "service/api", "service/chat")]
sys.path.append(str(Path(__file__).parent))

from company import Upstream, served
from neighbours import REPLIES, VERSION, Guest, Watch, api_process, chat_process, hostile_requests
from side import machine, print_table

AIM = 1.0


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--only", choices=("chat", "api"))
    reader.add_argument("--json", action="store_true")
    options = reader.parse_args()
    rows: list[tuple[str, str, float]] = []
    for name, waits in (("chat", chat_waits), ("api", api_waits)):
        if options.only in (None, name):
            rows += [(name, kind, worst) for kind, worst in waits()]
    if options.json:
        print(
            json.dumps(
                {"machine": machine(1), "worst": [dict(zip(("of", "kind", "s"), row, strict=True)) for row in rows]}
            )
        )
    else:
        print(machine(1))
        print_table([("kind", "of", "worst wait, s"), *((kind, of, f"{worst:.2f}") for of, kind, worst in rows)])
    sys.exit(max(worst for _, _, worst in rows) > AIM)


def worst_of(watch: Watch, work: Callable[[], object]) -> float:
    """The longest wait, in seconds, while some work goes on."""
    with watch.watching():
        work()
    if watch.failures:
        print(f"failed: {watch.failures[:3]}", file=sys.stderr)
    return max(watch.waits)


def chat_waits() -> Iterator[tuple[str, float]]:
    """The worst wait for a page of the chat, by the reply that is imported, opened and shared."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Upstream().app) as api,
        chat_process(api, Path(folder)) as joining,
    ):
        hostile = Guest(joining, "ann")
        other = Guest(hostile.invite(), "bob")
        small = other.bring_in("Short.\n\n```python\nreturn 1\n```")

        def work(reply: str) -> None:
            id = hostile.bring_in(reply)
            hostile.client.get(f"/c/{id}")
            httpx.get(hostile.home + hostile.share(id), timeout=120)
            hostile.send(f"/c/{id}/delete")

        for kind, reply in {"a harmless reply": "Hello.", **REPLIES}.items():
            watch = Watch(lambda: other.client.get(f"/c/{small}").status_code)
            yield kind, worst_of(watch, lambda reply=reply: work(reply))  # type: ignore[misc]


def api_waits() -> Iterator[tuple[str, float]]:
    """The worst wait for the list of models, by the request of somebody else."""
    with tempfile.TemporaryDirectory() as folder, api_process(Path(folder)) as facts:
        headers = {"x-api-key": facts["other"], **VERSION}
        with (
            httpx.Client(base_url=facts["address"], timeout=120, headers=headers) as other,
            httpx.Client(base_url=facts["address"], timeout=120) as hostile,
        ):
            harmless = {"a harmless request": lambda client: client.get("/v1/models", headers=headers)}
            for kind, request in {**harmless, **hostile_requests(facts)}.items():
                watch = Watch(lambda: other.get("/v1/models").status_code)
                yield kind, worst_of(watch, lambda request=request: request(hostile))  # type: ignore[misc]


if __name__ == "__main__":
    main()
