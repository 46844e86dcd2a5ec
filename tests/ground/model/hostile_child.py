"""Reads what is named on standard input, each in a process of its own that may take `HUNG` seconds and `BYTES`, and writes a
line of JSON with what came of it. This process itself never encodes: threads of the tokenizer's don't survive a fork."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import sysconfig
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from charter.ground.artifact.errors import CharterError
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.gguf import convert
from charter.ground.text.columns import raw_rows
from charter.ground.text.template import Template
from charter.ground.text.tokenizer import Tokenizer

HUNG = 60.0  # seconds of the wall, on a machine that has other things to do
BYTES = 3 * 2**29  # of address space, beyond what is there at the start
OWN = {os.path.realpath(place) for place in (*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, *sys.path)}


def read(path: Path, target: Path) -> None:
    """What the product does with a model or rows before it serves or trains."""
    if path.name.startswith("rows."):
        for _ in raw_rows(path):
            pass
        return
    folder = path
    if path.suffix == ".gguf":
        folder = target
        convert(path, folder)
    _, tokenizer = load_policy(folder)
    use(tokenizer)


def use(tokenizer: Tokenizer) -> None:
    """Cuts texts, puts them together again and renders messages."""
    for text in ("", "Hello, 123 naïve ﷺ a a", "a" * 2000 + "!"):
        tokenizer.decode(tokenizer.encode(text))
    tokenizer.encode_document("a")
    if tokenizer.template:
        Template(tokenizer, tokenizer.template).encode(
            [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
        )


def memory(key: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most since it was reset, VmSize of addresses."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def watch(path: Path, target: Path) -> dict[str, object]:
    """The outcome of one reading, in the process that is made for it."""
    Path("/proc/self/clear_refs").write_text("5")
    before, size = memory("VmRSS"), memory("VmSize") + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    opened: list[str] = []
    homes = {os.path.realpath(path), os.path.realpath(target), *OWN}

    def look(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            place = os.path.realpath(os.fsdecode(arguments[0]))
            if not place.startswith("/proc/") and not any(Path(place).is_relative_to(home) for home in homes):
                opened.append(place)

    sys.addaudithook(look)
    started, wall = time.process_time(), time.monotonic()
    try:
        read(path, target)
        outcome, said = "loaded", ""
    except CharterError as error:
        outcome, said = "refused", str(error)
    except BaseException as error:
        outcome, said = type(error).__name__, str(error)
    seconds, wall = time.process_time() - started, time.monotonic() - wall
    taken = memory("VmHWM") - before
    return {
        "outcome": outcome,
        "said": said[:2000],
        "length": len(said),
        "seconds": seconds,
        "wall": wall,
        "taken": taken,
        "opened": opened,
    }


def apart(path: Path, target: Path) -> dict[str, object]:
    """The outcome of one reading in a process of its own."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        os.write(theirs, json.dumps(watch(path, target)).encode())
        os._exit(0)
    os.close(theirs)
    answer = b""
    if select.select([ours], [], [], HUNG)[0]:
        while piece := os.read(ours, 2**16):
            answer += piece
    os.close(ours)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    ended = "hung" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else f"died {status}"
    return (
        json.loads(answer)
        if answer
        else {"outcome": ended, "said": "", "length": 0, "seconds": HUNG, "taken": 0, "opened": []}
    )


def main(lines: Iterable[str]) -> None:
    """A line is two paths: what is read, and an empty folder."""
    torch.set_num_threads(1)
    for line in lines:
        path, target = json.loads(line)
        print(json.dumps(apart(Path(path), Path(target))), flush=True)


if __name__ == "__main__":
    main(sys.stdin)
