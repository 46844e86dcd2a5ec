"""Simulated time: one tick a command, more by `wait`. What is due happens, and running programs act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from charter.ground.world.programs import acting
from charter.ground.world.state import Message, Record, World, noted

DAY = 48  # ticks


def _mail(world: World, facts: Record) -> World:
    message = Message(
        str(facts["sender"]), str(facts["to"]), str(facts["subject"]), str(facts["text"]), world.tick
    )
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
        if ready := [one for one in world.due if one.tick <= world.tick]:
            world = replace(world, due=tuple(one for one in world.due if one.tick > world.tick))
            for one in ready:
                world = HAPPENINGS[one.kind](world, one.facts)
        world = acting(world)
    return world


def time_of(tick: int) -> str:
    """A tick as the world shows it: half an hour each, from day 1."""
    return f"day {tick // DAY + 1}, {tick % DAY // 2:02d}:{tick % 2 * 30:02d}"
