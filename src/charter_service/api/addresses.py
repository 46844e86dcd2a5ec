"""Hints for requests to unknown addresses: mostly the client's base URL is one for another library."""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.settings.problems import near

# of Anthropic's and OpenAI's APIs, and of requests that their clients send by themselves
NOT_OFFERED = (
    "/v1/responses",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/images",
    "/v1/audio",
    "/v1/batches",
    "/v1/fine_tuning",
    "/v1/assistants",
    "/v1/threads",
    "/v1/vector_stores",
    "/v1/realtime",
    "/v1/skills",
    "/v1/organizations",
    "/v1/experimental",
)
LISTED = "/docs lists all addresses"


def suggest_address(path: str, served: Sequence[str]) -> str:
    """A hint for a request to `path`; `served` are the known paths."""
    if path.startswith("/v1/v1/"):
        return "the base URL has one /v1 too many: Anthropic's clients take it without, http://HOST:PORT"
    if any(f"/v1{path}" == one or f"/v1{path}".startswith(f"{one}/") for one in served):
        return f"did you mean /v1{path[:200]}? OpenAI's programs take a base URL that ends in /v1"
    if any(path == one or path.startswith(f"{one}/") for one in NOT_OFFERED):
        return f"this part of the API is not offered; {LISTED}"
    close = near(path, served, alike=0.8)
    return f"did you mean {close}? {LISTED}" if close else LISTED
