"""The manifest of an artifact: what it is, what it was made from and how, and its digests.

An artifact is a folder with a `manifest.json`. Its id is a hash over all that determines its content: equal ids mean
equal work. Every figure in a card or a table is a view of manifests.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from charter.ground.artifact.kinds import Kind, Status

FORMAT = 1
MANIFEST = "manifest.json"
# The purpose of what is made only to be audited: see settings/purpose.py.
AUDIT_ELICITATION = "audit-elicitation"
_READ = 1 << 20


class Record(BaseModel):
    """A frozen part of a manifest; unknown keys are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Parent(Record):
    """An artifact from which this one was made; `path` is relative to the run directory, `seal` what it was then."""

    role: str
    step: str
    id: str
    path: str
    seal: str = ""


class External(Record):
    """A source outside of all runs; `path` is relative to the run directory, None if it is no user's file."""

    role: str
    ref: str
    digest: str
    path: str | None = None


class FileRecord(Record):
    """One file of the artifact; `path` is relative to its folder, with forward slashes."""

    path: str
    bytes: int
    sha256: str


class Metric(Record):
    """A measured number with its interval; equal names of different versions aren't comparable. `label`: its name in
    the head of a table. `better`: "lower", "higher", "zero" (nearer to it) or "neither". `meaning`: what it counts.
    `group`: its table in a card."""

    name: str
    version: int = 1
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str | None = None
    note: str | None = None
    label: str | None = None
    better: str | None = None
    meaning: str | None = None
    group: str | None = None


class Source(Record):
    """The code that made the artifact: git commit and dirty flag, if known, and the digest of room and ground."""

    commit: str | None = None
    dirty: bool | None = None
    digest: str = ""


class Environment(Record):
    """Where it was made; torch, threads, device, precision and the CPU's instructions must be equal for a resume.
    `threads`: of each process."""

    python: str = ""
    torch: str = ""
    threads: int = 1
    processes: int = 1
    device: str = "cpu"
    precision: str = "float32"
    platform: str = ""
    instructions: str = ""
    packages: dict[str, str] = Field(default_factory=dict)


class Timing(Record):
    """When the first attempt started (UTC, ISO 8601) and the seconds that the finishing attempts took."""

    started: str = ""
    seconds: float = 0.0


class Manifest(Record):
    """All facts of one artifact; written as `manifest.json`."""

    format: int = FORMAT
    kind: Kind
    variant: str | None = None
    purpose: str = ""
    id: str
    status: Status
    step: str
    room: str
    method: str = ""  # as the room declares it, and what it does against harm
    against_harm: str = ""
    recipe: str
    command: str = ""  # the recipe's path and what was set on the command line
    asked: dict[str, object] = Field(default_factory=dict)
    resolved: dict[str, object] = Field(default_factory=dict)
    # ids and digests by role, in the recipe's order
    inputs: dict[str, list[str]] = Field(default_factory=dict)
    parents: list[Parent] = Field(default_factory=list)
    external: list[External] = Field(default_factory=list)
    files: list[FileRecord] = Field(default_factory=list)
    # paths of files with harmful text: only their owner reads them, and exports leave them out
    restricted: list[str] = Field(default_factory=list)
    source: Source = Field(default_factory=Source)
    environment: Environment = Field(default_factory=Environment)
    seed: int = 0
    metrics: list[Metric] = Field(default_factory=list)
    timing: Timing = Field(default_factory=Timing)
    error: str | None = None

    def metric(self, name: str) -> Metric | None:
        """The metric of that name, or None."""
        return next((m for m in self.metrics if m.name == name), None)

    @property
    def derived_id(self) -> str:
        """The id that follows from the manifest's other fields."""
        made_in = self.environment
        return artifact_id(
            self.room, self.resolved, self.inputs, self.seed, made_in.device, made_in.precision, self.source.digest
        )


def artifact_id(
    room: str,
    settings: Mapping[str, object],
    inputs: Mapping[str, Sequence[str]],
    seed: int,
    device: str,
    precision: str,
    source: str,
) -> str:
    """The id: sha256 over all that determines the product of a step.

    Inputs count by role, in the recipe's order, with the ids of artifacts and the digests of sources. The places of
    artifacts and the names of steps don't count; the seed depends on the step's name.
    """
    facts = {
        "format": FORMAT,
        "room": room,
        "settings": settings,
        "inputs": inputs,
        "seed": seed,
        "device": device,
        "precision": precision,
        "source": source,
    }
    return digest_text(canonical_json(facts))


def canonical_json(value: object) -> str:
    """The canonical text of a JSON value: sorted keys, no spaces, UTF-8. Raises ValueError for NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_text(text: str) -> str:
    """sha256 of the UTF-8 text, as 64 hex digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ):
            digest.update(block)
    return digest.hexdigest()


def digest_tree(folder: Path, leave_out: frozenset[str] = frozenset()) -> str:
    """sha256 over names and contents of all files below a folder.

    Compiled Python and the names in `leave_out` don't count; the order on disk doesn't matter.
    """
    files = {
        path.relative_to(folder).as_posix(): digest_file(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name not in leave_out and "__pycache__" not in path.parts
    }
    return digest_text(canonical_json(files))
