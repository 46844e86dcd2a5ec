"""The command on the repository of a host: branches, and commits of all files below its root."""

from __future__ import annotations

from dataclasses import replace

from charter.ground.world.command import Argument, Command
from charter.ground.world.state import Commit, File, Refused, Repository, World, noted, with_host


def _tree(world: World, repository: Repository) -> dict[str, str]:
    start = f"{repository.root}/"
    files = world.hosts[repository.host].files
    return {p[len(start) :]: f.text for p, f in files.items() if p.startswith(start)}


def _git(world: World, action: str, words: str) -> tuple[World, str]:
    repository = world.repository
    if repository is None or repository.host != world.here:
        raise Refused("no repository on this host")
    branches = list(dict.fromkeys(one.branch for one in repository.commits))
    head = next(one for one in reversed(repository.commits) if one.branch == repository.branch)
    tree = _tree(world, repository)
    if action == "status":
        names = sorted(p for p in {*tree, *head.files} if tree.get(p) != head.files.get(p))
        return world, "\n".join([f"on branch {repository.branch}", *[f"changed: {one}" for one in names]])
    if action == "log":
        return world, "\n".join(f"{one.branch}: {one.message}" for one in reversed(repository.commits))
    if action == "branch" and words and " " not in words:
        if words in branches or len(branches) > 20:
            raise Refused("there is such a branch, or there are too many")
        commit = Commit(words, head.message, head.files)
        changed = replace(repository, branch=words, commits=(*repository.commits, commit))
        return replace(world, repository=changed), f"on the new branch {words}"
    if action == "switch":
        if words not in branches:
            raise Refused(f"no such branch; branches: {', '.join(branches)}")
        if tree != head.files:
            raise Refused("commit your changes first")
        target = next(one for one in reversed(repository.commits) if one.branch == words)
        outside = {p: f for p, f in world.host.files.items() if not p.startswith(f"{repository.root}/")}
        files = {**outside, **{f"{repository.root}/{path}": File(text) for path, text in target.files.items()}}
        world = with_host(world, repository.host, files=files)
        return replace(world, repository=replace(repository, branch=words)), f"on branch {words}"
    if action == "commit" and words:
        if tree == head.files:
            raise Refused("nothing changed")
        commit = Commit(repository.branch, words[:200], tree)
        world = replace(world, repository=replace(repository, commits=(*repository.commits, commit)))
        return noted(world, "commit", repository.branch), f"committed on {repository.branch}"
    raise Refused("usage: git status | log | branch NAME | switch NAME | commit MESSAGE")


COMMANDS = (
    Command(
        "git",
        "the repository of this host",
        _git,
        (
            Argument("ACTION", "status, log, branch, switch or commit"),
            Argument("WORDS", "a branch's name, or a message", optional=True, rest=True),
        ),
    ),
)
