"""`charter policy`: shows and checks an acceptable use policy, and tries it on a text."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.problems import suggest
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Message
from charter.terminal.options import Json
from charter.terminal.tables import console

PolicyFile = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="Your own policy; default: the shipped one.")
]


def show(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A policy; default: the shipped one.")] = None,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print the shipped file, as a start for your own.")] = False,
    as_json: Json = False,
) -> None:
    """Show an acceptable use policy: its categories, its actions at each sensitivity level, its high-risk rules."""
    from charter.ground.moderation.policy import open_policy

    if as_yaml:
        if file is not None:
            raise CharterError(f"--yaml prints the shipped policy; {file} is YAML already")
        print(shipped("acceptable_use").read_text("utf-8"), end="")
        return
    policy = open_policy(file)
    if as_json:
        print(json.dumps({"id": policy.id, **policy.model_dump(mode="json")}, ensure_ascii=False))
        return
    _print(policy)


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy in YAML.")], as_json: Json = False
) -> None:
    """Check every key and value of a policy, and print notes on it."""
    from charter.ground.moderation.policy import check_policy, shipped_policy

    policy, warnings = check_policy(file)
    shipped_ids = {c.id for c in shipped_policy().categories}
    new = [c.id for c in policy.categories if c.id not in shipped_ids]
    notes = [
        *warnings,
        *(f"{id} is not a category that the probe has learnt; only a grader can detect it" for id in new),
    ]
    if as_json:
        print(json.dumps({"name": policy.name, "version": policy.version, "id": policy.id, "warnings": notes}))
        return
    print(
        f"{policy.name} version {policy.version}: {len(policy.categories)} categories, "
        f"{len(policy.high_risk)} high-risk rules; id {policy.id[:12]}"
    )
    for line in notes:
        print(f"note: {line}")


def try_text(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A prompt; with --reply, the prompt it answers.")],
    reply: Annotated[str | None, typer.Option("--reply", metavar="TEXT", help="Judge this reply.")] = None,
    policy: PolicyFile = None,
    classifiers: Annotated[
        list[str] | None,
        typer.Option(
            "--classifier",
            metavar="KIND[:MODEL]",
            help="encoder, probe, probe:MODEL, words, grader:MODEL or preference:MODEL; may be repeated.",
        ),
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option("--thresholds", metavar="FILE", help="thresholds.yaml of a report.")
    ] = None,
    sensitivity: Annotated[str, typer.Option("--sensitivity", metavar="standard|enhanced")] = "standard",
    as_json: Json = False,
) -> None:
    """Show what a policy does with a text. The first time, the probe is trained for a few minutes."""
    from charter.ground.moderation.actions import LEVELS
    from charter.ground.moderation.opening import open_screen

    if sensitivity not in LEVELS:
        raise CharterError(f"--sensitivity {sensitivity}; {suggest(sensitivity, LEVELS)}")
    screen = open_screen(policy, classifiers or (), thresholds)
    messages: list[Message] = [{"role": "user", "content": text}]
    verdict = screen.prompt(messages, sensitivity) if reply is None else screen.reply(messages, reply, sensitivity)
    fields = (
        "side",
        "action",
        "category",
        "score",
        "threshold",
        "safety_prompt",
        "reason",
        "unscreened",
        "milliseconds",
    )
    facts: dict[str, Any] = {name: getattr(verdict, name) for name in fields} | {
        "classifiers": dict(verdict.classifiers)
    }
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    category = f" ({verdict.category})" if verdict.category else ""
    print(f"{verdict.action}{category}: score {verdict.score:.3f}, acts from {verdict.threshold:.3f}")
    for line in filter(None, (verdict.reason, verdict.safety_prompt, verdict.note)):
        print(line)


def _print(policy: Any) -> None:
    out = console()
    table = Table(title=f"{policy.name} version {policy.version} ({policy.id[:12]})", title_justify="left")
    for head in ("category", "severity", "prompt", "enhanced", "reply", "enhanced"):
        table.add_column(head)
    for c in policy.categories:
        prompt, reply = c.actions.prompt, c.actions.reply
        table.add_row(
            f"{c.title} ({c.id})", c.severity, prompt.standard, prompt.enhanced, reply.standard, reply.enhanced
        )
    for rule in policy.high_risk:
        table.add_row(f"{rule.title} ({rule.id})", "high-risk", rule.action.standard, rule.action.enhanced, "", "")
    out.print(table)
