"""`charter audit` and `charter signoff`: what people read, conclude and sign before an audit or a topic is closed."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import atomic_write, read_manifest, verify_files
from charter.runner.names import complete_product, find_product
from charter.terminal.options import Json

Step = Annotated[str, typer.Argument(metavar="RUN/STEP", help="The report.", autocompletion=complete_product)]


def reading(
    step: Step,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where the forms go; default: beside the run, STEP.verdict."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the list of transcripts that people must read, drawn by the audit's id, and a form for each of two parties:
    the maker, and an evaluator."""
    from charter.rooms.audit.reading import PARTIES, blank, reading_list

    audit = _audit(step)
    readings = reading_list(audit)
    folder = out or audit.folder.parent.with_name(f"{audit.folder.parent.name}.people") / f"{audit.folder.name}.verdict"
    folder.mkdir(parents=True, exist_ok=True)
    forms = [folder / f"{party}.yaml" for party in PARTIES]
    if existing := next((form for form in forms if form.exists()), None):
        raise CharterError(f"{existing} is there already, perhaps filled in; name another folder with --out")
    for party, form in zip(PARTIES, forms, strict=True):
        atomic_write(form, blank(audit, party, readings))
    whys = {entry.why: sum(other_entry.why == entry.why for other_entry in readings) for entry in readings}
    if as_json:
        facts = {"transcripts": len(readings), "by_reason": whys, "forms": [str(form) for form in forms]}
        print(json.dumps(facts, indent=1))
        return
    print(f"{len(readings)} transcripts: " + ", ".join(f"{count} {why}" for why, count in whys.items()))
    print(f"read them in {audit.folder / 'pages' / 'index.html'}, then fill in:")
    for form in forms:
        print(f"  {form}")


def verdict(
    step: Step,
    maker: Annotated[
        Path | None, typer.Option("--maker", metavar="FILE", help="The form of who made the model.")
    ] = None,
    evaluator: Annotated[
        Path | None, typer.Option("--evaluator", metavar="FILE", help="The form of the other party.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the verdict goes; default: RUN/STEP-verdict.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check both forms against the audit and close it; until two people have filled them it says who is awaited, and
    exits with 3."""
    from charter.rooms.audit.reading import EVALUATOR, MAKER, read_form, reading_list
    from charter.rooms.audit.verdict import judge, page, write_verdict
    from charter.runner.identity import room_source
    from charter.runner.rooms import open_room

    audit = _audit(step)
    readings = reading_list(audit)
    forms = {
        party: None if path is None else read_form(path, party, audit, readings)
        for party, path in ((MAKER, maker), (EVALUATOR, evaluator))
    }
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    closed = judge(audit, forms, now)
    target = out or audit.folder.parent / f"{audit.folder.name}-verdict"
    manifest = write_verdict(closed, audit, target, room_source(open_room("audit")))
    if as_json:
        print(json.dumps({"verdict": str(target), "id": manifest.id} | closed.model_dump(mode="json"), indent=1))
        return
    print(page(closed, readings))
    print(f"closed until {closed.expires[:10]}: {target} (id {manifest.id[:12]})")


def elicitation(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run.", autocompletion=complete_product)],
    as_json: Json = False,
) -> None:
    """Compare the audits of one model as it is, with an example, taught, and both; on task shapes that the lessons had
    and on others. Flags a lift that the form of replies doesn't explain."""
    from charter.rooms.audit.elicitation import ARMS, cells, find_arms, guards, shapes_taught
    from charter.rooms.audit.summary import told

    arms = find_arms(find_product(run))
    shapes = shapes_taught(arms[ARMS[2]])
    rows, checks = cells(arms, shapes), guards(arms, shapes)
    if as_json:
        facts = {"arms": [row._asdict() for row in rows], "guards": [row._asdict() for row in checks]}
        print(json.dumps(facts, indent=1))
        return
    for row in rows:
        print(
            f"{row.arm}, {row.shape} shapes: tasks {told(row.tasks_passed, row.tasks)}, tries "
            f"{told(row.tries_passed, row.tries)}, {row.spurious} refusals or without a command"
        )
    for check in checks:
        ends = f" ({check.low:+.1%} to {check.high:+.1%})"
        words = "FLAG: more than the form explains" if check.flagged else "no flag"
        print(f"{check.shape} shapes: passes {check.rise:+.1%}{ends}, spurious {-check.fall:+.1%}: {words}")


def signoff(
    step: Step,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A copy of its signoff.jsonl that people filled in.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the topics of a report that a person must sign, or check a filled copy; exits with 3 while topics wait. A
    file in which all are signed is printed as the card's setting `oversight.security`."""
    import yaml

    from charter.ground.reports.signoff import (
        SIGNOFF,
        check_basis,
        check_copy,
        check_numbers,
        read_topics,
        signed_of,
        waiting,
    )

    folder = find_product(step)
    if not (folder / SIGNOFF).is_file():
        raise CharterError(
            f"{folder} has no {SIGNOFF}; name a report with the evaluation `security`, such as mine/security"
        )
    manifest = read_manifest(folder)
    if problems := verify_files(folder, manifest):
        raise CharterError(f"{folder} does not hold: {problems[0]}; make the step again with charter run")
    topics = list(read_topics(folder / SIGNOFF))
    read = read_topics(file or folder / SIGNOFF)
    if strangers := [topic for topic in read if topic not in topics]:
        raise CharterError(f"{file}: {strangers[0]!r} is no topic of {folder}; expected {', '.join(topics)}")
    signed = signed_of(read)
    check_basis(signed, manifest, datetime.date.today(), str(file or folder))
    check_numbers(signed, folder, str(file or folder))
    check_copy(file or folder / SIGNOFF, folder)
    awaited = waiting(signed, topics)
    rows = [sign_off.model_dump(mode="json", exclude_defaults=True) for sign_off in signed]
    if as_json:
        print(json.dumps({"signed": rows, "waiting": list(awaited)}, indent=1))
    else:
        for sign_off in signed:
            print(
                f"signed  {sign_off.subject}: {sign_off.decision}, {sign_off.name} ({sign_off.role}) on {sign_off.date}"
            )
        for topic in awaited:
            print(f"waits   {topic}")
    if awaited:
        raise Waiting(f"{len(awaited)} of {len(topics)} topics wait for a person: fill in a copy of {folder / SIGNOFF}")
    if not as_json:
        print(yaml.safe_dump({"oversight": {"security": rows}}, sort_keys=False), end="")


def _audit(step: str) -> Any:
    """The audit behind a name, of which every number follows from its transcripts."""
    from charter.rooms.audit.reading import read_audit
    from charter.runner.verify import artifact_problems

    folder = find_product(step)
    if not (folder / MANIFEST).is_file():
        raise CharterError(f"{step} is a run; name its audit, such as {step}/audit")
    audit = read_audit(folder)
    if problems := artifact_problems(folder, audit.manifest):
        raise CharterError(f"{folder} does not hold: {problems[0]}; make the step again with charter run")
    return audit
