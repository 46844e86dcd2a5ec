"""Headers of Anthropic's API that ask for something: names of beta features, a user profile, a workspace."""

from __future__ import annotations

from starlette.requests import Request

from charter.ground.settings.problems import suggest
from charter_service.api.errors import invalid
from charter_service.api.wire.offered import BETAS, FIELDS, HEADERS

BETA = "anthropic-beta"
LONGEST_SHOWN = 100  # characters of a name


def check_headers(request: Request) -> None:
    """Raises ApiError, 400, if a header asks for what is not offered here."""
    for line in request.headers.getlist(BETA):
        for name in (part.strip() for part in line.split(",")):
            if name and name not in BETAS:
                words = f"{BETA}: `{name[:LONGEST_SHOWN]}` names nothing that is offered here"
                raise invalid(f"{words}; leave it out, {suggest(name[:LONGEST_SHOWN], BETAS)}", BETA)
    for header, field in HEADERS.items():
        if request.headers.get(header):
            raise invalid(f"{header}: {FIELDS[field].words}; leave it out", header)
