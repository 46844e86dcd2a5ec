"""Names on the Hugging Face hub: pinned to one revision, so that an id names what was really used, and the
files of data sets brought to this disk.

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
from charter.ground.settings.roles import Role

HubKind = Literal["model", "dataset"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[\w.-]+(/[\w.-]+)?")
_READ = ".jsonl, .json, .csv, .txt and .parquet files are read, the first four also as .gz and .zst"


@dataclass(frozen=True)
class _Name:
    """A hub reference taken apart; revision and subpath are "" where they aren't given."""

    repo: str
    revision: str
    subpath: str


def _parse(ref: str) -> _Name:
    whole, hash_mark, subpath = ref.removeprefix("hf:").partition("#")
    repo, _, revision = whole.partition("@")
    parts = PurePosixPath(subpath).parts
    if not _REPO.fullmatch(repo) or bool(hash_mark) != bool(parts):
        raise CharterError(f"{ref}: write hf:owner/name or hf:owner/name@revision, and #folder/file for data")
    if ".." in parts or subpath.startswith("/"):
        raise CharterError(f"{ref}: what follows # must be a path inside the data set")
    return _Name(repo, revision, "/".join(parts))


def pin(ref: str, kind: HubKind | None = None) -> str:
    """'hf:repo' or 'hf:repo@branch' as 'hf:repo@<commit>', with its subpath if it has one.

    A full commit is taken as it is; otherwise what was downloaded before decides, then the hub is asked.
    Without `kind` a name may be a model's or a data set's; a subpath is always in a data set.
    Raises CharterError when neither knows the name.
    """
    name = _parse(ref)
    if name.subpath and kind == "model":
        raise CharterError(f"{ref}: # names a file in a data set; a model is named without it")
    kinds: tuple[HubKind, ...] = (kind,) if kind else ("dataset",) if name.subpath else ("model", "dataset")
    commit = name.revision
    if not _COMMIT.fullmatch(commit):
        revision = name.revision or "main"
        commit = _find_downloaded(name.repo, revision, kinds) or _ask_hub(name.repo, revision, kinds)
    return f"hf:{name.repo}@{commit}" + (f"#{name.subpath}" if name.subpath else "")


def fetch(ref: str) -> Path:
    """The file or folder of a pinned data set reference on this disk, downloaded where it isn't there yet.

    Of a folder the files of rows that lie in it are fetched, not those in folders below. Raises CharterError
    when the hub cannot be reached or refuses, or there is nothing to read at the subpath.
    """
    name = _parse(ref)
    at = glob.escape(name.subpath)
    below = f"{at}/" if at else ""
    one = name.subpath.endswith(ROW_ENDINGS)
    try:
        snapshot = huggingface_hub.snapshot_download(
            name.repo,
            repo_type="dataset",
            revision=name.revision,
            allow_patterns=[at] if one else [f"{below}*{ending}" for ending in ROW_ENDINGS],
            ignore_patterns=None if one else [f"{below}*/*"],
        )
    except Exception as error:  # the hub's client raises many kinds, of several libraries
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # this disk's fault, such as a full one
        raise CharterError(f"{ref} {_reason(error)}") from None
    path = Path(snapshot) / name.subpath
    if path.is_file() or (path.is_dir() and any(p.name.endswith(ROW_ENDINGS) for p in path.iterdir())):
        return path
    raise CharterError(
        f"{ref}: there are no rows at {name.subpath or 'the top of the data set'} (offline, only what was "
        "downloaded before is there); name a file or its folder as in hf:owner/name#folder/file.jsonl; "
        f"{_READ}"
    )


def fetched(entry: Input, role: Role) -> Input:
    """The input of a role with a hub's data set fetched; every other input as it is. Raises CharterError."""
    if entry.kind != "hub" or not role.holds_data:
        return entry
    path = fetch(entry.ref)
    kind = kind_of_file(path) if path.is_file() else "data"
    if not role.accepts(kind, None):
        raise CharterError(f"role {entry.role} takes {role.wants()}, and {entry.ref} is {kind}")
    return replace(entry, kind=kind, path=path)


def _find_downloaded(repo: str, revision: str, kinds: tuple[HubKind, ...]) -> str | None:
    """The commit that a branch stood for when it was last downloaded to this machine."""
    for kind in kinds:
        name = f"{kind}s--{repo.replace('/', '--')}"
        note = Path(constants.HF_HUB_CACHE) / name / "refs" / revision
        if note.is_file() and _COMMIT.fullmatch(commit := note.read_text("utf-8").strip()):
            return commit
    return None


def _ask_hub(repo: str, revision: str, kinds: tuple[HubKind, ...]) -> str:
    """Asks the hub for the commit of a branch."""
    hub = huggingface_hub.HfApi()
    refusal = ""
    for kind in kinds:
        ask = hub.model_info if kind == "model" else hub.dataset_info
        try:
            commit = ask(repo, revision=revision, timeout=20).sha
        except Exception as error:  # the hub's client raises many kinds: not found, gated, no network
            if _status(error) in (401, 403):
                refusal = _reason(error)
            continue
        if commit:
            return str(commit)
    ref = f"hf:{repo}@{revision}"
    if refusal:
        raise CharterError(f"{ref} {refusal}")
    raise CharterError(
        f"{ref} was not found on the hub, or the hub cannot be reached: check the name, or pin a downloaded "
        f"revision as hf:{repo}@<40 hex digits>, or name a local file or folder"
    )


def _reason(error: Exception) -> str:
    """What an error of the hub's client means and what to do, as the end of a line."""
    status = _status(error)
    if status in (401, 403):
        # logged out, the hub says 401 of names that don't exist too
        return (
            f"was refused by the hub ({status}): check the name; if it is gated or private, ask for access "
            "on its page and log in with `hf auth login`"
        )
    if status == 404:
        return "was not found on the hub: check the name and the revision"
    name = type(error).__name__
    return f"is not downloaded and the hub cannot be reached ({name}): go online or name a local file"


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error of the hub's client, if it had an answer."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None
