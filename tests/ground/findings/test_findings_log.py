"""The log of findings: kills at every byte, two writers, edits, and who may open it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.findings.log import BEGINNING, HEAD, LOG, changing, read_log

WRITER = """
import sys
from pathlib import Path
from charter.ground.findings.log import changing
for n in range(int(sys.argv[3])):
    with changing(Path(sys.argv[1])) as log:
        log.append([{"by": sys.argv[2], "n": n}, {"by": sys.argv[2], "n": n, "second": True}])
    print(n, flush=True)
"""


def write(folder: Path, *numbers: int) -> None:
    with changing(folder) as log:
        log.append([{"n": number} for number in numbers])


def test_events_come_back_in_order_and_only_the_owner_can_open_them(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write(tmp_path / "store", 1, 2)
        write(tmp_path / "store", 3)
    finally:
        os.umask(old)
    kept = read_log(tmp_path / "store")
    assert [event["n"] for event in kept.events] == [1, 2, 3] and len(set(kept.digests)) == 3
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "store").iterdir()}
    assert modes == dict.fromkeys((LOG, HEAD, ".lock"), "0o600")
    assert oct((tmp_path / "store").stat().st_mode & 0o777) == "0o700"
    (tmp_path / "store" / LOG).chmod(0o644)
    with pytest.raises(CharterError, match="others may open"):
        read_log(tmp_path / "store")


def test_bytes_behind_the_counted_ones_are_ignored_and_cut_off(tmp_path: Path) -> None:
    """What a kill leaves between the log's write and the head's, at every length."""
    store = tmp_path / "store"
    write(store, 1)
    before, head = (store / LOG).read_bytes(), (store / HEAD).read_bytes()
    write(store, 2, 3)
    after = (store / LOG).read_bytes()
    for size in range(len(before), len(after) + 1):
        (store / LOG).write_bytes(after[:size])
        (store / HEAD).write_bytes(head)
        assert [event["n"] for event in read_log(store).events] == [1]
    write(store, 4)
    assert [event["n"] for event in read_log(store).events] == [1, 4]
    assert (store / LOG).read_bytes().startswith(before) and b'"n":2' not in (store / LOG).read_bytes()


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: [lines[0].replace(b"1", b"7"), *lines[1:]],
        lambda lines: lines[1:],
        lambda lines: lines[:-1],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [lines[0], b'{"n":9}\n', *lines[1:]],
        lambda lines: [b'{"n": 1}\n', *lines[1:]],
        lambda lines: [b"\xff\xfe\n", *lines[1:]],
        lambda lines: [b"[" * 5_000 + b"\n", *lines[1:]],
        lambda lines: [],
    ],
)
def test_an_edited_log_is_refused(tmp_path: Path, edit: object) -> None:
    store = tmp_path / "store"
    write(store, 1, 2, 3)
    lines = (store / LOG).read_bytes().splitlines(keepends=True)
    (store / LOG).write_bytes(b"".join(edit(lines)))  # type: ignore[operator]
    with pytest.raises(CharterError, match="restore a copy"):
        read_log(store)
    with pytest.raises(CharterError, match="restore a copy"):
        write(store, 4)


def test_a_log_written_anew_is_found_by_an_earlier_tip(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write(store, 1, 2)
    tip = read_log(store).tip
    write(store, 3)
    assert read_log(store, tip).tip != tip and read_log(store, BEGINNING)
    (store / LOG).unlink()
    with pytest.raises(CharterError, match="it was cut"):
        read_log(store)
    (store / HEAD).unlink()
    write(store, 1)
    with pytest.raises(CharterError, match="never had the tip"):
        read_log(store, tip)


def test_a_lost_head_and_a_folder_of_other_files_are_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with pytest.raises(CharterError, match="holds no findings; `charter intake import"):
        read_log(store)
    write(store, 1)
    (store / HEAD).unlink()
    with pytest.raises(CharterError, match=r"has a log\.jsonl and no log\.head"):
        write(store, 2)
    (tmp_path / "photo.png").touch()
    with pytest.raises(CharterError, match="holds other files"):
        write(tmp_path, 1)
    assert not (tmp_path / ".lock").exists()


def test_two_processes_at_once_lose_and_mix_nothing(tmp_path: Path) -> None:
    store = tmp_path / "store"
    words = [sys.executable, "-c", WRITER, str(store)]
    writers = [subprocess.Popen([*words, name, "20"], stdout=subprocess.DEVNULL) for name in ("ann", "bob")]
    assert [writer.wait() for writer in writers] == [0, 0]
    events = read_log(store).events
    for name in ("ann", "bob"):
        assert [e["n"] for e in events if e["by"] == name] == [n // 2 for n in range(40)]
    assert all(
        (one["by"], one["n"]) == (two["by"], two["n"]) for one, two in zip(events[::2], events[1::2], strict=True)
    )


def test_a_writer_killed_at_any_moment_leaves_whole_batches(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for number in range(6):
        words = [sys.executable, "-c", WRITER, str(store), str(number), "100000"]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(number * 7 + 1):
                writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            told = number * 7 + 1 + len(writer.stdout.readlines())
        own = [event["n"] for event in read_log(store).events if event["by"] == str(number)]
        assert own == [n // 2 for n in range(len(own))] and len(own) % 2 == 0
        assert len(own) // 2 >= told, "what a writer has told is kept"
