"""Commands for a release: versions side by side, the gate that stops a version that got worse, and the release itself,
which a server can ask for."""

import datetime
import json
from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charter.cli.versions import compare_view, track_view
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import walk
from charter.ground.artifact.release import LEAST_DIGITS, write_time
from charter.runner.names import complete_product, find_artifact, find_product
from charter.terminal.launch import relaunch
from charter.terminal.options import Json
from charter.terminal.tables import console

if TYPE_CHECKING:
    from charter.release.judge import Verdict
    from charter.release.rules import ReleaseRules, Row

Release = Annotated[
    Path, typer.Argument(metavar="RUN", help="The run, card or report to release.", autocompletion=complete_product)
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        metavar="OTHER",
        help="The run, card or report that it must not be worse than.",
        autocompletion=complete_product,
    ),
]
Required = Annotated[
    list[str] | None,
    typer.Option("--require", metavar="METRICS", help="Evaluations that it must have, separated by commas."),
]
Margins = Annotated[
    list[str] | None,
    typer.Option(
        "--margin", metavar="M", help="How much worse each metric may be (0.02), or one metric (harm_rate=0.05)."
    ),
]
Most = Annotated[
    list[str] | None, typer.Option("--max", metavar="NAME=VALUE", help="The most that a metric may be: harm_rate=0.2.")
]
Least = Annotated[
    list[str] | None, typer.Option("--min", metavar="NAME=VALUE", help="The least that a metric must be: arc=0.5.")
]
RulesFile = Annotated[
    Path | None,
    typer.Option(
        "--rules",
        metavar="FILE",
        help="The same in YAML: baseline, require, margin, max, min, strict, require_only; flags win over it. "
        "It may be the file of `charter release`.",
    ),
]
Released = Annotated[str, typer.Argument(metavar="RUN", help="The run, or its card.", autocompletion=complete_product)]
Needed = Annotated[
    Path, typer.Option("--rules", metavar="FILE", help="YAML: the rules of `charter gate`, and those of people.")
]
SignOffs = Annotated[
    list[Path] | None,
    typer.Option("--sign-offs", metavar="FILE", help="YAML: who approved this checkpoint, for which subject."),
]
Findings = Annotated[
    list[Path] | None, typer.Option("--findings", metavar="FILE", help="JSONL: findings of others, with id and status.")
]
Elsewhere = Annotated[
    list[str] | None,
    typer.Option("--evidence", metavar="DIR", help="An artifact of another run that a sign-off rests on."),
]


