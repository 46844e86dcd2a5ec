"""What `charter serve` withstands: wrong requests, a thousand clients, clients that vanish, and being killed.

    python benchmarks/serve_load.py --malformed 10000       wrong requests by a seed: statuses, failures, hangs
    python benchmarks/serve_load.py --clients 1000          as many at once, streaming and not, with few keys
    python benchmarks/serve_load.py --overload 3000         as many of eight organisations, more than may wait
    python benchmarks/serve_load.py --slow 60               that read a few bytes at a time, or nothing for a while
    python benchmarks/serve_load.py --vanish 200            gone before the answer, or in the middle of a stream
    python benchmarks/serve_load.py --kills 5               SIGKILL with batches in flight, SQLite and PostgreSQL

The server runs as people run it, in a process of its own; `--model` names the model (default random:tiny). After each
part its memory, threads, open files and busy slots are read. Prints one line of JSON for each part; exit code 1 where
something failed, hung, was lost or done twice. There is no peer: the figures are our own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import malformed
from load_server import VERSION, Server, Watch, key_of, served, settled
from private_postgres import private_postgres
from slow_readers import slow_readers

from charter_service.accounts.keys import KeyLimits

BATCHES = "/v1/messages/batches"


def wrong_requests(server: Server, key: str, count: int, seed: int) -> dict[str, Any]:
    """Sends wrong requests, eight at a time."""
    start, watch = server.figures(), Watch(server)
    watch.start()
    statuses: Counter[int] = Counter()
    failed: list[str] = []
    middle = None
    asked = itertools.islice(malformed.requests(seed, server.model, key), count)
    with ThreadPoolExecutor(8) as pool:
        while part := list(itertools.islice(asked, 500)):
            for wrong, (status, said) in zip(
                part, pool.map(lambda one: malformed.send(server.port, one), part), strict=True
            ):
                statuses[status] += 1
                if status >= 500 or status < 0:
                    failed.append(f"{wrong.kind} {status} {wrong.raw[:150]!r} {said[-150:]}")
            if middle is None and sum(statuses.values()) >= count // 2:
                middle = server.rss()
    return {
        "part": "malformed",
        "count": count,
        "seed": seed,
        "statuses": dict(sorted(statuses.items())),
        "failures": sum(count for status, count in statuses.items() if status >= 500),
        "hangs": statuses[-1],
        "start": start,
        "middle_rss_mib": middle,
        **watch.end(),
        "end": settled(server),
        "examples": failed[:5],
        "failed": bool(failed),
    }


def many_clients(
    server: Server, keys: list[str], count: int, part: str = "clients", tokens: int = 20
) -> dict[str, Any]:
    """As many clients at once, each a connection and a thread of its own; every second one streams."""
    start, watch = server.figures(), Watch(server)
    watch.start()
    statuses: Counter[str] = Counter()
    lock, gate = threading.Lock(), threading.Barrier(count)
    threading.stack_size(512 * 1024)

    def one(number: int) -> None:
        body = {"model": server.model, "max_tokens": tokens, "messages": malformed.HELLO, "stream": number % 2 == 0}
        known = (f"x-api-key: {keys[number % len(keys)]}", "anthropic-version: 2023-06-01")
        wrong = malformed.Wrong(
            "client", malformed.request_bytes("POST", "/v1/messages", json.dumps(body).encode(), *known)
        )
        gate.wait()
        status, said = malformed.send(server.port, wrong, 500, keep=2**20)
        word = str(status)
        if status == 200:
            word += " whole" if ("message_stop" in said or '"stop_reason":"' in said) else " cut"
        elif status in (429, 529):
            word += " with retry-after" if "retry-after:" in said else " without retry-after"
        with lock:
            statuses[word] += 1

    began = time.monotonic()
    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, seen = time.monotonic() - began, watch.end()
    bad = [word for word in statuses if (word[0] in "-05" and not word.startswith("529 with ")) or "cut" in word]
    return {
        "part": part,
        "count": count,
        "seconds": round(took, 1),
        "statuses": dict(sorted(statuses.items())),
        "start": start,
        **seen,
        "kib_per_client": round((seen["peak_rss_mib"] - start["rss_mib"]) * 1024 / count),
        "end": settled(server),
        "failed": bool(bad) or (part == "overload" and "529 with retry-after" not in statuses),
    }


def vanishing(server: Server, key: str, count: int) -> dict[str, Any]:
    """Clients that close before the answer, or in the middle of a stream; more than there are slots."""
    start, draw = server.figures(), random.Random(1)
    tokens, begun = min(2000, server.longest(key)), 0
    for number in range(count):
        body = {"model": server.model, "max_tokens": tokens, "messages": malformed.HELLO, "stream": number % 2 == 0}
        known = (f"x-api-key: {key}", "anthropic-version: 2023-06-01")
        raw = malformed.request_bytes("POST", "/v1/messages", json.dumps(body).encode(), *known)
        with malformed.connected(server.port) as sock:
            sock.sendall(raw)
            if number % 4 == 0:
                sock.settimeout(60)
                begun += b" 200 OK" in sock.recv(1000)
            else:
                time.sleep(draw.random() * 0.05)
    began = time.monotonic()
    end = settled(server)
    return {
        "part": "vanish",
        "count": count,
        "in_a_stream": begun,
        "start": start,
        "idle_after_s": round(time.monotonic() - began, 2),
        "end": end,
        "failed": bool(end["busy"] or end["waiting"]) or begun < count // 4,
    }


def kills(database: str, folder: Path, reference: str, times: int) -> dict[str, Any]:
    """Batches are sent in while the server is killed at random moments; in the end each request has ended once."""
    draw, key = random.Random(times), key_of(database, folder)
    given = {**VERSION, "x-api-key": key}
    accepted: dict[str, set[str]] = {}
    unsure = killed_busy = 0
    kept: dict[tuple[str, str], str] = {}
    problems: list[str] = []
    for turn in range(times + 1):
        with served(database, reference) as server:
            for _ in range(2):
                names = {f"r{turn}-{n}-{draw.randrange(10**6)}" for n in range(40)}
                params = {"model": server.model, "max_tokens": 40, "messages": malformed.HELLO}
                asked = [{"custom_id": name, "params": params} for name in sorted(names)]
                with suppress(httpx.HTTPError):
                    found = httpx.post(server.address + BATCHES, headers=given, json={"requests": asked}, timeout=60)
                    if found.status_code == 200:
                        accepted[found.json()["id"]] = names
                        continue
                unsure += 1
            if turn < times:
                time.sleep(draw.random() * 1.5)
                killed_busy += any(not _ended(server, given, id) for id in accepted)
                server.process.send_signal(signal.SIGKILL)
                server.process.wait()
                continue
            end = time.monotonic() + 300
            while time.monotonic() < end and not all(_ended(server, given, id) for id in accepted):
                time.sleep(0.5)
            for id, names in accepted.items():
                rows = _results(server, given, id)
                for row in rows:
                    kept[id, row["custom_id"]] = row["result"]["type"]
                met = Counter(row["custom_id"] for row in rows)
                if set(met) != names or max(met.values(), default=0) > 1:
                    problems.append(f"{id}: {len(names)} asked, {len(rows)} rows, {len(met)} distinct")
    return {
        "part": "kills",
        "database": "postgresql" if database.startswith("postgresql") else "sqlite",
        "kills": times,
        "killed_with_work_left": killed_busy,
        "batches": len(accepted),
        "not_acknowledged": unsure,
        "requests": sum(map(len, accepted.values())),
        "results": dict(Counter(kept.values())),
        "problems": problems,
        "failed": bool(problems) or set(kept.values()) != {"succeeded"},
    }


def _ended(server: Server, given: dict[str, str], id: str) -> bool:
    found = httpx.get(f"{server.address}{BATCHES}/{id}", headers=given, timeout=60).json()
    return bool(found["processing_status"] == "ended")


def _results(server: Server, given: dict[str, str], id: str) -> list[dict[str, Any]]:
    found = httpx.get(f"{server.address}{BATCHES}/{id}/results", headers=given, timeout=60)
    return [json.loads(line) for line in found.text.splitlines()] if found.status_code == 200 else []


def main() -> int:
    """Runs the parts that were asked for."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    options.add_argument("--model", default="random:tiny")
    for part in ("malformed", "clients", "overload", "slow", "vanish", "kills"):
        options.add_argument(f"--{part}", type=int, default=0, metavar="N")
    options.add_argument("--seed", type=int, default=11)
    given = options.parse_args()
    found: list[dict[str, Any]] = []

    def tell(part: dict[str, Any]) -> None:
        found.append(part)
        print(json.dumps(part), flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.malformed or given.clients or given.overload or given.slow or given.vanish:
            database = f"sqlite:///{folder / 'serve.sqlite'}"
            keys = [key_of(database, folder), key_of(database, folder), key_of(database, folder, KeyLimits())]
            with served(database, given.model) as server:
                if given.malformed:
                    tell(wrong_requests(server, keys[0], given.malformed, given.seed))
                if given.clients:
                    tell(many_clients(server, keys, given.clients))
                if given.overload:  # so many organisations that none reaches its own half first
                    crowd = [key_of(database, folder) for _ in range(8)]
                    tell(many_clients(server, crowd, given.overload, "overload", tokens=256))
                if given.slow:
                    tell(slow_readers(server, keys[0], keys[1], given.slow))
                if given.vanish:
                    tell(vanishing(server, keys[0], given.vanish))
        if given.kills:
            tell(kills(f"sqlite:///{folder / 'kills.sqlite'}", folder, given.model, given.kills))
            with private_postgres() as url:
                tell(kills(url.format(name="postgres"), folder, given.model, given.kills))
    return int(any(part["failed"] for part in found))


if __name__ == "__main__":
    sys.exit(main())
