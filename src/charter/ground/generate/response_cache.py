"""Earlier answers of models, in one sqlite file of a run: after a kill or with other settings, a run computes only the
new ones.

A key is the hash of all that an answer depends on: the model's id, the prompt, how it is sampled, its seed. What
changes the rounding (sources of the ground, torch, threads, device, precision) is part of the file's name, which the
runner chooses. A damaged, locked or full file costs a note, never a wrong answer and never the run.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.artifact.workspace import Workspace

MOST_BYTES = 2 * 2**30
WAIT_SECONDS = 5.0
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer BLOB NOT NULL) WITHOUT ROWID"


class Memory:
    """Answers by key. Each call of `keep` is one transaction: whole or absent, also after kill -9."""

    def __init__(self, path: Path, note: Callable[[str], None]) -> None:
        self.path, self._note = path, note
        self._file: sqlite3.Connection | None = None
        self._usable = True

    @classmethod
    def of(cls, out: Workspace) -> Memory | None:
        """The memory of a step's run, None without one."""
        return None if out.cache is None else cls(out.cache, out.note)

    def recall(self, keys: Sequence[str]) -> list[Any]:
        """The answer of each key, None without one."""
        file = self._open()
        if file is None:
            return [None] * len(keys)
        try:
            return [_read(file, key) for key in keys]
        except (sqlite3.Error, zlib.error, ValueError) as error:
            self._give_up(error)
            return [None] * len(keys)

    def keep(self, answers: Sequence[tuple[str, Any]]) -> None:
        """Adds answers, unless the file has reached its limit."""
        file = self._open()
        if file is None:
            return
        try:
            if self.path.stat().st_size < MOST_BYTES:
                rows = [(key, zlib.compress(json.dumps([key, answer]).encode(), 1)) for key, answer in answers]
                with file:
                    file.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _open(self) -> sqlite3.Connection | None:
        if self._file is None and self._usable:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = sqlite3.connect(self.path, timeout=WAIT_SECONDS)
                self._file.execute("PRAGMA journal_mode=WAL")
                self._file.execute("PRAGMA synchronous=NORMAL")
                self._file.execute(_TABLE)
            except (sqlite3.Error, OSError) as error:
                self._give_up(error)
        return self._file

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        if self._file is not None:
            self._file.close()
            self._file = None
        self._note(f"{self.path}: {error}; going on without remembered answers (the file may be removed)")


def key_of(*facts: object) -> str:
    """The hash of all that an answer depends on."""
    return digest_text(canonical_json(facts))


def _read(file: sqlite3.Connection, key: str) -> Any:
    """The answer of a key. Its own key stands beside it, so that a mix-up of damaged pages is noticed; zlib checks the
    bytes."""
    row = file.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    entry = json.loads(zlib.decompress(row[0]))
    if not isinstance(entry, list) or len(entry) != 2 or entry[0] != key:
        raise ValueError("an answer stands under another key")
    return entry[1]
