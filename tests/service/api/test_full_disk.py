"""A disk that is full, a lock that is held, quotas: who could mend it is never shut out, and nobody else waits."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import MODEL, Hall, Said, configuration, open_hall
from malformed import HELLO
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from charter_service.accounts.keys import USUAL, KeyRefused, Keyring, find_key, make_key
from charter_service.accounts.organisations import make_organisation
from charter_service.accounts.store import open_accounts
from charter_service.accounts.tables import KEYS
from charter_service.web.database import reading, writing
from charter_service.web.room import RESERVE, Room, is_busy, is_full

MIB = 2**20
BODY = {"model": MODEL, "max_tokens": 50, "messages": HELLO}


def asked(hall: Hall, secret: str, path: str, body: Any = None, seconds: float = 60) -> httpx.Response:
    """A request of one key: a POST where there is a body."""
    given = {"x-api-key": secret, "anthropic-version": "2023-06-01"}
    method = "GET" if body is None else "POST"
    return httpx.request(method, hall.url + path, headers=given, json=body, timeout=seconds)


def batch(count: int = 1, size: int = 0) -> dict[str, Any]:
    params = {**BODY, "system": "x" * size}
    return {"requests": [{"custom_id": f"r{n}", "params": params} for n in range(count)]}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Takes all room that is left."""
    filler = folder / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            if file.write(b"x" * 4096) < 4096:
                raise OSError("No space left")
    return filler


def test_on_a_full_disk_a_key_can_be_revoked_and_stays_so(disk: Path) -> None:
    said = Said("One ", "two")
    with open_hall(disk, said=said) as hall:
        greedy, admin = hall.key("greedy"), hall.key("ours", (*USUAL, "admin"))
        id = next(row.id for row in hall.rows(KEYS) if row.organisation == hall.organisations["greedy"])
        said.gate.clear()  # nothing of its batches ends
        found = [asked(hall, greedy, "/v1/messages/batches", batch(1, 2 * MIB)) for _ in range(9)]
        assert [one.status_code for one in found][-1] == 529, "a floor of free disk is left"
        assert "disk" in found[-1].json()["error"]["message"]
        assert "disk of serve.sqlite" in asked(hall, "", "/ready").json()["status"]
        said.gate.set()
        filler = fill(disk)
        assert asked(hall, greedy, "/v1/messages", BODY).status_code == 200
        assert asked(hall, admin, "/admin/keys").status_code == 200
        assert asked(hall, admin, "/admin").status_code == 200
        assert asked(hall, admin, f"/admin/keys/{id}/revoke", {}).status_code == 200
        assert asked(hall, greedy, "/v1/messages", BODY).status_code == 401
    filler.unlink()
    with open_hall(disk, said=said) as hall:
        assert asked(hall, greedy, "/v1/messages", BODY).status_code == 401
        assert asked(hall, admin, "/v1/messages", BODY).status_code == 200


def test_quotas_stop_one_organisation_alone(tmp_path: Path) -> None:
    config = configuration(batch_requests=5, batch_mib=1)
    with open_hall(tmp_path, config, said=(said := Said("One"))) as hall:
        greedy, other = hall.key("greedy"), hall.key("other")
        said.gate.clear()
        assert asked(hall, greedy, "/v1/messages/batches", batch(4)).status_code == 200
        many = asked(hall, greedy, "/v1/messages/batches", batch(2))
        assert many.status_code == 429 and "4 unfinished requests" in many.json()["error"]["message"]
        large = asked(hall, greedy, "/v1/messages/batches", batch(1, MIB))
        assert large.status_code == 429 and "1 MiB are allowed" in large.json()["error"]["message"]
        assert asked(hall, other, "/v1/messages/batches", batch(5)).status_code == 200
        said.gate.set()


