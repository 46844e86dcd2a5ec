"""A program for `test_failing_disk`: does what a server writes while the Nth call that writes or syncs fails, for each N,
and looks whether all is there that was acknowledged. The library `failing_disk.c` has to be preloaded.

It prints a line of JSON: for each way of failing how many calls there were, how many of the operations were refused,
and what was wrong.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError

from charter.ground.artifact.errors import CharterError
from charter_service.accounts import batches
from charter_service.accounts.batches import DAY, get_batch, make_batch
from charter_service.accounts.decisions import Entry, Log, prune, verify_chain
from charter_service.accounts.keys import Caller, find_key, make_key, revoke
from charter_service.accounts.made_once import once
from charter_service.accounts.organisations import make_organisation
from charter_service.accounts.store import open_accounts
from charter_service.accounts.tables import BATCH_ITEMS, DECISIONS, USAGE
from charter_service.accounts.usage import Counts, Meter
from charter_service.api.batching import finish, resume, take
from charter_service.web.database import reading, shrink, writing

FILE = "serve.sqlite"
FAULTS = ctypes.CDLL(None)
batches.PIECE = 20
ITEMS = [(f"r{n}", "{}") for n in range(30)]  # two pieces
Done = dict[str, Any]


def entry(request: str, at: float) -> Entry:
    words = dict.fromkeys(("organisation", "key", "user", "model", "side", "action", "category"), "x")
    rest: Any = {"sensitivity": "standard", "policy": "p", "classifiers": "{}"}
    return Entry(request=request, at=at, score=0.5, threshold=0.5, **words, **rest)


def prepared(folder: Path) -> Caller:
    """A database with a key, an ended batch and old decisions."""
    engine = open_accounts(FILE, folder)
    with writing(engine) as c:
        organisation = make_organisation(c, "acme")
        caller = Caller(make_key(c, organisation, "first")[0], organisation, "first")
    now = time.time()
    Log(engine).note_now([entry(f"req_old{n}", now - 300 * DAY) for n in range(50)])
    engine.dispose()
    return caller


def operate(engine: Engine, caller: Caller, done: Done) -> None:
    """One after the other; what returned is in `done`, what raised isn't."""
    log, meter = Log(engine), Meter(engine)
    meter._closed.set()  # written when it is said, so that each run has the same calls
    meter._thread.join()

    def write(work: Callable[[Any], Any]) -> Any:
        with writing(engine) as c:
            return work(c)

    def finished(id: str) -> str:
        write(lambda c: [finish(c, one.batch, one.number, "succeeded", "{}") for one in take(c, 3)])
        return id

    def metered() -> bool:
        meter.record(caller.key, "toy", Counts(requests=1), time.time())
        meter.flush()
        return True

    steps: list[tuple[str, Callable[[], Any]]] = [
        ("key", lambda: write(lambda c: make_key(c, caller.organisation, "second")[0])),
        ("batch", lambda: make_batch(engine, caller, ITEMS, wanted=once("k", ITEMS))),
        ("finished", lambda: finished(done["batch"])),
        ("decision", lambda: log.note_now([entry("req_new", time.time())]) or True),
        ("usage", metered),
        ("pruned", lambda: write(lambda c: prune(c, time.time() - 200 * DAY, time.time(), 20))),
        ("revoked", lambda: write(lambda c: revoke(c, done["key"])) or True),
        ("shrunk", lambda: shrink(engine, lambda _: None) >= 0),
    ]
    for name, step in steps:
        try:
            done[name] = step()
        except (DBAPIError, CharterError, KeyError):
            continue


def missing(folder: Path, caller: Caller, done: Done) -> list[str]:
    """What was acknowledged and isn't there, as the next server finds it."""
    engine, found = open_accounts(FILE, folder), []
    with writing(engine) as c:
        resume(c)
    with reading(engine) as c:
        if (said := c.execute(text("PRAGMA integrity_check")).scalar()) != "ok":
            found.append(f"integrity: {said}")
        if verify_chain(c) is not None:
            found.append("chain")
        if "key" in done and "revoked" in done and find_key(c, done["key"]).state() != "revoked":
            found.append("key")
        elif "key" in done:
            find_key(c, done["key"])  # a change that was refused may still have come to be
        if "batch" in done:
            mine = select(BATCH_ITEMS.c.state).where(BATCH_ITEMS.c.batch == done["batch"])
            states = c.execute(mine).scalars().all()
            if len(states) != len(ITEMS) or get_batch(c, caller.organisation, done["batch"]).size != len(ITEMS):
                found.append("batch")
            if "finished" in done and states.count("succeeded") != 3:
                found.append("finished")
        if "decision" in done and not c.execute(select(DECISIONS).where(DECISIONS.c.request == "req_new")).all():
            found.append("decision")
        if "usage" in done and c.execute(select(USAGE.c.requests)).scalars().all() != [1]:
            found.append("usage")
    engine.dispose()
    return found


def run(base: Path, work: Path, caller: Caller, lasting: bool) -> dict[str, Any]:
    at, refused, wrong = 0, 0, []
    while True:
        at += 1
        for folder in (work, work.with_name("killed")):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base, work)
        engine, done = open_accounts(FILE, work), Done()
        FAULTS.fault_arm(ctypes.c_long(at), int(lasting))
        operate(engine, caller, done)
        seen = int(FAULTS.fault_seen())
        FAULTS.fault_arm(ctypes.c_long(0), 0)
        shutil.copytree(work, work.with_name("killed"))  # as a kill at this moment leaves it
        engine.dispose()
        refused += 8 - len(done)
        for folder in (work, work.with_name("killed")):
            wrong += [f"{at} {folder.name}: {one}" for one in missing(folder, caller, done)]
        if seen < at:
            assert len(done) == 8, "without a fault all is done"
            return {"calls": at - 1, "refused": refused, "wrong": wrong}


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "base").mkdir()
    caller = prepared(folder / "base")
    print(
        json.dumps(
            {name: run(folder / "base", folder / "work", caller, name == "lasting") for name in ("once", "lasting")}
        )
    )


if __name__ == "__main__":
    main()
