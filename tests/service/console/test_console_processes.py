"""The chat and the admin pages are two processes on one file of people: one login, locks that don't last, and one of
them killed while both write."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from charter_service.people import members, workers
from charter_service.people.export import open_people
from charter_service.web.audit import Wanted, search_acts, verify_acts
from charter_service.web.database import reading, writing

HERE = Path(__file__).parent
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
get, post = partial(httpx.get, verify=CONTEXT, timeout=60), partial(httpx.post, verify=CONTEXT, timeout=60)
ROUNDS = 8


class Process:
    """A service as a process; `facts`: what it printed once it was reached."""

    def __init__(self, *command: str) -> None:
        path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdout is not None
        self.facts = json.loads(self._process.stdout.readline() or "{}")
        self.address = re.sub(r"/join/.*", "", self.facts["address"])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class House:
    """Both services on one database of people."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.people = folder, str(folder / "people.sqlite")
        open_people(self.people).dispose()
        self.console = self.start_console()
        self.chat = self.start_chat()

    def start_console(self) -> Process:
        return Process(str(HERE / "console_process.py"), str(self.folder), self.people)

    def start_chat(self) -> Process:
        command = ("-m", "charter", "up", "--api", self.console.address, "--people", self.people)
        return Process(*command, "--port", "0", "--json")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    served = House(tmp_path)
    yield served
    for process in (served.chat, served.console):
        process.kill()


def session_of(answer: httpx.Response) -> dict[str, str]:
    (said,) = [one for one in answer.headers.get_list("set-cookie") if "charter_session=" in one]
    return {"cookie": said.partition(";")[0]}


def test_two_processes_share_the_people_and_one_is_killed(house: House) -> None:
    joined = post(house.chat.facts["address"], data={"name": "ann"})
    assert joined.status_code == 303, joined.text
    ann = session_of(joined)
    assert get(f"{house.console.address}/admin/members", headers=ann).status_code == 200, "one login"
    signing_in = get(f"{house.console.address}/admin/enter").text
    assert f'href="{house.chat.address}/"' in signing_in
    assert f'href="{house.console.address}/admin"' in get(f"{house.chat.address}/enter").text
    engine = open_people(house.people)
    with writing(engine) as c:
        assert engine.dialect.name != "sqlite" or c.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        bob, key = workers.join(c, workers.invite(c, "member"), "bob")
    admin = {"x-api-key": house.console.facts["key"]}
    acknowledged, problems = list[str](), list[str]()

    def change(rounds: int) -> None:
        """Changes bob's role to and fro."""
        for _ in range(rounds):
            with reading(engine) as c:
                was = members.find_member(c, bob.id).console
            role = "none" if was else "analyst"
            try:
                place = f"{house.console.address}/admin/members/{bob.id}/role"
                answer = post(place, json={"role": role, "was": was}, headers=admin)
            except httpx.HTTPError:
                return  # it was killed
            if answer.status_code == 200:
                acknowledged.append(role)
            else:
                problems.append(answer.text)

    def enter(rounds: int) -> None:
        """Signs bob in at the chat."""
        for _ in range(rounds):
            try:
                answer = post(f"{house.chat.address}/enter", data={"key": key})
            except httpx.HTTPError:
                return
            if answer.status_code != 303:
                problems.append(answer.text)

    def both(kill: Any = None) -> None:
        threads = [threading.Thread(target=work, args=(ROUNDS,)) for work in (change, enter)]
        for thread in threads:
            thread.start()
        if kill is not None:
            kill()
        for thread in threads:
            thread.join()
        assert not problems

    both()
    assert len(acknowledged) == ROUNDS
    both(house.chat.kill)
    assert len(acknowledged) == 2 * ROUNDS, "the admin pages go on without the chat"
    house.chat = house.start_chat()
    assert get(f"{house.chat.address}/", headers=ann).status_code == 200, "the session outlives the process"
    both(house.console.kill)
    answer = post(f"{house.chat.address}/enter", data={"key": key})
    assert answer.status_code == 303, "the chat goes on without the admin pages"
    house.console = house.start_console()
    assert get(f"{house.console.address}/admin", headers=ann).status_code == 200
    with reading(engine) as c:
        assert verify_acts(c) is None
        changes = [row.act for row in search_acts(c, Wanted(what="member.role"), 1000)[0]]
        now = members.find_member(c, bob.id).console
    assert len(acknowledged) <= len(changes) <= len(acknowledged) + 1
    assert json.loads(changes[0].after)["console"] == now, "the last act is the present state"
    engine.dispose()
