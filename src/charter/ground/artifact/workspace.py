"""How a room writes: final files, resume state, metrics, curves, progress, and resumable chunks."""

import gzip
import json
import math
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST, Metric
from charter.ground.artifact.progress import Bar, Progress, SilentProgress
from charter.ground.artifact.sharing import Alone, Sharing
from charter.ground.artifact.store import TEMPORARY, atomic_write

T = TypeVar("T")
R = TypeVar("R")

LOG = "log.jsonl"
METRICS = "metrics.json"
PEOPLE = ".people"
SCRATCH = "scratch-"


class MetricFacts(TypedDict, total=False):
    """The facts of a metric besides its name and value: interval, count, version, unit, note, and its description for
    readers."""

    low: float | None
    high: float | None
    n: int | None
    version: int
    unit: str | None
    note: str | None
    label: str | None
    better: str | None
    meaning: str | None
    group: str | None


class Workspace:
    """The folder of one step while it is made.

    `path` is the folder of the artifact's files. `state` is the folder for a resume, removed when the step is done.
    `cache`, if any, is the file of the run's remembered answers. `people` is a folder outside of the run for questions
    to people: neither the step's end nor a sweep removes it. A process may be killed at any instant: a file written
    through this class is whole or absent.

    If several processes share the work (`sharing.py`), they have one `state` folder. Processes that don't lead report
    nothing; their `path`, metrics and log are in a scratch folder that is removed when the process ends.
    """

    def __init__(
        self,
        folder: Path,
        *,
        step: str = "step",
        seed: int = 0,
        device: str = "cpu",
        precision: str = "float32",
        progress: Progress | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self.sharing: Sharing = Alone() if sharing is None else sharing
        self.state = folder / "state"
        self.state.mkdir(parents=True, exist_ok=True)
        self.state.chmod(0o700)  # its chunks may hold harmful text
        self.folder = folder if self.sharing.leads else self._scratch(folder)
        self.path = self.folder / "files"
        self.step = step
        self.seed = seed
        self.device = device
        self.precision = precision
        self.cache: Path | None = None
        self.people = folder.with_name(folder.name + PEOPLE)
        self.variant: str | None = None
        self.restricted: set[str] = set()
        self._progress = progress if progress is not None and self.sharing.leads else SilentProgress()
        self._mark = f"{secrets.token_hex(4)}-"  # two writers of one chunk have different temporary files
        self.path.mkdir(parents=True, exist_ok=True)
        if self.sharing.leads:
            # another process may be writing in a shared `state`; leftovers there go with the folder
            for area in (self.path, self.state) if isinstance(self.sharing, Alone) else (self.path,):
                for stray in area.rglob(TEMPORARY + "*"):
                    stray.unlink()
        self._metrics = self._stored_metrics()
        drop_torn_line(self.path / LOG)

    @property
    def metrics(self) -> list[Metric]:
        """The metrics so far, in the order of their first values."""
        return list(self._metrics.values())

    def metric(self, name: str, value: float | None, **facts: Unpack[MetricFacts]) -> None:
        """Records a metric of this artifact; the last value of a name counts, also after a resume."""
        number, note = _finite(value), facts.get("note")
        if value is not None and number is None:
            note = f"not finite ({value})" + (f"; {note}" if note else "")
        self._metrics[name] = Metric(
            name=name,
            version=facts.get("version", 1),
            value=number,
            low=_finite(facts.get("low")),
            high=_finite(facts.get("high")),
            n=facts.get("n"),
            unit=facts.get("unit"),
            note=note,
            label=facts.get("label"),
            better=facts.get("better"),
            meaning=facts.get("meaning"),
            group=facts.get("group"),
        )
        rows = [metric.model_dump() for metric in self._metrics.values()]
        atomic_write(self.folder / METRICS, json.dumps(rows))

    def counts(
        self, counts: Mapping[str, float], units: Mapping[str, str] | None = None, n: Mapping[str, int] | None = None
    ) -> None:
        """Writes path/counts.json and records each count as a metric. `units` and `n`: of the counts that have one."""
        self.write_json("counts.json", dict(counts))
        for name, value in counts.items():
            self.metric(name, value, unit=(units or {}).get(name), n=(n or {}).get(name))

    def log(self, **values: object) -> None:
        """Appends one line to path/log.jsonl: the points of a training curve."""
        self.append_jsonl(LOG, [values])

    def log_truncate(self, step: int) -> None:
        """Drops the lines with "step" >= step: a resume at `step` writes them again."""
        self.truncate_jsonl(LOG, "step", step)

    def append_jsonl(self, name: str, rows: Iterable[Mapping[str, object]]) -> None:
        """Appends JSON objects to a file of `path`, one a line. After a kill some may be there, the last one torn; a
        resume drops them by `truncate_jsonl`."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())  # a saved state must never be ahead of the rows

    def truncate_jsonl(self, name: str, key: str, end: int) -> None:
        """Drops a torn last line of a file of `path`, and the rows whose `key` is `end` or more; a row without `key`
        stays."""
        target = self.path / name
        if not target.exists():
            return
        drop_torn_line(target)
        lines = target.read_text("utf-8").splitlines(keepends=True)
        remaining = [line for line in lines if json.loads(line).get(key, -1) < end]
        if len(remaining) < len(lines):
            atomic_write(target, "".join(remaining))

    def progress(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
        """A bar of `total` units, `done` of them made before a resume; advance it inside a with block."""
        return self._progress.bar(description, total, done)

    def note(self, text: str) -> None:
        """Shows one line to the reader."""
        self._progress.note(text)

    def chunks(
        self,
        key: str,
        items: Sequence[T],
        size: int,
        produce: Callable[[Sequence[T], int], list[R]],
        description: str = "",
    ) -> list[R]:
        """Produces rows for all items in fixed chunks, saves each chunk whole, and skips chunks that this or another
        process has saved.

        `produce(chunk, number)` gets the items of one chunk and the chunk's number (0, 1, ...). It may depend on
        nothing else except settings and seed; derive its seeds from the number or the items. Returns the rows of all
        chunks in order, as read back from JSON (tuples become lists): then a resumed run has exactly the same
        values.
        """
        if size < 1:
            raise CharterError(f"chunks of {key} need a size of at least 1, not {size}")
        parts = [items[start : start + size] for start in range(0, len(items), size)]
        rows: dict[int, list[R]] = {}
        for number, part in enumerate(parts):
            saved: list[R] | None = self._saved_chunk(key, number, len(part))
            if saved is not None:
                rows[number] = saved
        done = sum(len(parts[number]) for number in rows)
        with self.progress(description or key, len(items), done) as bar:
            while missing := [number for number in range(len(parts)) if number not in rows]:
                for number in missing:
                    chunk_rows = self._chunk(key, number, parts[number], produce)
                    if chunk_rows is not None:
                        rows[number] = chunk_rows
                        bar.advance(len(parts[number]))
                if not rows.keys() & set(missing):
                    self.sharing.wait()
        return [row for number in range(len(parts)) for row in rows[number]]

    def write_jsonl(self, name: str, rows: Iterable[Mapping[str, object]], restricted: bool = False) -> Path:
        """Writes one JSON object a line, whole or not at all; a name that ends in .gz is compressed. `restricted`: they
        hold harmful text, so only the owner may read the file, and exports leave it out."""
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
        # mtime=0: equal rows give equal bytes, whenever they are written
        return self._write(name, gzip.compress(data, mtime=0) if name.endswith(".gz") else data, restricted)

    def write_json(self, name: str, value: object, restricted: bool = False) -> Path:
        """Writes one JSON value, indented, whole or not at all; `restricted` as for rows."""
        data = (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
        return self._write(name, data, restricted)

    def write_text(self, name: str, text: str, restricted: bool = False) -> Path:
        """Writes a text file, whole or not at all; `restricted` as for rows."""
        return self._write(name, text.encode("utf-8"), restricted)

    def _write(self, name: str, data: bytes, restricted: bool = False) -> Path:
        if name == MANIFEST:
            raise CharterError(f"step {self.step}: {MANIFEST} is written by the runner; choose another name")
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target, data, mode=0o600 if restricted else 0o666)
        (self.restricted.add if restricted else self.restricted.discard)(name)
        return target

    def _chunk(
        self, key: str, number: int, part: Sequence[T], produce: Callable[[Sequence[T], int], list[R]]
    ) -> list[R] | None:
        """The rows of one chunk, from another process or produced here; None while it belongs to another."""
        rows: list[R] | None = self._saved_chunk(key, number, len(part))
        if rows is not None or not self.sharing.claim(key, number):
            return rows
        # an earlier process may have saved it and then been lost
        rows = self._saved_chunk(key, number, len(part))
        if rows is None:
            text = json.dumps({"items": len(part), "rows": produce(part, number)})
            # what a step asked may be harmful, and whether it is, is said only of its product
            atomic_write(self._chunk_path(key, number), text, self._mark, mode=0o600)
            rows = json.loads(text)["rows"]
        return rows

    def _chunk_path(self, key: str, number: int) -> Path:
        return self.state / f"{key}-{number:05d}.json"

    def _saved_chunk(self, key: str, number: int, count: int) -> list[R] | None:
        try:
            stored = json.loads(self._chunk_path(key, number).read_text("utf-8"))
            return stored["rows"] if stored["items"] == count else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _scratch(self, folder: Path) -> Path:
        """A folder that is removed when this process ends; after a kill, the end of the step removes it."""
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
        weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        return scratch

    def _stored_metrics(self) -> dict[str, Metric]:
        try:
            rows = json.loads((self.folder / METRICS).read_text("utf-8"))
        except FileNotFoundError:
            return {}
        return {row["name"]: Metric.model_validate(row) for row in rows}


def drop_torn_line(path: Path) -> None:
    """Drops half a line at the end of a file, which a killed process or a full disk may leave."""
    if path.exists() and (data := path.read_bytes()) and not data.endswith(b"\n"):
        atomic_write(path, data[: data.rfind(b"\n") + 1])


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
