"""The header `anthropic-version`: which version of the API a program was written for.

There are three. In 2023-01-01 the streams of /v1/complete repeat all of the text and end with [DONE]; 2023-06-01 sends
what is new; 2026-10-21 takes temperature, top_p and top_k away, and documents in the assistant's turns (Anthropic's
reference, "versions"). What the newest took away is still taken here, whatever the version: the models here can be
told how to sample.
"""

from __future__ import annotations

from typing import Literal, cast

from fastapi import Request

from charter.service.api.errors import invalid

Version = Literal["2023-01-01", "2023-06-01", "2026-10-21"]
VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
USUAL = "2023-06-01"  # what the SDKs send
HEADER = "anthropic-version"


def version_of(request: Request) -> Version:
    """The version that a request asks for. Raises ApiError where there is none, or an unknown one."""
    found = request.headers.get(HEADER)
    if found is None:
        raise invalid(f"{HEADER}: header is required; send {HEADER}: {USUAL}", HEADER)
    if found not in VERSIONS:
        raise invalid(
            f'{HEADER}: "{found[:100]}" is not a valid version; known are {", ".join(VERSIONS)}', HEADER
        )
    return cast(Version, found)
