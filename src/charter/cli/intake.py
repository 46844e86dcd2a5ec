"""`charter intake`: findings of outside red teams, from a file to a mitigation, its re-test and a report."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import atomic_write
from charter.runner.names import RUNS
from charter.terminal.options import Json
from charter.terminal.tables import console, plain_table, visible

if TYPE_CHECKING:
    from charter.ground.findings.importing import Checked
    from charter.ground.findings.register import Case, Register

SHOWN = 20  # errors and copies that are listed


class Form(StrEnum):
    """What findings are exported as."""

    avid = "avid"
    every_eval_ever = "every-eval-ever"
    prompts = "prompts"


class Use(StrEnum):
    """What a set of findings is for."""

    evaluation = "evaluation"
    training = "training"


Store = Annotated[Path, typer.Option("--store", metavar="FOLDER", help="Where findings are kept.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who does this.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON Lines, a finding each.")]
Known = Annotated[
    list[str] | None, typer.Option("--known", metavar="SET", help="More known attacks: a file, data: or shipped: name.")
]
FINDINGS = Path("findings")


def check(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="JSON Lines, a finding each.")] = None,
    store: Store = FINDINGS,
    known: Known = None,
    tip: Annotated[
        str, typer.Option("--tip", metavar="TIP", help="An earlier tip, to see that no line was cut off.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Check files against the form and against known attacks, and that nobody changed the log. Nothing is kept."""
    from charter.ground.findings.importing import check_files
    from charter.ground.findings.log import read_log
    from charter.ground.findings.register import Register

    log = read_log(store, tip) if store.exists() or tip or not files else None
    register = Register(log.events if log else ())
    if log and not (files and as_json):
        facts = {"lines": len(log.events), "findings": len(register.cases), "tip": log.tip}
        print(json.dumps(facts) if as_json else _line(facts))
    if files:
        _show_checked(check_files(files, register, known or ()), as_json)


def import_(files: Files, by: By, store: Store = FINDINGS, known: Known = None, as_json: Json = False) -> None:
    """Keep the new findings of files, if no row is wrong: personal data masked, copies left out, near copies marked."""
    from charter.ground.findings.importing import import_files

    _show_checked(import_files(files, store, by, _now(), known or ()), as_json)


def triage(
    finding: Annotated[
        str, typer.Argument(metavar="[FINDING]", help="An id; without one, all that wait are listed.")
    ] = "",
    store: Store = FINDINGS,
    by: By = "",
    severity: Annotated[
        int | None, typer.Option("--severity", metavar="N", min=0, max=4, help="0 none to 4 critical.")
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            "--status", metavar="S", help="reproduced, mitigated, re-tested, closed or wont-fix: the new one."
        ),
    ] = None,
    artifact: Annotated[str, typer.Option("--artifact", metavar="ID", help="Folder or id of what was changed.")] = "",
    report: Annotated[
        str, typer.Option("--report", metavar="ID", help="Folder or id of a report that asked this finding.")
    ] = "",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why.")] = "",
    embargo: Annotated[str, typer.Option("--embargo", metavar="DAY", help="Publish not before this day.")] = "",
    runs: Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="Where ids are looked up.")] = RUNS,
    text: Annotated[bool, typer.Option("--text", help="Show its words, which may be harmful.")] = False,
    as_json: Json = False,
) -> None:
    """List findings, show one, or say how severe it is and how far it has come."""
    from charter.ground.findings import register as rules
    from charter.ground.findings.log import changing, read_log
    from charter.ground.findings.register import find_evidence

    if not finding and (severity is not None or status or embargo):
        raise CharterError("name the finding; `charter intake triage` without options lists all")
    acts: list[dict[str, Any]] = []
    if severity is not None:
        acts.append({"what": rules.REVIEWED, "severity": severity})
    if status is not None:
        if artifact and report:
            raise CharterError("a change of status names one artifact: --artifact or --report")
        acts.append({"what": rules.MOVED, "to": status, "note": note})
        if artifact or report:
            acts[-1]["evidence"] = find_evidence(artifact or report, runs, finding).row
    if embargo:
        acts.append({"what": rules.EMBARGOED, "until": embargo})
    if status is None and (artifact or report or note):
        raise CharterError("--artifact, --report and --note belong to a change: give --status")
    if not acts:
        register = rules.Register(read_log(store).events)
        _show_case(register.case(finding), as_json, text) if finding else _show_all(register, as_json)
        return
    facts = {"finding": finding, "by": rules.check_name(by), "at": _now()}
    with changing(store) as log:
        register = rules.Register(log.kept.events)
        for act in acts:
            case = register.apply(act | facts)
        log.append([act | facts for act in acts])
    _show_case(case, as_json)


