"""`charter release`: judges a checkpoint by rules, and makes the release that a server can ask for."""

import datetime
import json
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Annotated, Any

import typer

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import walk
from charter.ground.artifact.release import LEAST_DIGITS, write_time
from charter.runner.names import complete_product, find_artifact, find_product
from charter.terminal.launch import relaunch
from charter.terminal.options import Json

Release = Annotated[
    str,
    typer.Argument(metavar="RUN", help="The run, or its card.", autocompletion=complete_product),
]
Rules = Annotated[
    Path,
    typer.Option("--rules", metavar="FILE", help="YAML: the rules of `charter gate`, and those of people."),
]
SignOffs = Annotated[
    list[Path] | None,
    typer.Option(
        "--sign-offs", metavar="FILE", help="YAML: who approved this checkpoint, for which subject."
    ),
]
Findings = Annotated[
    list[Path] | None,
    typer.Option("--findings", metavar="FILE", help="JSONL: findings of others, with id and status."),
]
Elsewhere = Annotated[
    list[str] | None,
    typer.Option("--evidence", metavar="DIR", help="An artifact of another run that a sign-off rests on."),
]


def release(
    run: Release,
    rules: Rules,
    sign_offs: SignOffs = None,
    findings: Findings = None,
    evidence: Elsewhere = None,
    seal: Annotated[
        str, typer.Option("--seal", metavar="DIGITS", help="The card's seal, as charter run printed it.")
    ] = "",
    deep: Annotated[bool, typer.Option("--deep", help="Draw samples again and compare.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where the release goes; default: RUN/release-DATE."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Release the checkpoint of a card if its evidence holds and all rules are met; `charter serve` can ask for that.

    `charter gate` judges the numbers alone. This verifies the card first, asks for people and for the age of evidence
    too, and makes an artifact that names the checkpoint to the byte.
    """
    from charter.rooms.card.release_artifact import record_of, write_release
    from charter.rooms.card.release_rules import read_findings, read_sign_offs
    from charter.rooms.card.releasing import EVIDENCE, Request, find_card, judge
    from charter.runner.identity import source_of
    from charter.runner.rooms import open_room
    from charter.runner.verify import verify

    asked = _asked(rules, seal, deep)
    request = Request(
        find_card(find_product(run)),
        asked,
        tuple(one for path in sign_offs or [] for one in read_sign_offs(path)),
        tuple(read_findings(path) for path in findings or []),
        tuple(_artifact(ref) for ref in evidence or []),
    )
    if asked.deep:
        relaunch()
    problems = verify(request.card, asked.deep)
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    verdict = judge(request, now, problems)
    evidence_folders = [*request.elsewhere, *(folder for _, folder in verdict.rests_on[EVIDENCE])]
    if wrong := _evidence_problems(evidence_folders, verdict.checkpoint.subject.ancestry):
        verdict = judge(request, now, [*problems, *wrong])
    failed = verdict.failed
    facts = _facts(verdict)
    if not failed:
        target = out or request.card.parent / _free_name(request.card.parent, now)
        record = record_of(request, verdict, target.parent.resolve(), now)
        manifest = write_release(record, verdict, target, source_of(open_room("card")))
        facts |= {"release": str(target), "id": manifest.id, "made": record.made, "expires": record.expires}
    _say(facts, as_json)
    if failed:
        names = ", ".join(dict.fromkeys(row.name for row in failed))
        raise CharterError(f"{run} may not be released: {names}")


def _evidence_problems(folders: Sequence[Path], verified: Set[str]) -> list[str]:
    """A line for each problem of evidence and of what it was made from, but for the ids that are verified already."""
    from charter.runner.verify import artifact_problems

    problems: dict[str, None] = {}
    for folder in folders:
        try:
            behind = walk(folder)
        except CharterError as error:
            problems[f"{folder}: {error}"] = None
            continue
        for manifest, place in behind:
            if manifest.id not in verified:
                problems |= {f"{place}: {line}": None for line in artifact_problems(place, manifest)}
    return list(problems)


def _asked(rules: Path, seal: str, deep: bool) -> Any:
    """The rules of a file (`ReleaseRules`), with what was said on the command line."""
    from charter.ground.settings.problems import validate
    from charter.rooms.card.release_rules import ReleaseRules, read_rules

    asked = read_rules(rules)
    said: dict[str, Any] = {"deep": deep or asked.deep} | ({"seal": seal} if seal else {})
    if asked.baseline:
        said["baseline"] = str(find_product(asked.baseline))
    return validate(ReleaseRules, asked.model_dump() | said, "charter release")


def _facts(verdict: Any) -> dict[str, Any]:
    """What was judged, as JSON."""
    checkpoint = verdict.checkpoint
    return {
        "passed": not verdict.failed,
        "seal": verdict.seal,
        "checkpoint": {"step": checkpoint.step, "id": checkpoint.id, "digest": checkpoint.digest},
        "requirements": [
            {"name": r.name, "passed": not r.why, "why": r.why, "words": r.words}
            | {"expires": r.expires and write_time(r.expires)}
            for r in verdict.rows
        ],
    }


def _artifact(ref: str) -> Path:
    """The folder of an artifact. Raises CharterError if it is none."""
    folder = find_artifact(ref)
    if folder is None:
        raise CharterError(f"--evidence {ref} is no artifact; name the folder of a finished step")
    return folder


def _free_name(run: Path, now: datetime.datetime) -> str:
    """A name for a release that nothing in a run has."""
    first = f"release-{now.date()}"
    names = [first, *(f"{first}-{count}" for count in range(2, 1000))]
    return next(name for name in names if not (run / name).exists())


def _say(facts: dict[str, Any], as_json: bool) -> None:
    """Prints the outcome, a line a requirement."""
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    checkpoint = facts["checkpoint"]
    of_card = f"seal of the card {facts['seal'][:LEAST_DIGITS]}"
    print(f"checkpoint {checkpoint['step']}, digest {checkpoint['digest'][:LEAST_DIGITS]}; {of_card}")
    for row in facts["requirements"]:
        until = f", until {row['expires'][:10]}" if row["expires"] else ""
        print(f"{'pass' if row['passed'] else 'FAIL'}  {row['name']}: {row['why'] or row['words'] + until}")
    if "release" in facts:
        print(f"released until {facts['expires']}: {facts['release']} (id {facts['id'][:LEAST_DIGITS]})")
