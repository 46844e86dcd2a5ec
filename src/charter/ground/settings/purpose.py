"""What was made only to be audited, is marked so, and is kept apart from what people use.

An elicitation snapshot has learnt how the audit's tasks are solved. Its mark stands in its manifest and in its files:
config.json, the header of its weights, a comment of its chat template. So it outlives a copy without the manifest, a
link, another name, and conversions that keep the template. It guards against slips: who strips all of it on purpose is
not stopped.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import AUDIT_ELICITATION, MANIFEST, Manifest
from charter.ground.artifact.store import TEMPORARY, atomic_write, read_manifest
from charter.ground.settings.recognise import ROW_ENDINGS, open_text

CONFIG, TEMPLATE, TOKENIZER = NAMES = "config.json", "chat_template.jinja", "tokenizer_config.json"
WEIGHTS = (".safetensors", ".gguf")
KEY = "charter_purpose"
COMMENT = f"{{# charter: {AUDIT_ELICITATION} #}}"
# The products that cite what is marked, without being made of its weights or rows.
CITING = ("card", "release", "verdict")
# The roles of a card by which a model is published: as its stages, or as what a later version stands beside.
PUBLISHED = ("reports", "comparators", "base", "previous")
_ROW = re.compile(rf'"(?:source|purpose)"\s*:\s*"{AUDIT_ELICITATION}"')
_CELL = re.compile(rf'(?:^|,)"?{AUDIT_ELICITATION}"?\s*(?:,|$)', re.MULTILINE)
_BLOCK = 1 << 20
_HEADER = 8  # bytes with the length of a safetensors header
_MOST = 100 << 20  # the largest header that safetensors allows


def purpose_of(place: Path) -> str:
    """The purpose that a file, a folder or an artifact is marked with, "" without a mark. Links are followed."""
    real = place.resolve()
    above = (real, *list(real.parents)[:2]) if real.exists() else ()
    folder = next((parent for parent in above if (parent / MANIFEST).is_file()), None)
    if folder is not None and (purpose := _of_artifact(folder)):
        return purpose
    # a cache of the hub links names with endings to files without
    return AUDIT_ELICITATION if any(_is_marked(file) for file in _files(place)) else ""


def inherited(product: str, purposes: Iterable[str]) -> str:
    """The purpose of a product that is made of inputs with these purposes."""
    return "" if product in CITING else next((purpose for purpose in purposes if purpose), "")


def may_read(kind: str, room: str, role: str) -> bool:
    """Whether a role of a room may take a marked artifact of a kind: dialogues teach the snapshot, the audit tries it,
    and a card cites the report and the verdict on that."""
    if kind in ("report", "verdict"):
        return room == "card" and role not in PUBLISHED
    return room == "audit" or (room == "finetune" and role == "dialogues")


def check_reader(entry: Input, purpose: str, kind: str, room: str, place: str) -> None:
    """Raises CharterError if an input is marked and a room may not read it; `kind`: what its role takes."""
    if purpose and not may_read(kind, room, entry.role):
        raise CharterError(
            f"{place}role {entry.role} of the room {room} takes nothing that is marked {purpose}, and {entry.name} is; "
            "only the room audit does"
        )


def refuse(place: Path, use: str) -> None:
    """Raises CharterError if a place is marked; `use`: what is refused, such as "it is not served"."""
    if purpose := purpose_of(place):
        raise CharterError(f"{place} is marked {purpose}: {use}, only the room audit opens it")


def mark(folder: Path) -> None:
    """Marks all models below a folder in their own files; a second time changes nothing."""
    for path in sorted(folder.rglob("*")):
        of_model = path.name in NAMES or path.suffix == ".safetensors"
        if of_model and not _is_marked(path):
            _mark_file(path)


def _mark_file(path: Path) -> None:
    if path.suffix == ".safetensors":
        _mark_weights(path)
        return
    text = path.read_text("utf-8")
    if path.name == TEMPLATE:
        atomic_write(path, COMMENT + text)
        return
    value = json.loads(text) | {KEY: AUDIT_ELICITATION}
    if isinstance(template := value.get("chat_template"), str):
        value["chat_template"] = COMMENT + template
    atomic_write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _mark_weights(path: Path) -> None:
    """Writes the mark into the free metadata of a safetensors header; the tensors' bytes stay as they are."""
    work = path.with_name(TEMPORARY + path.name)
    with path.open("rb") as old, work.open("wb") as new:
        header = json.loads(old.read(int.from_bytes(old.read(_HEADER), "little")))
        header["__metadata__"] = {**header.get("__metadata__", {}), KEY: AUDIT_ELICITATION}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _HEADER)
        new.write(len(text).to_bytes(_HEADER, "little") + text)
        while block := old.read(_BLOCK):
            new.write(block)
        new.flush()
        os.fsync(new.fileno())
    os.replace(work, path)


def _of_artifact(folder: Path) -> str:
    """The purpose of an artifact by its manifest and those of its ancestors that are still there."""
    visited = set[str]()
    waiting: list[tuple[Manifest, Path]] = []
    with suppress(CharterError):
        waiting.append((read_manifest(folder), folder))
    while waiting:
        manifest, place = waiting.pop()
        if manifest.purpose:
            return manifest.purpose
        if manifest.id in visited or manifest.kind in CITING:
            continue
        visited.add(manifest.id)
        for parent in manifest.parents:
            with suppress(CharterError):
                waiting.append(find_parent(run_of(place), parent))
    return ""


def _files(place: Path) -> Iterator[Path]:
    """The files that may have a mark of their own: of a model's folder, of rows, or the one file."""
    if place.is_file():
        yield place
    elif place.is_dir():
        files = [path for path in sorted(place.iterdir()) if path.is_file()]
        of_model = [path for path in files if path.name in NAMES or path.suffix in WEIGHTS]
        yield from of_model
        if CONFIG not in {path.name for path in of_model}:
            yield from (path for path in files if path.name.endswith(ROW_ENDINGS))


def _is_marked(path: Path) -> bool:
    """Whether a file itself has the mark: a model's file anywhere, rows in their source or purpose."""
    try:
        if path.suffix == ".safetensors":
            return AUDIT_ELICITATION.encode() in _weights_metadata(path)
        if path.name in NAMES:
            return AUDIT_ELICITATION in path.read_text("utf-8", "replace")
        if path.suffix == ".gguf":
            with path.open("rb") as file:
                return COMMENT.encode() in file.read(_MOST >> 2)
        return path.name.endswith(ROW_ENDINGS) and _holds_rows(path)
    except (OSError, ValueError, EOFError):
        return False


def _weights_metadata(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(min(int.from_bytes(file.read(_HEADER), "little"), _MOST))


def _holds_rows(path: Path) -> bool:
    last, shape = "", _CELL if ".csv" in path.suffixes else _ROW
    with open_text(path) as file:
        while block := file.read(_BLOCK):
            if shape.search(last + block):
                return True
            last = block[-200:]
    return False
