"""Reading and writing artifacts so that none is ever half visible: temporary sibling, fsync, rename last."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import FORMAT, MANIFEST, FileRecord, Manifest, Record, digest_file

R = TypeVar("R", bound=Record)

TEMPORARY = ".tmp-"


def fsync_folder(folder: Path) -> None:
    """Makes the names in a folder durable (a rename isn't, until its folder is synced)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def atomic_write(path: Path, content: bytes | str, mark: str = "", mode: int = 0o666) -> None:
    """Writes a whole file or nothing: a reader sees the old content or the new, never a part. Processes that may write
    the same file at once need different marks. `mode`: of the file, less the process's umask."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(TEMPORARY + mark + path.name)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    fsync_folder(path.parent)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes folder/manifest.json atomically."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write(folder / MANIFEST, text + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Reads folder/manifest.json. Raises CharterError if it is missing, broken or of another format."""
    absent = f"{folder} is not an artifact: it has no {MANIFEST}"
    return read_record(folder / MANIFEST, Manifest, FORMAT, absent, "make the step again with charter run")


def read_record(path: Path, record: type[R], expected: int, absent: str, again: str) -> R:
    """A record from a JSON file of the expected `format`. Raises CharterError: `absent` if it is missing; the fault and
    `again`, what to do, if it is broken; or its other format."""
    try:
        raw = json.loads(path.read_text("utf-8"), object_pairs_hook=_once)
    except FileNotFoundError:
        raise CharterError(absent) from None
    except (OSError, ValueError) as error:
        raise CharterError(f"{path} cannot be read: {error}; {again}") from None
    version = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
    if version != expected:
        raise CharterError(f"{path} has format {version!r}; this version of charter reads format {expected}")
    try:
        return record.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CharterError(f"{path} is not a {record.__name__.lower()}: {place}: {first['msg']}; {again}") from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys stand once each: of two, one reader takes the first and another the last."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is written twice")
    return value


def record_files(folder: Path) -> list[FileRecord]:
    """Digests of all files of an artifact except its manifest, sorted by name; syncs each file."""
    records = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        relative = path.relative_to(folder).as_posix()
        if relative == MANIFEST:
            continue
        with path.open("rb") as file:
            os.fsync(file.fileno())
        records.append(FileRecord(path=relative, bytes=path.stat().st_size, sha256=digest_file(path)))
    return records


def file_problems(folder: Path, manifest: Manifest) -> list[str]:
    """One line for each file of a manifest that is missing or was changed."""
    problems = []
    for record in manifest.files:
        path = folder / record.path
        places = [Path(record.path), *list(Path(record.path).parents)[:-1]]
        if any((folder / place).is_symlink() for place in places):
            problems.append(f"{record.path} is a link, and what it leads to may change: put the file itself there")
        elif not path.is_file():
            problems.append(f"{record.path} is missing")
        elif path.stat().st_size != record.bytes:
            problems.append(f"{record.path} has {path.stat().st_size} bytes instead of {record.bytes}")
        elif digest_file(path) != record.sha256:
            problems.append(f"{record.path} was changed (sha256 differs)")
    return problems


def verify_files(folder: Path, manifest: Manifest) -> list[str]:
    """Compares the files of a folder with its manifest; one line for each problem, also for a file that the manifest
    lacks."""
    problems = file_problems(folder, manifest)
    if (folder / MANIFEST).is_symlink():
        problems.append(f"{MANIFEST} is a link: put the file itself there")
    recorded = {record.path for record in manifest.files} | {MANIFEST}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        relative = path.relative_to(folder).as_posix()
        if relative not in recorded:
            problems.append(f"{relative} is not in the manifest")
    return problems


def publish(work: Path, target: Path) -> None:
    """Renames a finished folder, whose manifest says done, into place; the target must not exist.

    All of `work` is made durable first: after the rename a power cut loses nothing.
    """
    for folder in sorted(p for p in work.rglob("*") if p.is_dir()):
        fsync_folder(folder)
    fsync_folder(work)
    os.rename(work, target)
    fsync_folder(target.parent)


def remove_folder(folder: Path) -> None:
    """Removes a folder, its manifest first: then a half removed folder is never resumed."""
    for manifest in (folder / MANIFEST, folder / "files" / MANIFEST):
        manifest.unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def publish_made(target: Path, manifest: Manifest, texts: Mapping[str, str]) -> Manifest:
    """Writes an artifact that no step made, whole or not at all: its texts by file name, and the manifest with their
    digests and the id that follows. The folder around `target` must exist."""
    work = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{manifest.kind}-", dir=target.parent.resolve()))
    try:
        for name, text in texts.items():
            atomic_write(work / name, text)
        manifest = manifest.model_copy(update={"files": record_files(work)})
        manifest = manifest.model_copy(update={"id": manifest.derived_id})
        write_manifest(work, manifest)
        work.chmod(0o755)
        publish(work, target)
    except BaseException:
        remove_folder(work)
        raise
    return manifest


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; 0 if it doesn't exist."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
