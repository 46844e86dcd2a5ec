"""Several real processes run one step: the same rows and files as one process, each chunk once, lost chunks again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from charter.ground.artifact.progress import SilentBar, SilentProgress
from charter.ground.artifact.workspace import Workspace

ITEMS = list(range(23))

# number % size == rank, like ranks of a launcher; a second round of chunks uses the rows of the first
ROOM = """
import json, os, sys, time
from pathlib import Path
from charter.ground.artifact.workspace import Workspace

folder, rank, size, pause = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])

class Ranks:
    leads = rank == 0
    def claim(self, key, number):
        return number % size == rank
    def wait(self):
        time.sleep(0.01)

out = Workspace(folder, seed=7, sharing=Ranks())

def produce(part, number):
    time.sleep(pause)
    with open(folder / f"made-{rank}", "a") as file:
        file.write(f"{number}\\n")
    return [(out.seed * number + item / 3, "é") for item in part]

first = out.chunks("first", list(range(23)), 4, produce)
second = out.chunks("second", first, 3, lambda part, n: produce([row[0] for row in part], n))
out.write_jsonl("rows.jsonl", [{"value": value} for value, _ in second])
out.metric("rows", len(second))
out.log(step=0, loss=second[0][0])
print(json.dumps([str(out.path), second]))
"""


def start(folder: Path, rank: int, size: int, pause: float = 0.0) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", ROOM, str(folder), str(rank), str(size), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> tuple[Path, object]:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    path, rows = json.loads(output)
    return Path(path), rows


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def numbers(folder: Path) -> dict[str, list[str]]:
    return {path.name: path.read_text().split() for path in sorted(folder.glob("made-*"))}


def test_processes_that_share_make_what_one_makes_and_each_chunk_once(tmp_path: Path) -> None:
    _, alone = finish(start(tmp_path / "alone", 0, 1))
    together = [start(tmp_path / "three", rank, 3, 0.02) for rank in range(3)]
    paths, rows = zip(*(finish(process) for process in together), strict=True)

    assert list(rows) == [alone] * 3
    assert contents(tmp_path / "three" / "state") == contents(tmp_path / "alone" / "state")
    assert contents(tmp_path / "three" / "files") == contents(tmp_path / "alone" / "files")
    assert numbers(tmp_path / "alone") == {"made-0": [*"012345", *"01234567"]}
    assert numbers(tmp_path / "three") == {
        "made-0": ["0", "3", "0", "3", "6"],
        "made-1": ["1", "4", "1", "4", "7"],
        "made-2": ["2", "5", "2", "5"],
    }
    # followers wrote beside the artifact, and removed those files at the end
    assert paths[0] == tmp_path / "three" / "files" and len(set(paths)) == 3
    assert not paths[1].exists() and not paths[2].exists()
    assert not list((tmp_path / "three").glob("scratch-*"))


def test_a_process_killed_in_the_middle_of_a_chunk_loses_only_that_chunk(tmp_path: Path) -> None:
    _, alone = finish(start(tmp_path / "alone", 0, 1))
    folder = tmp_path / "two"
    leader, follower = start(folder, 0, 2), start(folder, 1, 2, 0.2)
    while not (folder / "state" / "first-00001.json").exists():
        time.sleep(0.01)
    follower.send_signal(signal.SIGKILL)
    follower.communicate()
    assert leader.poll() is None  # it waits
    _, rows = finish(start(folder, 1, 2))
    assert rows == alone and finish(leader)[1] == alone
    assert contents(folder / "files") == contents(tmp_path / "alone" / "files")
    own_numbers = numbers(folder)["made-1"]
    assert sorted(own_numbers) == sorted([*"135", *"1357"])  # number 1, which was saved, not twice
    assert len(list(folder.glob("scratch-*"))) == 1  # of the killed one: the step's end removes it


class Handed:
    """Grants a claim at the second request, as if its first owner had died."""

    leads = True

    def __init__(self, folder: Path) -> None:
        self.asked: list[tuple[str, int]] = []
        self.waited = 0
        self._folder = folder

    def claim(self, key: str, number: int) -> bool:
        self.asked.append((key, number))
        if self.asked.count((key, number)) == 2 and number == 1:
            saved = {"items": 1, "rows": ["saved by who died"]}
            (self._folder / "state" / "key-00001.json").write_text(json.dumps(saved))
        return self.asked.count((key, number)) > 1

    def wait(self) -> None:
        self.waited += 1


class Counting(SilentProgress):
    def __init__(self) -> None:
        self.bars: list[list[int]] = []

    def bar(self, description: str, total: int, done: int = 0) -> SilentBar:
        self.bars.append([total, done])
        counts = self.bars[-1]

        class Bar(SilentBar):
            def advance(self, n: int = 1, **shown: object) -> None:
                counts[1] += n

        return Bar()


def test_claims_are_asked_again_and_what_was_saved_before_a_claim_is_not_made_again(tmp_path: Path) -> None:
    sharing, progress, produced = Handed(tmp_path), Counting(), []
    out = Workspace(tmp_path, sharing=sharing, progress=progress)

    def produce(part: Sequence[int], number: int) -> list[str]:
        produced.append(number)
        return [f"made {number}"] * len(part)

    assert out.chunks("key", ITEMS[:3], 1, produce) == ["made 0", "saved by who died", "made 2"]
    assert produced == [0, 2] and sharing.waited == 1
    assert sharing.asked == [("key", 0), ("key", 1), ("key", 2)] * 2
    assert progress.bars == [[3, 3]]


def test_who_does_not_lead_is_silent_and_removes_no_file_of_others(tmp_path: Path) -> None:
    class Follows(Handed):
        leads = False

    (tmp_path / "state").mkdir()
    stray = tmp_path / "state" / ".tmp-key-00000.json"
    stray.write_text("of one who is writing")
    progress = Counting()
    out = Workspace(tmp_path, sharing=Follows(tmp_path), progress=progress)
    with out.progress("words", 3):
        out.metric("a", 1.0)
    assert stray.exists() and not progress.bars
    assert out.folder.parent == tmp_path and (out.folder / "metrics.json").exists()
    assert not (tmp_path / "metrics.json").exists()


def test_who_leads_removes_no_file_that_another_writes_and_who_is_alone_removes_what_is_left(tmp_path: Path) -> None:
    for area in ("state", "files"):
        (tmp_path / area).mkdir()
        (tmp_path / area / ".tmp-key-00000.json").write_text("of one who is writing")
    Workspace(tmp_path, sharing=Handed(tmp_path))
    assert [path.parent.name for path in tmp_path.rglob(".tmp-*")] == ["state"]
    Workspace(tmp_path)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_two_that_write_one_chunk_at_once_leave_it_whole(tmp_path: Path) -> None:
    """A worker that seems dead may be alive: then two make one chunk."""
    one, two = Workspace(tmp_path), Workspace(tmp_path)

    def inner(part: Sequence[int], number: int) -> list[int]:
        return [item * 2 for item in part]

    def outer(part: Sequence[int], number: int) -> list[int]:
        assert two.chunks("key", part, 2, inner) == inner(part, 0)
        return inner(part, number)

    assert one.chunks("key", [1, 2], 2, outer) == [2, 4]
    assert os.listdir(tmp_path / "state") == ["key-00000.json"]
