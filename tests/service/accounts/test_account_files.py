"""Uploaded files of organisations: rows, quota, pages of a list, and their end, on both databases."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from charter_service.accounts.export import forget_organisation, organisation_data
from charter_service.accounts.files import (
    LEAST_BYTES,
    File,
    OverQuota,
    Stored,
    begin_file,
    blobs_of,
    clear,
    delete_file,
    drop_file,
    files_of,
    find_file,
    hide_old,
    keep_file,
    list_files,
    stored,
)
from charter_service.accounts.organisations import make_organisation
from charter_service.accounts.retention import Keep, sweep
from charter_service.accounts.tables import FILES
from charter_service.console.conduct_terminal import forget
from charter_service.web.blobs import Blobs
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal

MUCH = 2**30


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def organisation(engine: Engine, name: str = "acme") -> str:
    with writing(engine) as connection:
        return make_organisation(connection, name)


def begin(engine: Engine, owner: str) -> File:
    with writing(engine) as connection:
        return File(begin_file(connection, owner), owner, "a.txt", "text/plain", 5, "d", time.time(), None)


def put(engine: Engine, owner: str, blobs: Blobs | None = None, quota: int = MUCH, **more: object) -> File:
    file = replace(begin(engine, owner), **more)  # type: ignore[arg-type]
    if blobs is not None:
        blob = blobs.create(file.id)
        blob.write(b"hello")
        blobs.settle(blob)
    with writing(engine) as connection:
        return keep_file(connection, file, quota)


def states(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return list(connection.execute(select(FILES.c.state).order_by(FILES.c.created)).scalars())


def test_nobody_sees_a_file_before_it_is_kept(engine: Engine) -> None:
    owner = organisation(engine)
    file = begin(engine, owner)
    with writing(engine) as connection:
        with pytest.raises(NotFound):
            find_file(connection, owner, file.id)
        assert list_files(connection, owner).files == []
        assert stored(connection) == []
        assert keep_file(connection, file, MUCH) == find_file(connection, owner, file.id)
        drop_file(connection, file.id)  # only what is arriving is given up
        assert find_file(connection, owner, file.id) == file


def test_other_organisations_see_nothing(engine: Engine) -> None:
    owner, other = organisation(engine), organisation(engine, "other")
    file = put(engine, owner)
    with writing(engine) as connection:
        for call in (find_file, delete_file):
            with pytest.raises(NotFound):
                call(connection, other, file.id)
        assert list_files(connection, other).files == []
        assert files_of(connection, other, [file.id]) == []
        with pytest.raises(Refusal, match="to list from"):
            list_files(connection, other, after=file.id)
        assert find_file(connection, owner, file.id) == file


@pytest.mark.parametrize(
    "id", ["", "file_1", "file_\0", "file_" + "0" * 32 + "\n", "../serve.sqlite", "file_" + "é" * 32]
)
def test_wrong_ids_are_unknown_files(engine: Engine, id: str) -> None:
    owner = organisation(engine)
    with reading(engine) as connection:
        with pytest.raises(NotFound, match="there is no file"):
            find_file(connection, owner, id)
        assert files_of(connection, owner, [id]) == []


def test_pages_hold_each_file_once(engine: Engine) -> None:
    owner = organisation(engine)
    ids = [put(engine, owner, created=float(number)).id for number in range(7)][::-1]
    with reading(engine) as connection:
        listed, after = list[str](), None
        while True:
            page = list_files(connection, owner, after=after, limit=3)
            listed += [file.id for file in page.files]
            if not page.has_more:
                break
            after = page.files[-1].id
        assert listed == ids
        back = list_files(connection, owner, before=ids[4], limit=3)
        assert [file.id for file in back.files] == ids[1:4]
        assert back.has_more
        assert [file.id for file in files_of(connection, owner, [ids[5], ids[0], ids[0]])] == [ids[0], ids[5]]
        for wrong in ({"limit": 0}, {"limit": 1001}, {"before": ids[0], "after": ids[1]}):
            with pytest.raises(Refusal):
                list_files(connection, owner, **wrong)  # type: ignore[arg-type]
        with pytest.raises(Refusal, match="at most 100"):
            files_of(connection, owner, [str(number) for number in range(101)])


def test_the_quota_counts_bytes_and_a_block_for_each_file(engine: Engine) -> None:
    owner, other = organisation(engine), organisation(engine, "other")
    quota = 3 * LEAST_BYTES
    put(engine, owner, quota=quota)
    put(engine, owner, quota=quota, bytes=2 * LEAST_BYTES)
    with pytest.raises(OverQuota, match="hold 12,288 of 12,288 bytes, and this one has 1"):
        put(engine, owner, quota=quota, bytes=1)
    put(engine, other, quota=quota)
    with pytest.raises(OverQuota, match="stores no files"):
        put(engine, other, quota=0)
    with reading(engine) as connection:
        assert stored(connection) == [Stored(owner, 2, quota), Stored(other, 1, LEAST_BYTES)]


def test_of_two_that_end_at_once_one_gets_the_last_bytes(engine: Engine) -> None:
    owner = organisation(engine)
    files = [begin(engine, owner) for _ in range(6)]

    def keep(file: File) -> bool:
        try:
            with writing(engine) as connection:
                return bool(keep_file(connection, file, 2 * LEAST_BYTES))
        except OverQuota:
            return False

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(keep, files)) == 2
    assert sorted(states(engine)) == ["arriving"] * 4 + ["ready"] * 2


def test_a_deleted_file_loses_its_bytes_and_its_name(engine: Engine, blobs: Blobs) -> None:
    owner = organisation(engine)
    file, other = put(engine, owner, blobs), put(engine, owner, blobs)
    with writing(engine) as connection:
        delete_file(connection, owner, file.id)
        with pytest.raises(NotFound):
            delete_file(connection, owner, file.id)
        hidden = connection.execute(select(FILES).where(FILES.c.id == file.id)).one()
        assert (hidden.name, hidden.mime) == ("", "")
    assert clear(engine, blobs, started=0.0) == 1
    assert [path.name for path in blobs.folder.iterdir()] == [other.id]
    assert states(engine) == ["ready"]


@pytest.mark.parametrize("written", [False, True])
def test_what_a_kill_left_arriving_is_removed_by_the_next_start(engine: Engine, blobs: Blobs, written: bool) -> None:
    owner = organisation(engine)
    left = begin(engine, owner)
    if written:
        blobs.settle(blobs.create(left.id))
    assert clear(engine, blobs, started=left.created - 60) == 0  # it may still be arriving
    assert states(engine) == ["arriving"]
    assert clear(engine, blobs, started=time.time() + 1) == 1
    assert states(engine) == []
    assert not blobs.folder.exists() or not list(blobs.folder.iterdir())
    with pytest.raises(Refusal, match="upload it again"), writing(engine) as connection:
        keep_file(connection, left, MUCH)


def test_a_kill_between_a_blob_and_its_row_leaves_no_trace(
    engine: Engine, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob goes before its row: if the process dies in between, the row leads the next sweep there again."""
    owner = organisation(engine)
    file = put(engine, owner, blobs)
    with writing(engine) as connection:
        delete_file(connection, owner, file.id)

    def killed(self: Blobs) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "_sync", killed)
        with pytest.raises(RuntimeError, match="killed"):
            clear(engine, blobs, started=0.0)
    assert states(engine) == ["gone"]
    assert clear(engine, blobs, started=0.0) == 1
    assert states(engine) == []


