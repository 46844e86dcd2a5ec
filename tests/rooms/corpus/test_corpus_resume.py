"""After a kill at any instant, a run of the corpus room continues and ends in the same files, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from corpus_world import GERMAN, files, inputs_from, make, rows_file, settings, text

from charter.ground.artifact import store
from charter.ground.artifact.inputs import Inputs
from charter.ground.settings.seed import derive_seed
from charter.ground.text import shards

SOURCE = Path(__file__).parents[3] / "src"
CHANGES = {"reading": {"batch_mib": 0.02}, "shard_tokens": 3000, "languages": {"other_share": 0.2}}


class Killed(BaseException):
    """Stands for a signal that ends the process between two instructions."""


def world(folder: Path) -> Inputs:
    """Rows, small files and a file that can't be read, with copies among them."""
    rows = [{"text": text(n, 200)} for n in range(60)] + [{"text": text(5, 200)}, {"text": ""}]
    rows_file(folder / "rows.jsonl.gz", rows + [{"text": text(900 + n, 200, GERMAN)} for n in range(6)])
    (folder / "texts").mkdir()
    for n in range(12):
        (folder / f"texts/{n:02d}.txt").write_text(text(100 + n, 300))
    (folder / "texts/12.txt").write_bytes(b"\xff\xfe\xfa")
    return inputs_from(folder / "rows.jsonl.gz", folder / "texts")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inputs, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("whole")
    inputs = world(folder)
    return inputs, files(make(folder / "out", inputs, **CHANGES))


def stop_at(patch: pytest.MonkeyPatch, instant: int, before: bool) -> list[int]:
    """Ends the process right before, or after, the rename number `instant`: a rename changes what a reader sees."""
    count = [0]
    replace = os.replace

    def counting(*paths: str) -> None:
        count[0] += 1
        if count[0] == instant and before:
            raise Killed
        replace(*paths)
        if count[0] == instant:
            raise Killed

    for module in (store, shards):
        patch.setattr(module.os, "replace", counting)
    return count


def test_stopped_at_every_rename(
    tmp_path: Path, whole: tuple[Inputs, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops one run again and again, each time a little later."""
    inputs, expected = whole
    stops, finished = 0, False
    while not finished:  # each metric is a rename too, and the last ones are made anew by every attempt
        with monkeypatch.context() as patch:
            stop_at(patch, 3 + 2 * stops, before=stops % 2 == 0)
            try:
                out = make(tmp_path / "out", inputs, **CHANGES)
                finished = True
            except Killed:
                stops += 1
    assert stops > 10
    assert files(out) == expected
    assert len([name for name in expected if name.endswith(".tokens")]) > 4


def test_half_a_file_is_never_taken_for_a_whole_one(
    tmp_path: Path, whole: tuple[Inputs, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while writing the tokenizer, with stray files of unfinished writes."""
    inputs, expected = whole
    with monkeypatch.context() as patch:
        patch.setattr("charter.ground.text.tokenizer._write", _half)
        with pytest.raises(Killed):
            make(tmp_path / "out", inputs, **CHANGES)
    assert (tmp_path / "out/files/tokenizer.json").stat().st_size == 100
    (tmp_path / "out/state/examined/.tmp-000000-000000.npz").write_bytes(b"PK")
    assert files(make(tmp_path / "out", inputs, **CHANGES)) == expected


def _half(path: Path, text: str) -> None:
    path.write_text(text[:100])
    raise Killed


@pytest.mark.slow
def test_killed_with_its_workers_and_gone_on(tmp_path: Path) -> None:
    """A real signal while reading and while writing shards; no process of the room outlives it."""
    (tmp_path / "in").mkdir()
    seed = derive_seed(0, "corpus")
    expected = files(make(tmp_path / "whole", world(tmp_path / "in"), seed=seed, **CHANGES))
    chosen = settings(**CHANGES).model_dump(mode="json") | {"workers": 2}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: r\nsteps:\n  - name: corpus\n    room: corpus\n"
        f"    from: {{sources: [./in/rows.jsonl.gz, ./in/texts]}}\n    settings: {json.dumps(chosen)}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "CHARTER_LAUNCHED": "1", "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "charter", "run", str(recipe), "--out", str(tmp_path / "killed")]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)

    partial = tmp_path / "killed/.partial/corpus"
    for sign in ("state/examined/*.npz", "files/train/*.tokens"):
        process = start()
        while process.poll() is None and not list(partial.glob(sign)):
            time.sleep(0.002)
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it was still at work
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive
    assert start().wait() == 0
    for name in ("train/00000.tokens", "train/00001.documents", "corpus.json", "tokenizer.json", "counts.json"):
        assert (tmp_path / "killed/corpus" / name).read_bytes() == expected[name]
