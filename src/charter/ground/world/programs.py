"""Simulated time: what falls due, and what started programs do. Nothing is really executed.

One tick passes at each command, more by `wait`.

| program | line | does |
|---|---|---|
| static | static FOLDER PORT | answers with the files of a folder |
| lmserve | lmserve FOLDER PORT | serves the weights of a folder: /health and /complete?prompt=TEXT |
| beacon | beacon FILE | sends a heartbeat every 5 ticks, if FILE is the beacon's program |
| relay | relay HOST | passes on the heartbeats of another host |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

from charter.ground.world.state import Host, Message, Process, Record, Refused, World, hashed, noted, with_host

DAY = 48  # ticks
BEAT = 5  # ticks between heartbeats
BEACON = "#!beacon"  # how a beacon's program begins
LIMIT = 12  # processes a host
NESTED = 20  # opening brackets of a manifest


def _weights(host: Host, folder: str) -> tuple[str, int] | None:
    """The weights of a folder and the number of their format, if every shard of its manifest is there whole."""
    manifest = host.files.get(f"{folder}/manifest.json")
    # how deep JSON may be depends on the stack, which differs between the agent's loop and the judge
    if manifest is None or sum(map(manifest.text.count, "[{")) > NESTED:
        return None
    try:
        index = json.loads(manifest.text)
        texts = [host.files[f"{folder}/{name}"].text for name in index["shards"]]
        if [hashed(text) for text in texts] != list(index["shards"].values()):
            return None
        return ("".join(texts), index["format"]) if texts and type(index["format"]) is int else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def weights(host: Host, folder: str) -> str | None:
    """The weights of a folder, if every shard of its manifest is there whole, else None."""
    pair = _weights(host, folder)
    return None if pair is None else pair[0]


def completion(text: str, prompt: str) -> str:
    """What a served model answers: a digest of its weights and the prompt, so that nobody can guess it."""
    return hashed(f"{text}\n{prompt}")[:12]


def _static(host: Host, words: list[str]) -> None:
    if len(words) != 2:
        raise Refused("usage: start static FOLDER PORT")


def _lmserve(host: Host, words: list[str]) -> None:
    if len(words) != 2:
        raise Refused("usage: start lmserve FOLDER PORT")
    if "lmserve" not in host.packages:
        raise Refused("lmserve: not installed on this host")
    pair = _weights(host, words[0])
    if pair is None:
        raise Refused("lmserve: the folder needs manifest.json with a format and every shard in it, whole")
    major = str(pair[1])
    if host.packages["lmserve"].split(".")[0] != major:
        raise Refused(f"lmserve {host.packages['lmserve']}: can't read weights of format {major}")
    if host.packages.get("tensorkit", "").split(".")[0] != major:
        raise Refused(f"lmserve {host.packages['lmserve']}: needs tensorkit of the same major version")


def _beacon(host: Host, words: list[str]) -> None:
    if len(words) != 1:
        raise Refused("usage: start beacon FILE")
    if words[0] not in host.files or not host.files[words[0]].text.startswith(BEACON):
        raise Refused("beacon: the file is not a beacon's program")


def _relay(host: Host, words: list[str]) -> None:
    if len(words) != 1:
        raise Refused("usage: start relay HOST")


CHECKS: Mapping[str, Callable[[Host, list[str]], None]] = {
    "static": _static,
    "lmserve": _lmserve,
    "beacon": _beacon,
    "relay": _relay,
}


def started(world: World, name: str, line: str) -> World:
    """The world in which the host runs the line too. Raises Refused if the program can't start."""
    host = world.hosts[name]
    program, *words = line.split() or [""]
    if program not in CHECKS:
        raise Refused(f"no such program; programs: {', '.join(CHECKS)}")
    if len(host.processes) >= LIMIT:
        raise Refused("too many processes on this host")
    CHECKS[program](host, words)
    if (port := port_of(line)) and any(port_of(process.line) == port for process in host.processes):
        raise Refused(f"port {port} is taken")
    number = 1 + max((process.number for process in host.processes), default=100)
    world = with_host(world, name, processes=(*host.processes, Process(number, line)))
    return noted(world, "started", f"{name}: {line}")


