"""Pins a name on the Hugging Face hub to one revision, so that an id names what was really used."""

import re
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants

from charter.ground.artifact.errors import CharterError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[\w.-]+(/[\w.-]+)?")


def pin(ref: str) -> str:
    """'hf:repo' or 'hf:repo@branch' as 'hf:repo@<commit>'.

    A full commit is taken as it is; otherwise what was downloaded before decides, then the hub is asked.
    Raises CharterError when neither knows the name.
    """
    repo, _, revision = ref.removeprefix("hf:").partition("@")
    if not _REPO.fullmatch(repo):
        raise CharterError(f"{ref}: write hf:owner/name or hf:owner/name@revision")
    if _COMMIT.fullmatch(revision):
        return ref
    revision = revision or "main"
    commit = _downloaded(repo, revision) or _asked(repo, revision)
    return f"hf:{repo}@{commit}"


def _downloaded(repo: str, revision: str) -> str | None:
    """The commit that a branch stood for when it was last downloaded to this machine."""
    for kind in ("models", "datasets"):
        name = f"{kind}--{repo.replace('/', '--')}"
        note = Path(constants.HF_HUB_CACHE) / name / "refs" / revision
        if note.is_file() and _COMMIT.fullmatch(commit := note.read_text("utf-8").strip()):
            return commit
    return None


def _asked(repo: str, revision: str) -> str:
    """Asks the hub; a name may be a model or a data set."""
    hub = huggingface_hub.HfApi()
    for ask in (hub.model_info, hub.dataset_info):
        try:
            commit = ask(repo, revision=revision, timeout=20).sha
        except Exception:  # the hub's client raises many kinds: not found, gated, no network
            continue
        if commit:
            return str(commit)
    raise CharterError(
        f"hf:{repo}@{revision} was not found on the hub, or the hub cannot be reached: check the name, or "
        f"pin a downloaded revision as hf:{repo}@<40 hex digits>, or name a local folder"
    )
