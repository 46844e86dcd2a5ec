"""The roles of the console and their rights: who may see and change what on the admin pages.

| right | what it opens |
|--|--|
| read | figures, lists and states, without any text |
| review | decisions, cases, the text of flagged requests, standings |
| operate | keys, limits, organisations, models, engines, tools, files, evaluation runs, the policy |
| own | people and roles, forgetting, exports |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from charter_service.web.refusal import Refusal

Right = Literal["read", "review", "operate", "own"]
RIGHTS: tuple[Right, ...] = get_args(Right)
OWNER = "owner"
NOBODY = ""  # the console role of somebody who may not open the admin pages
CONSOLE_ROLES: Mapping[str, frozenset[str]] = {
    OWNER: frozenset(RIGHTS),
    "operator": frozenset({"read", "operate"}),
    "reviewer": frozenset({"read", "review"}),
    "analyst": frozenset({"read"}),
}


def allows(role: str, right: str) -> bool:
    """Whether a console role has a right; an unknown role has none."""
    return right in CONSOLE_ROLES.get(role, frozenset())


def check_console_role(role: str) -> None:
    """Raises Refusal for a console role that doesn't exist."""
    if role not in CONSOLE_ROLES:
        raise Refusal(f"there is no console role {role[:100]!r}; expected one of {', '.join(CONSOLE_ROLES)}")