def test_a_held_lock_keeps_nobody_from_being_let_in(tmp_path: Path) -> None:
    """Ten thumbs wait for the lock; keys are still checked, messages answered, and the thumbs told to come again."""
    with open_hall(tmp_path, said=Said("One")) as hall:
        slow, quick = hall.key("slow"), hall.key("quick")
        request = asked(hall, slow, "/v1/messages", BODY).headers["request-id"]
        assert asked(hall, slow, f"/v1/requests/{request}").status_code == 200
        holder = sqlite3.connect(tmp_path / "serve.sqlite", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        thumb = {"request_id": request, "thumb": "up"}
        statuses: list[int] = []

        def give() -> None:
            statuses.append(asked(hall, slow, "/v1/feedback", thumb).status_code)

        threads = [threading.Thread(target=give) for _ in range(10)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        for _ in range(5):
            assert asked(hall, quick, "/v1/models").status_code == 200
            time.sleep(1.1)  # what the keyring remembers is forgotten
        assert not statuses
        holder.execute("ROLLBACK")
        holder.close()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 10


def test_a_key_that_was_shut_opens_nothing_whatever_the_database_says(tmp_path: Path) -> None:
    engine = open_accounts("serve.sqlite", tmp_path)
    with writing(engine) as connection:
        id, secret = make_key(connection, make_organisation(connection, "acme"), "test")
    keyring = Keyring(engine)
    assert keyring.find_caller(secret).key == id
    keyring.shut(id)
    for _ in range(2):
        with pytest.raises(KeyRefused):
            keyring.find_caller(secret)
    with reading(engine) as connection:
        assert find_key(connection, id).state() == "usable"
    engine.dispose()


def test_what_is_full_and_what_is_busy_is_told_apart(tmp_path: Path) -> None:
    engine = open_accounts("serve.sqlite", tmp_path)

    @event.listens_for(engine, "connect")
    def small(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA max_page_count=1")  # of what is there already, none more

    engine.pool.dispose()
    with pytest.raises(DBAPIError) as found, writing(engine) as connection:
        for n in range(1000):
            make_organisation(connection, f"organisation {n} " + "x" * 150)
    assert is_full(found.value) and not is_busy(found.value)
    engine.dispose()


def test_the_reserve_is_held_back_and_made_again(tmp_path: Path) -> None:
    engine = open_accounts("serve.sqlite", tmp_path)
    room = Room(engine)
    reserve = tmp_path / "serve.sqlite.reserve"
    assert reserve.stat().st_size == RESERVE and room.problem == ""
    reserve.unlink()
    assert room.write(lambda connection: make_organisation(connection, "acme")).startswith("org_")
    assert reserve.exists()
    engine.dispose()


def test_a_server_ends_and_begins_on_a_full_disk(disk: Path) -> None:
    said = Said("One ", "two")
    with open_hall(disk, said=said) as hall:
        secret = hall.key()
        filler = fill(disk)
        assert asked(hall, secret, "/v1/messages", BODY).status_code == 200
    reserve = disk / "serve.sqlite.reserve"
    assert 0 < reserve.stat().st_size < MIB, "a part was given up for what was to be written at the end"
    more = disk / "more"
    with more.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while file.write(b"x" * 4096) == 4096:
            pass
        raise OSError("No space left")
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - 64 * 1024)  # as much as SQLite's index of its log takes
    with open_hall(disk, said=said) as hall:
        assert asked(hall, secret, "/v1/messages", BODY).status_code == 200
        assert asked(hall, "", "/ready").status_code == 503


def test_many_keys_can_be_revoked_on_a_full_disk_and_stay_so(disk: Path) -> None:
    """Whoever writes meanwhile takes no more of the reserve than the change before left."""
    with open_hall(disk, said=Said("One ", "two")) as hall:
        secrets, admin = [hall.key("greedy") for _ in range(8)], hall.key("ours", (*USUAL, "admin"))
        ids = [row.id for row in hall.rows(KEYS) if row.organisation == hall.organisations["greedy"]]
        fill(disk)
        for id in ids:
            for _ in range(3):
                assert asked(hall, admin, "/v1/messages", BODY).status_code == 200
            time.sleep(0.6)  # until usage and decisions are written, or can't be
            assert asked(hall, admin, f"/admin/keys/{id}/revoke", {}).status_code == 200
    with open_hall(disk, said=Said("One")) as hall:
        assert {asked(hall, one, "/v1/messages", BODY).status_code for one in secrets} == {401}


def test_a_server_that_was_killed_begins_on_a_full_disk(disk: Path) -> None:
    with open_hall(disk, said=Said("One")) as hall:
        secret = hall.key()
    assert (disk / "serve.sqlite.reserve").exists()
    fill(disk)
    with open_hall(disk, said=Said("One")) as hall:
        assert asked(hall, secret, "/v1/messages", BODY).status_code == 200
