"""Names on the Hugging Face hub, pinned to one revision so that an id names the content, and downloads of data sets.

hf:OWNER/NAME[@REVISION]            a model, or the files at the top of a data set
hf:OWNER/NAME[@REVISION]#SUBPATH    a file or a folder of files in a data set
"""

import glob
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import huggingface_hub
from huggingface_hub import constants

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.settings.recognise import ROW_ENDINGS, kind_of_file
from charter.ground.settings.room import Role

HubKind = Literal["model", "dataset"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[\w.-]+(/[\w.-]+)?")
_READ = ".jsonl, .json, .csv, .txt and .parquet files are read, the first four also as .gz and .zst"


@dataclass(frozen=True)
class _Name:
    """The parts of a hub reference; revision and subpath are "" if absent."""

    repo: str
    revision: str
    subpath: str


def _parse(ref: str) -> _Name:
    repository, hash_mark, subpath = ref.removeprefix("hf:").partition("#")
    repo, _, revision = repository.partition("@")
    parts = PurePosixPath(subpath).parts
    if not _REPO.fullmatch(repo) or bool(hash_mark) != bool(parts):
        raise CharterError(f"{ref}: write hf:owner/name or hf:owner/name@revision, and #folder/file for data")
    if ".." in parts or subpath.startswith("/"):
        raise CharterError(f"{ref}: the text after # must be a path inside the data set")
    return _Name(repo, revision, "/".join(parts))


def pin(ref: str, kind: HubKind | None = None) -> str:
    """'hf:repo' or 'hf:repo@branch' as 'hf:repo@<commit>', with its subpath if it has one.

    A full commit stays unchanged; otherwise an earlier download decides, then the hub.
    Without `kind` a name may be a model's or a data set's; a subpath is always in a data set.
    Raises CharterError if neither knows the name.
    """
    name = _parse(ref)
    if name.subpath and kind == "model":
        raise CharterError(f"{ref}: # names a file in a data set; name a model without it")
    kinds: tuple[HubKind, ...] = (kind,) if kind else ("dataset",) if name.subpath else ("model", "dataset")
    commit = name.revision
    if not _COMMIT.fullmatch(commit):
        revision = name.revision or "main"
        commit = _find_downloaded(name.repo, revision, kinds) or _ask_hub(name.repo, revision, kinds)
    return f"hf:{name.repo}@{commit}" + (f"#{name.subpath}" if name.subpath else "")


def fetch(ref: str) -> Path:
    """The local file or folder of a pinned data set reference, downloaded if it is missing.

    From a folder it fetches the files of rows directly in it, not those in subfolders. Raises CharterError
    if the hub cannot be reached or refuses, or if the subpath holds no rows.
    """
    name = _parse(ref)
    at = glob.escape(name.subpath)
    below = f"{at}/" if at else ""
    is_file = name.subpath.endswith(ROW_ENDINGS)
    try:
        snapshot = huggingface_hub.snapshot_download(
            name.repo,
            repo_type="dataset",
            revision=name.revision,
            allow_patterns=[at] if is_file else [f"{below}*{ending}" for ending in ROW_ENDINGS],
            ignore_patterns=None if is_file else [f"{below}*/*"],
        )
    except Exception as error:  # the hub's client raises many kinds, of several libraries
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # this disk's fault, such as a full one
        raise CharterError(f"{ref} {_reason(error)}") from None
    path = Path(snapshot) / name.subpath
    if path.is_file() or (path.is_dir() and any(p.name.endswith(ROW_ENDINGS) for p in path.iterdir())):
        return path
    raise CharterError(
        f"{ref}: there are no rows at {name.subpath or 'the top of the data set'} (offline, only earlier "
        "downloads are there); name a file or its folder as in hf:owner/name#folder/file.jsonl; "
        f"{_READ}"
    )


def fetch_input(entry: Input, role: Role) -> Input:
    """The input of a role, after fetching a data set from the hub; other inputs are unchanged. Raises CharterError."""
    if entry.kind != "hub" or not role.holds_data:
        return entry
    path = fetch(entry.ref)
    kind = kind_of_file(path) if path.is_file() else "data"
    if not role.accepts(kind, None):
        raise CharterError(f"role {entry.role} takes {role.wants()}, and {entry.ref} is {kind}")
    return replace(entry, kind=kind, path=path)


def _find_downloaded(repo: str, revision: str, kinds: tuple[HubKind, ...]) -> str | None:
    """The commit of a branch at its last download to this machine, or None."""
    for kind in kinds:
        name = f"{kind}s--{repo.replace('/', '--')}"
        note = Path(constants.HF_HUB_CACHE) / name / "refs" / revision
        if note.is_file() and _COMMIT.fullmatch(commit := note.read_text("utf-8").strip()):
            return commit
    return None


def _ask_hub(repo: str, revision: str, kinds: tuple[HubKind, ...]) -> str:
    """Asks the hub for the commit of a branch."""
    hub = huggingface_hub.HfApi()
    errors: list[Exception] = []
    for kind in kinds:
        ask = hub.model_info if kind == "model" else hub.dataset_info
        try:
            commit = ask(repo, revision=revision, timeout=20).sha
        except Exception as error:  # the hub's client raises many kinds: not found, gated, no network
            errors.append(error)
            continue
        if commit:
            return str(commit)
    # the answer that says most: a refusal, then no answer; "not found" of a model may be a data set's name
    worst = sorted(errors, key=lambda error: (_status(error) not in (401, 403), _status(error) is not None))
    reason = _reason(worst[0]) if worst else "has no commit on the hub: check the name and the revision"
    raise CharterError(
        f"hf:{repo}@{revision} {reason}; if it was downloaded before, its commit opens it: hf:{repo}@<40 hex digits>"
    )


def _reason(error: Exception) -> str:
    """The cause of an error of the hub's client and the remedy, as the end of a message."""
    status = _status(error)
    if status in (401, 403):
        # to a logged-out user, the hub also answers 401 for names that don't exist
        return (
            f"was refused by the hub ({status}): check the name; if it is gated or private, ask for access "
            "on its page and log in with `hf auth login`"
        )
    if status == 404:
        return "was not found on the hub: check the name and the revision"
    name = type(error).__name__
    return f"is not downloaded and the hub cannot be reached ({name}): go online or name a local file"


def _status(error: BaseException | None) -> int | None:
    """The HTTP status in an error of the hub's client, or None if there was no answer."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None
