"""The facts that decide an artifact's content, and their hash, its id."""

import functools
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import charter
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.manifest import (
    Environment,
    Source,
    artifact_id,
    canonical_json,
    digest_file,
    digest_text,
    digest_tree,
)
from charter.ground.settings.execution import Execution
from charter.ground.settings.room import Room
from charter.runner.reached import NOT_SOURCE, reached_files, top_folder

SOURCES_EDITED = (
    "somebody edited charter's sources during this run, so that its id would name code that didn't make it; "
    "start the run again: finished steps are kept if their room did not change"
)


def package_folder() -> Path:
    """The folder of the charter package."""
    return Path(str(charter.__file__)).parent


@functools.cache
def ground_digest() -> str:
    """Digest of the sources of the whole ground and of the shipped data."""
    parts = [digest_tree(package_folder() / part, NOT_SOURCE) for part in ("ground", "data")]
    return digest_text(canonical_json(parts))


@functools.cache
def source_digest(package: str) -> str:
    """Digest of the sources that a room (named by its package) reaches, as this process read them first, and of the
    shipped data (the refusal detector learns from it, requests quote its worked examples)."""
    return _digest(package)


def answers_name(environment: Environment) -> str:
    """The name of the file of remembered answers, from what decides their rounding: the ground's sources, and the facts
    that a resume needs equal."""
    here = environment
    facts = [here.torch, here.threads, here.device, here.precision, here.instructions]
    return digest_text(canonical_json([ground_digest(), *facts]))[:16]


def source_changed(package: str) -> bool:
    """Whether what a room reaches has changed since `source_digest` read it."""
    return _digest(package) != source_digest(package)


def _digest(package: str) -> str:
    tops = {top_folder(name) for name in (package, "charter")}
    files = {
        path.relative_to(top.parent).as_posix(): digest_file(path)
        for path in reached_files(package)
        for top in tops
        if path.is_relative_to(top)
    }
    return digest_text(canonical_json([files, digest_tree(package_folder() / "data", NOT_SOURCE)]))


@functools.cache
def source_state() -> tuple[str | None, bool | None]:
    """Git commit and dirty flag of the checkout that charter runs from; (None, None) when installed."""
    folder = package_folder()

    def git(*words: str) -> str | None:
        try:
            command = ["git", "-C", str(folder), *words]
            process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return process.stdout.strip() if process.returncode == 0 else None

    # an installed package may lie inside somebody else's repository: ask whether it is tracked
    if git("ls-files", "--error-unmatch", "building.py") is None:
        return None, None
    changed = git("status", "--porcelain", "--", str(folder))
    return git("rev-parse", "HEAD"), None if changed is None else bool(changed)


def room_source(room: Room[Any]) -> Source:
    """The code record of a manifest."""
    return package_source(room.package)


def package_source(package: str) -> Source:
    """The code record of what a package made."""
    commit, dirty = source_state()
    return Source(commit=commit, dirty=dirty, digest=source_digest(package))


def step_id(
    room: Room[Any], resolved: dict[str, object], inputs: Sequence[Input], seed: int, execution: Execution
) -> str:
    """The id of a step's artifact with the code of this process."""
    arithmetic = execution.device, execution.precision
    return artifact_id(room.name, resolved, Inputs(inputs).ids, seed, *arithmetic, source_digest(room.package))
