"""The header `anthropic-version`: the version of the API that a program was written for.

There are three. In 2023-01-01 the streams of /v1/complete repeat all of the text and end with [DONE]; 2023-06-01 sends
only new text; 2026-10-21 refuses what `newest` lists.
"""

from __future__ import annotations

from typing import Literal, cast

from starlette.requests import Request

from charter_service.api.errors import invalid

Version = Literal["2023-01-01", "2023-06-01", "2026-10-21"]
VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
NEWEST: Version = "2026-10-21"  # sent by the SDK of today
OLDER: Version = "2023-06-01"
USUAL: Version = OLDER
HEADER = "anthropic-version"


def version_of(request: Request) -> Version:
    """The version of a request. Raises ApiError if there is none, or an unknown one."""
    version = request.headers.get(HEADER)
    if version is None:
        raise invalid(f"{HEADER}: header is required; send {HEADER}: {USUAL}", HEADER)
    if version not in VERSIONS:
        raise invalid(
            f'{HEADER}: "{version[:100]}" is not a valid version; known are {", ".join(VERSIONS)}', HEADER
        )
    return cast(Version, version)