def test_files_expire_and_are_kept_for_some_days(engine: Engine, blobs: Blobs) -> None:
    owner, now = organisation(engine), time.time()
    put(engine, owner, blobs, created=now - 10, expires=now - 5)
    put(engine, owner, blobs, created=now - 3 * 86_400)
    fresh = put(engine, owner, blobs, created=now - 86_400, expires=now + 3600)
    with reading(engine) as connection:
        assert len(list_files(connection, owner).files) == 2  # an expired one is gone at once
    with writing(engine) as connection:
        assert hide_old(connection, now, None)
        assert not hide_old(connection, now, None)
    sweep(engine, Keep(files_days=2), now, lambda _: None)
    clear(engine, blobs, started=0.0)
    assert [path.name for path in blobs.folder.iterdir()] == [fresh.id]


def test_forgetting_an_organisation_takes_its_files(engine: Engine) -> None:
    owner, other = organisation(engine), organisation(engine, "other")
    put(engine, owner)
    kept = put(engine, other)
    with writing(engine) as connection:
        assert ("files", "a.txt") in [(t, row.get("name")) for t, row in organisation_data(connection, owner)]
        assert forget_organisation(connection, owner).files == 1
        assert list_files(connection, owner).files == []
        assert list_files(connection, other).files == [kept]


def test_the_command_that_forgets_removes_the_bytes(file_engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    blobs = blobs_of(file_engine)
    put(file_engine, organisation(file_engine), blobs)
    assert len(list(blobs.folder.iterdir())) == 1
    forget(str(file_engine.url.database), "acme", "")
    assert "1 uploaded file;" in capsys.readouterr().out
    assert list(blobs.folder.iterdir()) == []


def test_only_its_owner_may_read_a_blob(blobs: Blobs) -> None:
    blobs.settle(blobs.create("file_1"))
    assert (blobs.folder / "file_1").stat().st_mode & 0o777 == 0o600
    assert blobs.folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        blobs.create("file_1")


def test_a_blob_is_not_written_through_a_link(blobs: Blobs, tmp_path: Path) -> None:
    blobs.folder.mkdir()
    (blobs.folder / "file_1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        blobs.create("file_1")
