"""What other packages add to the lab: rooms, commands and stores of votes, by their entry points.

The lab names no package of the service; the service names itself in `pyproject.toml`, as anybody's package may.
"""

import functools
from importlib.metadata import EntryPoint, entry_points

ROOMS, COMMANDS, VOTES = "charter.rooms", "charter.commands", "charter.votes"


@functools.cache
def added(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, each name once, in the order of their names."""
    points = {point.name: point for point in entry_points(group=group)}
    return tuple(points[name] for name in sorted(points))
