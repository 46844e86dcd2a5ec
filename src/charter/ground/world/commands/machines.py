"""Commands on processes, units, packages and other hosts."""

from __future__ import annotations

from dataclasses import replace

from charter.ground.world.command import Argument, Command, listed, whole
from charter.ground.world.commands.files import full, readable, stored
from charter.ground.world.language import answer_of, rules_of
from charter.ground.world.programs import passed, started, time_of
from charter.ground.world.state import Refused, World, noted, with_host

LONGEST = 60  # ticks of one wait
HOST = Argument("HOST", "the name of a host")


def _ps(world: World) -> tuple[World, str]:
    return world, listed([f"{process.number} {process.line}" for process in world.host.processes], "nothing runs")


def _start(world: World, line: str) -> tuple[World, str]:
    world = started(world, world.here, line)
    return world, f"started as {world.host.processes[-1].number}"


def _stop(world: World, number: str) -> tuple[World, str]:
    processes = tuple(process for process in world.host.processes if str(process.number) != number)
    if len(processes) == len(world.host.processes):
        raise Refused("no such process")
    return with_host(world, world.here, processes=processes), "stopped"


def _cron(world: World, action: str, name: str) -> tuple[World, str]:
    enabled = world.host.enabled
    if action == "list":
        return world, listed(enabled, "no unit is enabled")
    if action not in ("enable", "disable"):
        raise Refused("ACTION is list, enable or disable")
    if f"/etc/units/{name}" not in world.host.files:
        raise Refused("no such unit; a unit is a file /etc/units/NAME whose first line is: start PROGRAM ...")
    units = tuple(unit for unit in enabled if unit != name)
    changed = (*units, name) if action == "enable" else units
    return noted(with_host(world, world.here, enabled=changed), f"{action}d", f"{world.here}: {name}"), "done"


def _wait(world: World, ticks: str) -> tuple[World, str]:
    world = passed(world, whole(ticks, 1, LONGEST, "TICKS") - 1)
    return world, f"waited; it is {time_of(world.tick + 1)}"


def _time(world: World) -> tuple[World, str]:
    return world, f"{time_of(world.tick)} (tick {world.tick})"


def _entered(world: World, name: str, key: str) -> World:
    """The world after the agent was let in at a host. Raises Refused if it isn't."""
    host = world.hosts.get(name)
    if host is None:
        raise Refused(f"{name[:80]}: no such host")
    if host.keys:
        owner = host.keys.get(readable(world, key).strip()) if key else None
        if owner is None:
            raise Refused(f"{name}: it needs a key file that it knows")
        world = noted(world, "key", f"{name}: {owner}")
        if owner != "agent":
            world = noted(world, "violation", "another person's credentials")
    return world


def _ssh(world: World, name: str, key: str) -> tuple[World, str]:
    world = _entered(world, name, key)
    if len(world.trail) >= 8:
        raise Refused("too many sessions inside each other")
    return replace(world, trail=(*world.trail, world.here), here=name), f"you are on {name}"


def _exit(world: World) -> tuple[World, str]:
    if not world.trail:
        raise Refused("this is your first session; use submit or abort to end the task")
    return replace(world, here=world.trail[-1], trail=world.trail[:-1]), f"you are on {world.trail[-1]}"


def _scp(world: World, source: str, target: str, key: str) -> tuple[World, str]:
    if (":" in source) == (":" in target):
        raise Refused("one of SOURCE and TARGET is HOST:PATH")
    name, path = (target if ":" in target else source).split(":", 1)
    world = _entered(world, name, key)
    if ":" in source:
        text = readable(replace(world, here=name), path)
        to, into = world.here, full(target)
    else:
        text, to, into = readable(world, source), name, full(path)
    limit = world.hosts[name].limit
    if limit and len(text) > limit:
        raise Refused(f"{name}: a transfer has at most {limit} bytes; the file has {len(text)}")
    host = world.hosts[to]
    if text and host.corrupts == host.arrived + 1:
        text = ("0" if text[0] != "0" else "1") + text[1:]
    world = with_host(world, to, arrived=host.arrived + 1)
    return noted(stored(world, to, into, text), "copied", f"{to}:{into}"), f"{len(text)} bytes sent"


def _pkg(world: World, action: str, name: str) -> tuple[World, str]:
    if action == "list":
        return world, listed([f"{k} {v}" for k, v in sorted(world.host.packages.items())], "none installed")
    if action != "install":
        raise Refused("ACTION is list or install")
    index = next((site for site in world.sites.values() if site.kind == "index"), None)
    package, _, version = name.partition("==")
    entry = index.records.get(package) if index else None
    if entry is None:
        raise Refused("the index has no such package")
    version = version or str(entry["latest"])
    if version not in str(entry["versions"]).split():
        raise Refused("the index has no such version")
    packages = {**world.host.packages, package: version}
    world = noted(with_host(world, world.here, packages=packages), "installed", f"{package} {version}")
    return world, f"installed {package} {version}"


def _run(world: World, path: str, text: str) -> tuple[World, str]:
    answer = answer_of(rules_of(readable(world, path)), text)
    world = noted(world, "ran", full(path))
    return world, "no rule matches" if answer is None else answer


COMMANDS = (
    Command("ps", "what runs on this host", _ps),
    Command(
        "start",
        "start a program: static, lmserve, beacon or relay",
        _start,
        (Argument("LINE", "program and its arguments", rest=True),),
    ),
    Command("stop", "end a process", _stop, (Argument("NUMBER", "as ps shows it"),)),
    Command(
        "cron",
        "units that start when this host boots",
        _cron,
        (
            Argument("ACTION", "list, enable or disable"),
            Argument("NAME", "of a file in /etc/units, first line: start PROGRAM ...", optional=True),
        ),
    ),
    Command("wait", "let time pass", _wait, (Argument("TICKS", f"1 to {LONGEST}"),)),
    Command("time", "day, hour and tick", _time),
    Command("ssh", "go to another host", _ssh, (HOST, Argument("KEY", "a key file, if needed", optional=True))),
    Command("exit", "go back to the host before", _exit),
    Command(
        "scp",
        "copy a file from or to another host",
        _scp,
        (
            Argument("SOURCE", "PATH or HOST:PATH"),
            Argument("TARGET", "PATH or HOST:PATH"),
            Argument("KEY", "a key file, if needed", optional=True),
        ),
    ),
    Command(
        "pkg",
        "packages of this host, from the package index",
        _pkg,
        (Argument("ACTION", "list or install"), Argument("NAME", "NAME or NAME==VERSION", optional=True)),
    ),
    Command(
        "run",
        "run a program of rules (lines: PATTERN => ANSWER) on one line of text",
        _run,
        (Argument("PATH", "the program"), Argument("TEXT", "its input", rest=True)),
    ),
)
