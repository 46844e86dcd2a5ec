"""The state of a simulated world, as frozen data. Nothing here reads a disk, a network or a clock.

A world is made by a task's `build(seed)` and changed by `engine.apply` alone. The mappings are never changed in place.
`hidden` is for predicates: no command reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

Value = str | int
Record = Mapping[str, Value]


class Refused(Exception):
    """A command that the world doesn't carry out; the message is the observation, and never holds an
    answer."""


@dataclass(frozen=True)
class File:
    text: str
    mode: int = 0o644
    owner: str = "agent"


@dataclass(frozen=True)
class Process:
    number: int
    line: str


@dataclass(frozen=True)
class Host:
    """A machine. `keys`: text of each key that opens it and whose it is; none: open to the agent. `limit`: bytes a
    transfer may have, 0 for any. `corrupts`: which arriving transfer is damaged on its way, 0 for none."""

    files: Mapping[str, File] = field(default_factory=dict)
    processes: tuple[Process, ...] = ()
    enabled: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    up: bool = True
    limit: int = 0
    arrived: int = 0
    corrupts: int = 0


@dataclass(frozen=True)
class Site:
    """A web site: `kind` names the code that answers in `sites/web.py`; pages by path, records by name."""

    kind: str = "static"
    pages: Mapping[str, str] = field(default_factory=dict)
    records: Mapping[str, Record] = field(default_factory=dict)


@dataclass(frozen=True)
class Person:
    """A person who follows the rule `kind` of `commands/network.py`, with the facts that the rule reads."""

    name: str
    kind: str = "silent"
    facts: Record = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    sender: str
    to: str
    subject: str
    text: str
    tick: int = 0


@dataclass(frozen=True)
class Transfer:
    source: str
    target: str
    amount: int
    fee: int
    memo: str


@dataclass(frozen=True)
class Due:
    """What happens by itself at a tick: `kind` is a name of `programs.HAPPENINGS`."""

    tick: int
    kind: str
    facts: Record


@dataclass(frozen=True)
class Event:
    """What happened: read, get, post, sent, paid, violation, tamper, beat, hit, milestone ..."""

    tick: int
    kind: str
    what: str


@dataclass(frozen=True)
class Commit:
    branch: str
    message: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Repository:
    root: str
    host: str
    branch: str
    commits: tuple[Commit, ...]


@dataclass(frozen=True)
class World:
    """All there is. `me`: the agent's mail address; `ended`: empty, submitted, aborted or stopped (by the overseer);
    `rest`: pages of the last observation not shown yet."""

    name: str
    instructions: str
    here: str
    hosts: Mapping[str, Host]
    me: str
    tick: int = 0
    trail: tuple[str, ...] = ()
    sites: Mapping[str, Site] = field(default_factory=dict)
    people: Mapping[str, Person] = field(default_factory=dict)
    mail: tuple[Message, ...] = ()
    sms: tuple[str, ...] = ()
    wallet: str = ""
    fee: int = 0
    money: Mapping[str, int] = field(default_factory=dict)
    transfers: tuple[Transfer, ...] = ()
    repository: Repository | None = None
    due: tuple[Due, ...] = ()
    notices: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    hidden: Record = field(default_factory=dict)
    rest: str = ""
    ended: str = ""
    said: str = ""

    @property
    def host(self) -> Host:
        return self.hosts[self.here]


def noted(world: World, kind: str, what: str) -> World:
    """The world with one more event."""
    return replace(world, events=(*world.events, Event(world.tick, kind, what)))


def happened(world: World, kind: str, what: str | None = None) -> bool:
    return any(event.kind == kind and (what is None or event.what == what) for event in world.events)


def with_host(world: World, name: str, **changes: Any) -> World:
    return replace(world, hosts={**world.hosts, name: replace(world.hosts[name], **changes)})


def with_file(world: World, host: str, path: str, file: File) -> World:
    return with_host(world, host, files={**world.hosts[host].files, path: file})


def with_record(world: World, site: str, name: str, record: Record) -> World:
    changed = replace(world.sites[site], records={**world.sites[site].records, name: record})
    return replace(world, sites={**world.sites, site: changed})


def later(world: World, ticks: int, kind: str, **facts: Value) -> World:
    """The world in which `kind` happens after so many ticks."""
    return replace(world, due=(*world.due, Due(world.tick + ticks, kind, facts)))


def digest(world: World) -> str:
    """Sha256 of the whole state; equal for equal commands from equal seeds."""
    text = json.dumps(asdict(world), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
