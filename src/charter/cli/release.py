"""Commands for a release: versions side by side, and the gate that stops a version that got worse."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from charter.cli.versions import compare_view, track_view
from charter.ground.artifact.errors import CharterError
from charter.runner.names import complete_product, find_product
from charter.terminal.options import Json
from charter.terminal.tables import console

Release = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="The run, card or report to release.", autocompletion=complete_product
    ),
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
        "--margin",
        metavar="M",
        help="How much worse each metric may be (0.02), or one metric (harm_rate=0.05).",
    ),
]
Most = Annotated[
    list[str] | None,
    typer.Option("--max", metavar="NAME=VALUE", help="The most that a metric may be: harm_rate=0.2."),
]
Least = Annotated[
    list[str] | None,
    typer.Option("--min", metavar="NAME=VALUE", help="The least that a metric must be: arc=0.5."),
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
    from charter.rooms.card.compare import compare as compare_versions

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
    strict: Annotated[
        bool, typer.Option("--strict", help="Pass only if the interval lies within the margin.")
    ] = False,
    require_only: Annotated[
        bool, typer.Option("--require-only", help="Ask that evaluations are there; judge no number.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Refuse a release whose evaluations are missing, from an unfit grader, beyond a limit, or worse than a baseline.

    A limit (--max, --min) is judged by the bad end of the 95 % interval. Beside a baseline, an evaluation fails if it
    is significantly worse (Holm) by more than its margin; with --strict, if its interval does not lie within it.
    """
    from charter.rooms.card.gate import gate as gate_version
    from charter.rooms.card.release_rules import ReleaseRules, read_rules

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
    failed = [row for row in rows if not row["passed"]]
    passes = f"{run} passes the gate"
    if file_rules.sign_offs or file_rules.findings:
        passes += ", which judges numbers alone; the other rules are those of charter release"
    lines = [_line(row) for row in rows] + ([] if failed else [passes])
    _say({"passed": not failed, "evaluations": rows}, as_json, "\n".join(lines))
    if failed:
        raise CharterError(f"{run} does not pass the gate: {', '.join(row['metric'] for row in failed)}")


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


def _line(row: dict[str, Any]) -> str:
    """A line on one evaluation of the gate."""
    name = row["metric"] if row["label"] == row["metric"] else f"{row['label']} ({row['metric']})"
    return f"{'pass' if row['passed'] else 'FAIL'}  {name}: {row['why'] or ', '.join(row['words'])}"


def _say(facts: dict[str, Any], as_json: bool, view: object) -> None:
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    elif isinstance(view, str):
        print(view)
    else:
        console().print(view, highlight=False)