def export(
    to: Annotated[Path, typer.Option("--to", metavar="OUT", help="A new folder, or file (prompts).")],
    form: Annotated[
        Form,
        typer.Option(
            "--form",
            metavar="FORM",
            help="avid: a report each; every-eval-ever: rates of re-tests; prompts: rows of a set.",
        ),
    ] = Form.avid,
    store: Store = FINDINGS,
    use: Annotated[
        Use, typer.Option("--use", metavar="USE", help="Of prompts: evaluation or training.")
    ] = Use.evaluation,
    texts: Annotated[
        bool, typer.Option("--texts", help="Put whole transcripts, which may be harmful, into reports.")
    ] = False,
    developer: Annotated[
        list[str] | None, typer.Option("--developer", metavar="NAME", help="Who made the model.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", metavar="OWNER/NAME", help="The re-tested model (every-eval-ever).")
    ] = "",
) -> None:
    """Write findings as AVID reports or the rates of their re-tests, without those under embargo or without consent, or
    as rows of prompts."""
    from charter.ground.findings.log import read_log
    from charter.ground.findings.register import Register
    from charter.ground.findings.selection import Wanted, prompt_row, reason_against

    if to.exists():
        raise CharterError(f"{to} exists already; name a new place")
    cases = list(Register(read_log(store).events).cases.values())
    if form != Form.prompts:
        today = _now()[:10]
        consented = [case for case in cases if "publication" in case.finding.consent]
        free = [case for case in consented if not case.is_embargoed(today)]
        files = _reports(free, developer or [], texts) if form == Form.avid else _rates(free, developer or [], model)
        to.mkdir(mode=0o700, parents=True)
        for name, text in files.items():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            atomic_write(to / name, text, mode=0o600)
        print(
            f"{len(free)} of {len(cases)} findings in {to}; {len(cases) - len(consented)} without consent to "
            f"publication, {len(consented) - len(free)} under embargo"
        )
        return
    rows = [prompt_row(case, use) for case in cases if not reason_against(case, Wanted(use=use))]
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    atomic_write(to, data, mark=f"{os.getpid()}-", mode=0o600)
    print(f"{len(rows)} of {len(cases)} findings in {to}")


def _reports(cases: Sequence["Case"], developer: Sequence[str], texts: bool) -> dict[str, str]:
    """File name -> AVID report."""
    from charter.release.avid import avid_report

    reports = {case.id: avid_report(case, developer, texts) for case in cases}
    return {f"{id}.json": json.dumps(report, indent=1, ensure_ascii=False) + "\n" for id, report in reports.items()}


def _rates(cases: Sequence["Case"], developer: Sequence[str], model: str) -> dict[str, str]:
    """Path -> record of re-tests for Every Eval Ever. Raises CharterError if no finding was asked of a model."""
    from charter.release.finding_rates import Sender, retest_files

    sender = Sender(next(iter(developer), "unknown"), model, int(datetime.now(UTC).timestamp()))
    if not (files := retest_files(cases, sender)) and cases:
        raise CharterError("no finding that may be published was asked of a model yet; triage one first")
    return files


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _line(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _show_checked(checked: "Checked", as_json: bool) -> None:
    """Prints what files hold. Raises CharterError if a row is wrong."""
    if as_json:
        nearest = {new.finding.id: list(new.near) for new in checked.new if new.near}
        print(json.dumps(checked.summary | {"copies_of": checked.copies, "nearest": nearest}))
    else:
        print(_line({k: v for k, v in checked.summary.items() if v} or {"new": 0}))
        for place, first in checked.copies[:SHOWN]:
            print(f"  copy: {place} repeats {first}")
        for new in [new for new in checked.new if new.near][:SHOWN]:
            assert new.near is not None
            print(f"  near: {new.finding.id} is {new.near.share:.0%} like {new.near.name}")
    for fault in checked.faults[:SHOWN]:
        typer.echo(f"  {visible(fault)}", err=True)
    if checked.faults:
        raise CharterError(f"{len(checked.faults)} wrong rows, listed above; nothing is kept until they are right")


def _show_all(register: "Register", as_json: bool) -> None:
    """The findings in their order, the agreement of reviewers, and the log of mitigations."""
    from charter.ground.findings.register import severity_agreement
    from charter.ground.findings.selection import mitigations, state_row

    cases = list(register.cases.values())
    agreed, log = severity_agreement(cases), mitigations(cases)
    kappa = agreed.kappa if agreed else None
    if as_json:
        facts = {
            "findings": [_blind(case, state_row(case)) for case in cases],
            "kappa": [kappa.value, kappa.low, kappa.high] if kappa else None,
            "reviewed_twice": agreed.items if agreed else 0,
            "mitigations": log,
        }
        print(json.dumps(facts, ensure_ascii=False))
        return
    table = plain_table(("finding", "status", "severity", "near", "embargo", "about"))
    for case in cases:
        near = f"{case.near.share:.0%} {case.near.name}" if case.near else ""
        about = visible(case.finding.task_description)[:60]
        table.add_row(case.id, case.status, _severity(case), near, case.embargo, about)
    console().print(table, markup=False, highlight=False)
    if agreed and kappa:
        value = "undefined" if kappa.value is None else f"{kappa.value:.2f}"
        print(f"kappa of the first two reviewers: {value}, n = {agreed.items}")
    for row in log:
        print(_line({k: v for k, v in row.items() if v is not None}))


def _show_case(case: "Case", as_json: bool, text: bool = False) -> None:
    from charter.ground.findings.selection import state_row

    words = {"transcript": list(case.finding.transcript)} if text else {}
    if as_json:
        moves = [
            {"to": m.to, "by": m.by, "at": m.at, "note": m.note, "evidence": m.evidence and m.evidence.row}
            for m in case.moves
        ]
        print(json.dumps(_blind(case, state_row(case)) | {"moves": moves} | words, ensure_ascii=False))
        return
    print(f"{case.id}: {case.status}, severity {_severity(case)}")
    for move in case.moves:
        on = f" on {move.evidence.step} {move.evidence.id[:12]}" if move.evidence else ""
        print(f"  {move.at} {move.to} by {move.by}{on} {visible(move.note)}".rstrip())
    for turn in case.finding.transcript if text else ():
        print(f"  {turn['role']}: {visible(turn['content'])}")


def _severity(case: "Case") -> str:
    """The agreed severity; before, how many gave one, so that the second reviewer doesn't see the first one's."""
    if case.severity is not None:
        return str(case.severity)
    count = len(case.reviews)
    return "differs, a third decides" if count > 1 else f"{count} of 2"


def _blind(case: "Case", row: dict[str, Any]) -> dict[str, Any]:
    """The row without a severity that another reviewer must not know."""
    return row if len(case.reviews) > 1 else row | {"severities": [None] * len(case.reviews)}
