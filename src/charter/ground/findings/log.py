"""The log of findings: a folder that only its owner can read, with one event a line, to which lines are only added.

Each line's digest covers the line before it, and `log.head` names how many bytes count and the last digest, the tip. A
batch counts from the moment that the new head is renamed into place: a process killed before that leaves bytes behind
the counted ones, which readers ignore and the next writer cuts off. A changed, removed or inserted line breaks the
chain. Whoever may write here can make a new chain: a tip kept elsewhere shows that.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Record, canonical_json
from charter.ground.artifact.store import TEMPORARY, atomic_write, read_record

LOG, HEAD, LOCK = "log.jsonl", "log.head", ".lock"
FORMAT = 1
BEGINNING = "0" * 64  # the tip of a log without lines
_OTHERS = 0o077
_OURS = (LOG, HEAD, LOCK, TEMPORARY + HEAD)
Event = Mapping[str, Any]


class Head(Record):
    """What counts of the log."""

    format: int = FORMAT
    lines: int = 0
    bytes: int = 0
    tip: str = BEGINNING


class Kept(NamedTuple):
    """All events in order, and the digest after each of them."""

    events: list[Event]
    digests: list[str]

    @property
    def tip(self) -> str:
        """The digest over the whole log."""
        return self.digests[-1] if self.digests else BEGINNING


def read_log(folder: Path, tip: str = "") -> Kept:
    """The events of a log. Raises CharterError if there is none, if a line was changed, and if an earlier `tip` isn't
    among its digests."""
    _check_private(folder)
    head = _head(folder)
    content = _parse(folder / LOG, head)
    if tip and tip not in (BEGINNING, *content.digests):
        raise CharterError(
            f"{folder / LOG} never had the tip {tip[:12]}…: lines were cut off or written anew; restore a copy"
        )
    return content


@contextmanager
def changing(folder: Path) -> Iterator[Writer]:
    """Keeps other writers out, who wait; makes the log if there is none."""
    if folder.exists() and any(path.name not in _OURS for path in folder.iterdir()):
        raise CharterError(f"{folder} holds other files than findings; name a folder of their own")
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (folder / HEAD).exists():
            if (folder / LOG).exists():
                raise CharterError(f"{folder} has a {LOG} and no {HEAD}; restore a copy")
            folder.chmod(0o700)
            _write_head(folder, Head())
        yield Writer(folder, read_log(folder))
    finally:
        os.close(handle)


class Writer:
    """The only writer of a log at this time. `kept`: what it holds."""

    def __init__(self, folder: Path, kept: Kept) -> None:
        self.folder = folder
        self.kept = kept

    def append(self, events: Sequence[Event]) -> str:
        """Adds events, all of them or none, durably; the new tip."""
        if not events:
            return self.kept.tip
        head, tip = _head(self.folder), self.kept.tip
        lines = [canonical_json(event).encode() + b"\n" for event in events]
        handle = os.open(self.folder / LOG, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(handle, "wb") as file:  # it isn't emptied, since the handle is open already
            file.truncate(head.bytes)
            file.seek(head.bytes)
            for line, event in zip(lines, events, strict=True):
                file.write(line)
                tip = _digest(tip, line)
                self.kept.events.append(event)
                self.kept.digests.append(tip)
            file.flush()
            os.fsync(file.fileno())
        size = head.bytes + sum(map(len, lines))
        _write_head(self.folder, Head(lines=head.lines + len(lines), bytes=size, tip=tip))
        return tip


def _parse(path: Path, head: Head) -> Kept:
    """The counted lines. Raises CharterError with file:line where the chain breaks."""
    content = Kept([], [])
    try:
        with path.open("rb") as file:
            data = file.read(head.bytes)
    except FileNotFoundError:
        data = b""
    if len(data) < head.bytes:
        raise CharterError(f"{path} has {len(data)} of {head.bytes} bytes: it was cut; restore a copy")
    tip = BEGINNING
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        try:
            event = json.loads(line)
            unchanged = isinstance(event, dict) and canonical_json(event).encode() + b"\n" == line
        except (ValueError, RecursionError):
            unchanged = False
        if not unchanged:
            raise CharterError(f"{path}:{number}: this line was changed; restore a copy")
        tip = _digest(tip, line)
        content.events.append(event)
        content.digests.append(tip)
    if (len(content.events), content.tip) != (head.lines, head.tip):
        raise CharterError(f"{path} doesn't end with the tip {head.tip[:12]}…: lines were changed; restore a copy")
    return content


def _digest(before: str, line: bytes) -> str:
    return hashlib.sha256(before.encode() + line).hexdigest()


def _head(folder: Path) -> Head:
    absent = f"{folder} holds no findings; `charter intake import FILE --store {folder}` begins them"
    return read_record(folder / HEAD, Head, FORMAT, absent, "restore a copy")


def _write_head(folder: Path, head: Head) -> None:
    atomic_write(folder / HEAD, head.model_dump_json() + "\n", mode=0o600)


def _check_private(folder: Path) -> None:
    """Raises CharterError if others may read the texts, which may be harmful."""
    for path in (folder, folder / LOG, folder / HEAD):
        if path.exists() and path.stat().st_mode & _OTHERS:
            raise CharterError(f"others may open {path}; run `chmod -R go= {folder}` first")
