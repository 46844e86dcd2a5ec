"""Small worlds of text for the corpus room: files, a run of the room in this process, and its output."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.progress import SilentProgress
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.sources import resolve
from charter.ground.text.shards import TokenShards
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.corpus.run import run
from charter.rooms.corpus.settings import Settings


def _words(line: str) -> list[str]:
    return line.split()


WORDS = _words(
    "the of and to in that it was for on with as be at by had not are but from have an they which one you were all "
    "river stone garden window letter morning silver mountain winter harbour lantern copper village engine paper "
    "walked carried found opened closed painted answered waited listened returned gathered repaired measured sailed"
)
GERMAN = _words(
    "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat "
    "Fluss Stein Garten Fenster Brief Morgen Silber Berg Winter Hafen Laterne Kupfer Dorf Motor Papier Straße"
)
SMALL = {"vocabulary": {"size": 400, "sample_mib": 1, "spare": 2}, "workers": 1, "heldout_share": 0.2}


def text(seed: int, words: int = 120, vocabulary: list[str] = WORDS) -> str:
    """Some sentences, the same for a seed."""
    rng = random.Random(seed)
    drawn_words = [rng.choice(vocabulary) for _ in range(words)]
    return " ".join(f"{word}." if n % 11 == 10 else word for n, word in enumerate(drawn_words))


def rows_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as .jsonl, or .jsonl.gz."""
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def inputs_from(*references: Path | str, benchmarks: tuple[Path, ...] = ()) -> Inputs:
    """Inputs of a step whose recipe names these references."""
    pairs = [("sources", str(ref)) for ref in references] + [("benchmarks", str(ref)) for ref in benchmarks]
    entries = []
    for role, ref in pairs:
        source = resolve(ref)
        entries.append(Input(role, ref, source.kind, None, source.path, source.ref, source.digest))
    return Inputs(entries)


def settings(**changes: Any) -> Settings:
    """Small settings, without the quality rules, which toy texts fail."""
    filters = {"quality": None, **changes.pop("filters", {})}
    return Settings.model_validate({**SMALL, "filters": filters, **changes})


class Heard(SilentProgress):
    """Stores the room's lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def make(folder: Path, inputs: Inputs, seed: int = 7, heard: Heard | None = None, **changes: Any) -> Workspace:
    """Runs the room in this process; `heard` gets its lines."""
    out = Workspace(folder, seed=seed, progress=heard)
    run(settings(**changes), inputs, out)
    return out


def counts(out: Workspace) -> dict[str, float]:
    counts: dict[str, float] = json.loads((out.path / "counts.json").read_text())
    return counts


def composition(out: Workspace) -> dict[str, Any]:
    composition: dict[str, Any] = json.loads((out.path / "composition.json").read_text())
    return composition


def read_refused(out: Workspace) -> list[dict[str, Any]]:
    """The rows of samples/refused.jsonl."""
    return [json.loads(line) for line in (out.path / "samples/refused.jsonl").read_text().splitlines()]


def documents(out: Workspace, split: str) -> list[str]:
    """The texts of a split, decoded from its shards."""
    shards = TokenShards.open(out.path, split, verify=True)  # type: ignore[arg-type]
    tokenizer = Tokenizer.from_folder(out.path)
    return [tokenizer.decode(shards.read(number).tolist()) for number in range(shards.documents)]


def files(out: Workspace) -> dict[str, bytes]:
    """All files of the artifact."""
    return {p.relative_to(out.path).as_posix(): p.read_bytes() for p in sorted(out.path.rglob("*")) if p.is_file()}
