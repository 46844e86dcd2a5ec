"""Fields of Anthropic's requests that are not offered here, as data: what is missing, and which values change nothing.

A field is done, or refused with the words here. None is taken and ignored. The reference shows the same words, and a
test walks through the published client's types, so that a field which they add fails it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NotOffered:
    """What is missing, and what to do; `but`: values that change nothing and are taken, beside null."""

    words: str
    but: tuple[Any, ...] = ()

    @property
    def meaning(self) -> str:
        """A description of the field."""
        values = " or ".join(json.dumps(value) for value in (*self.but, None))
        return f"{values} alone: {self.words}"

    def check(self, value: Any) -> Any:
        """The value. Raises ValueError if it asks for what is missing."""
        if value is None or any(type(value) is type(allowed) and value == allowed for allowed in self.but):
            return value
        raise ValueError(f"{self.words}; leave it out")


FIELDS = {
    "billing_policy": NotOffered("nothing is billed here"),
    "compaction": NotOffered("conversations are not summarised here; send fewer turns"),
    "container": NotOffered("no code runs here, so there are no containers"),
    "context_management": NotOffered(
        "no turns are dropped or summarised here; send those that the model shall read", ({}, {"edits": []})
    ),
    "diagnostics": NotOffered("requests are not compared with earlier ones here"),
    "fallback_credit_token": NotOffered("no other model answers in a model's place here"),
    "fallbacks": NotOffered(
        "no other model answers in a model's place here; send the request again with its name", ([], "default")
    ),
    "inference_geo": NotOffered("this server runs where its operator put it, and can't choose a region", ("global",)),
    "mcp_servers": NotOffered("this server calls no other servers; call tools in your program", ([],)),
    "service_tier": NotOffered("there is one tier", ("auto", "standard_only")),
    "speed": NotOffered("there is one speed", ("standard",)),
    "thread": NotOffered("conversations are not stored here; send all turns"),
    "user_profile_id": NotOffered("there are no user profiles here; name your end user in metadata.user_id"),
    "workspace_id": NotOffered("there are no workspaces here; each organisation has its own keys"),
}
# within other fields
EFFORT = NotOffered("no model here can put more or less effort into a reply")
TASK_BUDGET = NotOffered("no model here is told of a budget; max_tokens bounds the reply")
TRANSFORMATIONS = NotOffered("no model here reads images", ({},))
CALLERS = NotOffered("no code runs here, so that only the model calls tools", (["direct"],))
DEFER_LOADING = NotOffered("tools are not searched here; send those that the model shall know", (False,))
CALLER = NotOffered("no code runs here, so that only the model calls tools", ({"type": "direct"},))
TOOLSET = NotOffered("there are no toolsets here")
THOUGHTS = NotOffered("no model here thinks before it answers")
THINKING = (
    'no model here thinks before it answers; leave it out, or send {"type": "disabled"} (GET /v1/models shows what '
    "each model can do)"
)
BETAS = {
    "extended-cache-ttl-2025-04-11": "cache_control.ttl",
    "files-api-2025-04-14": "/v1/files",
    "fine-grained-tool-streaming-2025-05-14": "inputs of tools are streamed as they are written",
    "message-batches-2024-09-24": "batches",
    "messages-2023-12-15": "messages",
    "model-context-window-exceeded-2025-08-26": "the stop reason",
    "pdfs-2024-09-25": "document blocks",
    "prompt-caching-2024-07-31": "cache_control",
    "structured-outputs-2025-11-13": "output_config.format",
    "thinking-token-count-2026-05-13": "usage.output_tokens_details",
    "token-counting-2024-11-01": "count_tokens",
    "tools-2024-04-04": "tools",
    "tools-2024-05-16": "tools",
    "web-search-2025-03-05": "web_search_20250305",
}  # names in anthropic-beta, and what offers them here
HEADERS = {"anthropic-user-profile-id": "user_profile_id", "anthropic-workspace-id": "workspace_id"}