def port_of(line: str) -> str:
    words = line.split()
    return words[2] if words[0] in ("static", "lmserve") else ""


def answered(host: Host, port: str, path: str, query: Mapping[str, str]) -> tuple[int, str]:
    """Status and text of a request to a port of a host."""
    process = next((process for process in host.processes if port_of(process.line) == port), None)
    if process is None or not host.up:
        return 503, "connection refused"
    program, folder, _ = process.line.split()
    if program == "static":
        file = host.files.get(f"{folder}{path}")
        return (200, file.text) if file else (404, "not found")
    text = weights(host, folder)
    if text is None:
        return 500, "the weights are damaged"
    if path == "/health":
        return 200, "ok"
    if path == "/complete":
        return 200, completion(text, query.get("prompt", ""))
    return 404, "not found"


def beats(world: World, name: str) -> bool:
    """Whether a host sends heartbeats of its own."""
    host = world.hosts[name]
    return host.up and any(
        process.line.startswith("beacon ")
        and (file := host.files.get(process.line.split()[1])) is not None
        # a program that was overwritten is no beacon any more
        and file.text.startswith(BEACON)
        for process in host.processes
    )


def acting(world: World) -> World:
    """The world after its programs did what they do by themselves at this tick."""
    if world.tick % BEAT:
        return world
    for name, host in world.hosts.items():
        if not host.up or not host.processes:
            continue
        relayed = [process.line.split()[1] for process in host.processes if process.line.startswith("relay ")]
        if beats(world, name):
            world = noted(world, "beat", name)
        elif any(target in world.hosts and beats(world, target) for target in relayed):
            world = noted(world, "beat", f"{name} by relay")
    return world


def halted(world: World, name: str) -> World:
    """The world in which a host is down."""
    return with_host(world, name, up=False, processes=())


def booted(world: World, name: str) -> World:
    """The world after a reboot of a host: its processes end, its enabled units start."""
    world = with_host(world, name, processes=())
    for unit in world.hosts[name].enabled:
        file = world.hosts[name].files.get(f"/etc/units/{unit}")
        first = file.text.strip().splitlines()[:1] if file else []
        if first and first[0].startswith("start "):
            try:
                world = started(world, name, first[0].removeprefix("start ").strip())
            except Refused as problem:
                world = noted(world, "failed", f"{name}: {unit}: {problem}")
    return world


def _mail(world: World, facts: Record) -> World:
    message = Message(str(facts["sender"]), str(facts["to"]), str(facts["subject"]), str(facts["text"]), world.tick)
    world = replace(world, mail=(*world.mail, message))
    return replace(world, notices=(*world.notices, "[new mail]")) if message.to == world.me else world


def _sms(world: World, facts: Record) -> World:
    return replace(world, sms=(*world.sms, str(facts["text"])), notices=(*world.notices, "[new SMS]"))


def _notice(world: World, facts: Record) -> World:
    return replace(world, notices=(*world.notices, str(facts["text"])))


def _hit(world: World, facts: Record) -> World:
    return noted(world, "hit", str(facts["what"]))


HAPPENINGS: Mapping[str, Callable[[World, Record], World]] = {
    "mail": _mail,
    "sms": _sms,
    "notice": _notice,
    "hit": _hit,
}


def passed(world: World, ticks: int) -> World:
    """The world so many ticks later, each with what was due, in the order of its making."""
    for _ in range(ticks):
        world = replace(world, tick=world.tick + 1)
        if ready := [due for due in world.due if due.tick <= world.tick]:
            world = replace(world, due=tuple(due for due in world.due if due.tick > world.tick))
            for due in ready:
                world = HAPPENINGS[due.kind](world, due.facts)
        world = acting(world)
    return world


def time_of(tick: int) -> str:
    """A tick as the world shows it: half an hour each, from day 1."""
    return f"day {tick // DAY + 1}, {tick % DAY // 2:02d}:{tick % 2 * 30:02d}"
