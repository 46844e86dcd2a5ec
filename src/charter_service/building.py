"""The service: its parts and what each may import, written once.

The structure test and the documentation read this file. A part imports the ground of `charter`, its terminal and what
stands here; commands also its runner. Rooms among the parts, which entry points name, import as other rooms do.
"""

from typing import NamedTuple


class Part(NamedTuple):
    """A part of the service wing: which other parts it imports, and what it owns."""

    below: tuple[str, ...]
    owns: str


PARTS = {
    "web": Part((), "the site of a service with its entrance and guard, forms, uploads and blobs; the database"),
    "forms": Part((), "structured output that always ends, by JSON schema, pattern, grammar, XML, YAML or table"),
    "tools": Part((), "what a server runs for a model: arithmetic, search in documents and the web, read-only SQL"),
    "accounts": Part(("web",), "organisations, keys, limits, usage, batches; decisions, cases and the ladder"),
    "people": Part(("web",), "what people are asked and what they gave, from tasks to reviews"),
    "arena": Part(("web", "people"), "a room: votes between hidden models, and the pages where people give them"),
    "review": Part(("web", "people"), "a room: verdicts on flagged replies"),
    "feedback_export": Part(("web", "accounts"), "a room: what users said of a served model's replies, frozen"),
    "chat": Part(
        ("web", "people"),
        "the pages where people talk with served models: conversations as trees, replies that survive a crash",
    ),
    "api": Part(
        ("web", "forms", "tools", "accounts", "people"),
        "Anthropic's API of 2023 and of today, OpenAI's shapes, and their pages",
    ),
    "console": Part(
        ("web", "accounts", "people", "api"),
        "what administrators see and change, in a browser, as JSON and by `charter keys` and `charter conduct`",
    ),
    "commands": Part(
        ("web", "accounts", "people", "arena", "chat", "api", "console"),
        "the service's commands, with `charter up` and `charter chat serve`; stored votes for `charter elo`",
    ),
}