def compare(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B...",
            help="Runs, cards or reports, oldest first; one card: its stages.",
            autocompletion=complete_product,
        ),
    ],
    everything: Annotated[
        bool, typer.Option("--all", help="Show every metric, with the name that other commands take.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two versions: what got better, what got worse; or track several versions, or one's stages.

    Changes are paired over the prompts that both answered. Holm's correction covers what two versions share.
    """
    from charter.ground.reports.compare import compare as compare_versions

    comparison = compare_versions([find_product(str(place)) for place in places])
    view = compare_view if len(comparison["versions"]) == 2 else track_view
    _say(comparison, as_json, view(comparison, everything))


def gate(
    run: Release,
    baseline: Baseline = None,
    require: Required = None,
    margin: Margins = None,
    most: Most = None,
    least: Least = None,
    rules: RulesFile = None,
    strict: Annotated[bool, typer.Option("--strict", help="Pass only if the interval lies within the margin.")] = False,
    require_only: Annotated[
        bool, typer.Option("--require-only", help="Ask that evaluations are there; judge no number.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Refuse a release whose evaluations are missing, from an unfit grader, beyond a limit, or worse than a baseline.

    A limit (--max, --min) is judged by the bad end of the 95 % interval. Beside a baseline, an evaluation fails if it
    is significantly worse (Holm) by more than its margin; with --strict, if its interval does not lie within it.
    """
    from charter.release.gate import gate as gate_version
    from charter.release.rules import ReleaseRules, read_rules

    file_rules = read_rules(rules) if rules else ReleaseRules()
    required = {name.strip(): None for part in require or [] for name in part.split(",") if name.strip()}
    default, margins = _margins(margin or [])
    overrides: dict[str, Any] = {
        "require": {**file_rules.require, **required, **margins},
        "max": {**file_rules.max, **_limits("--max", most or [])},
        "min": {**file_rules.min, **_limits("--min", least or [])},
        "strict": strict or file_rules.strict,
        "require_only": require_only or file_rules.require_only,
    }
    run = find_product(str(run))
    overrides |= {"baseline": str(baseline)} if baseline is not None else {}
    overrides |= {"margin": default} if default is not None else {}
    gate_rules = file_rules.model_copy(update=overrides)
    if gate_rules.baseline:
        place = str(find_product(str(gate_rules.baseline)))
        gate_rules = gate_rules.model_copy(update={"baseline": place})
    rows = gate_version(run, gate_rules)
    failed = [row.name for row in rows if row.why]
    passes = f"{run} passes the gate"
    if file_rules.sign_offs or file_rules.findings:
        passes += ", which judges numbers alone; the other rules are those of charter release"
    lines = [_line(row) for row in rows] + ([] if failed else [passes])
    evaluations = [
        {"metric": row.name, "passed": not row.why, "why": row.why, "words": list(row.words)} | dict(row.facts)
        for row in rows
    ]
    _say({"passed": not failed, "evaluations": evaluations}, as_json, "\n".join(lines))
    if failed:
        raise CharterError(f"{run} does not pass the gate: {', '.join(failed)}")


def _margins(texts: Sequence[str]) -> tuple[float | None, dict[str, float]]:
    """(margin of all, margins of single metrics). Raises CharterError if a text is not a margin."""
    default, margins = None, {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not number >= 0 or (equals and not name.strip()):
            raise CharterError(f"--margin {text}: give a number of 0 or more, or METRIC=NUMBER")
        if equals:
            margins[name.strip()] = number
        else:
            default = number
    return default, margins


def _limits(flag: str, texts: Sequence[str]) -> dict[str, float]:
    """Limits by metric. Raises CharterError if a text is not NAME=VALUE."""
    limits = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            limits[name.strip()] = float(value)
        except ValueError:
            limits[""] = 0.0
        if "" in limits:
            raise CharterError(f"{flag} {text}: give NAME=VALUE, such as harm_rate=0.2 for 20 %")
    return limits


def _line(row: "Row") -> str:
    """A line on one requirement."""
    label = row.facts.get("label", row.name)
    name = row.name if label == row.name else f"{label} ({row.name})"
    until = f", until {write_time(row.expires)[:10]}" if row.expires else ""
    return f"{'FAIL' if row.why else 'pass'}  {name}: {row.why or ', '.join(row.words) + until}"


def _say(facts: dict[str, Any], as_json: bool, view: object) -> None:
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    elif isinstance(view, str):
        print(view)
    else:
        console().print(view, highlight=False)


def release(
    run: Released,
    rules: Needed,
    sign_offs: SignOffs = None,
    findings: Findings = None,
    evidence: Elsewhere = None,
    seal: Annotated[
        str, typer.Option("--seal", metavar="DIGITS", help="The card's seal, as charter run printed it.")
    ] = "",
    deep: Annotated[bool, typer.Option("--deep", help="Draw samples again and compare.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the release goes; default: RUN/release-DATE.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Release the checkpoint of a card if its evidence holds and all rules are met; `charter serve` can ask for that.

    `charter gate` judges the numbers alone. This verifies the card first, asks for people and for the age of evidence
    too, and makes an artifact that names the checkpoint to the byte.
    """
    from charter.release.artifact import record_of, write_release
    from charter.release.judge import EVIDENCE, Request, find_card, judge
    from charter.release.rules import read_findings, read_sign_offs
    from charter.runner.identity import package_source
    from charter.runner.verify import verify

    release_rules = _rules_of(rules, seal, deep)
    request = Request(
        find_card(find_product(run)),
        release_rules,
        tuple(sign_off for path in sign_offs or [] for sign_off in read_sign_offs(path)),
        tuple(read_findings(path) for path in findings or []),
        tuple(_artifact(ref) for ref in evidence or []),
    )
    if release_rules.deep:
        relaunch()
    problems = verify(request.card, release_rules.deep)
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
        manifest = write_release(record, verdict, target, package_source("charter.release"))
        facts |= {"release": str(target), "id": manifest.id, "made": record.made, "expires": record.expires}
    _say(facts, as_json, _lines(verdict, facts))
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


def _rules_of(rules: Path, seal: str, deep: bool) -> "ReleaseRules":
    """The rules of a file (`ReleaseRules`), with what was said on the command line."""
    from charter.ground.settings.problems import validate
    from charter.release.rules import ReleaseRules, read_rules

    file_rules = read_rules(rules)
    changes: dict[str, Any] = {"deep": deep or file_rules.deep} | ({"seal": seal} if seal else {})
    if file_rules.baseline:
        changes["baseline"] = str(find_product(file_rules.baseline))
    return validate(ReleaseRules, file_rules.model_dump() | changes, "charter release")


def _facts(verdict: "Verdict") -> dict[str, Any]:
    """What was judged, as JSON."""
    checkpoint = verdict.checkpoint
    return {
        "passed": not verdict.failed,
        "seal": verdict.seal,
        "checkpoint": {"step": checkpoint.step, "id": checkpoint.id, "digest": checkpoint.digest},
        "requirements": [
            {"name": r.name, "passed": not r.why, "why": r.why, "words": ", ".join(r.words)}
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


def _lines(verdict: "Verdict", facts: dict[str, Any]) -> str:
    """The outcome of a release, a line a requirement."""
    checkpoint = verdict.checkpoint
    of_card = f"seal of the card {verdict.seal[:LEAST_DIGITS]}"
    lines = [
        f"checkpoint {checkpoint.step}, digest {checkpoint.digest[:LEAST_DIGITS]}; {of_card}",
        *map(_line, verdict.rows),
    ]
    if "release" in facts:
        lines.append(f"released until {facts['expires']}: {facts['release']} (id {facts['id'][:LEAST_DIGITS]})")
    return "\n".join(lines)
