"""`charter elo`: votes on pairs of replies become Elo by axis, with intervals, ranks and remarks."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from charter.ground.artifact.errors import CharterError
from charter.ground.settings import extras
from charter.ground.settings.problems import suggest
from charter.ground.text.jsonl import numbered_rows
from charter.runner.names import complete_product, find_place
from charter.terminal.options import Json
from charter.terminal.tables import console, counted

SQLITE = b"SQLite format 3\x00"
CONFIGS = (".yaml", ".yml")
# The file in an export or a step of the arena.
VOTES = "votes.jsonl"
# Models whose win table fits a terminal.
MOST = 10


Place = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG|DB|FILE|DIR",
        help="The service's configuration, a database of votes (URL or SQLite file), JSON Lines, or an export or step.",
        autocompletion=complete_product,
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="MODEL",
        help="The model with Elo 0; default: the configuration's, else the first in the votes.",
    ),
]
Ties = Annotated[str, typer.Option("--ties", metavar="drop|half", help="Drop ties, or count half a win each.")]
Source = Annotated[
    str | None,
    typer.Option(
        "--source", metavar="S", help="Only votes of this source: human, simulated, ai:NAME, or ai for all models."
    ),
]
Bootstrap = Annotated[
    int, typer.Option("--bootstrap", metavar="N", help="Resample N times, by rater if votes name raters.")
]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="OUT.svg", help="Draw Elo by axis here, the win table in OUT-wins.svg.")
]


def elo(
    place: Place,
    as_json: Json = False,
    base: Base = None,
    ties: Ties = "drop",
    axis: Annotated[str | None, typer.Option("--axis", metavar="A", help="Only this axis.")] = None,
    source: Source = None,
    bootstrap: Bootstrap = 0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the resamples.")] = 0,
    plot: Plot = None,
) -> None:
    """Fit Elo to votes on pairs of replies: Bradley-Terry by maximum likelihood, an axis at a time.

    A vote has model_a, model_b and winner (a, b, tie, both_bad or unsure), and may have axis, rater, source and item.
    Votes of people, simulated people and models are fitted apart; votes that name no source count as people's.
    Models whose Elo the votes can't determine have no number.
    """
    from charter.ground.measure.elo import standings

    _check_options(ties, bootstrap, plot)
    votes, zero = _read_votes(place)
    rows = _select_source(votes, source)
    if base is None and any(zero in (row["model_a"], row["model_b"]) for row in rows):
        base = zero
    counted_ties: Literal["drop", "half"] = "half" if ties == "half" else "drop"
    interval: Literal["bootstrap"] | None = "bootstrap" if bootstrap else None
    rankings = standings(rows, base, counted_ties, interval, bootstrap, seed)
    axes = sorted({row.get("axis") or "all" for row in rows})
    if axis is not None:
        rankings = {key: ranking for key, ranking in rankings.items() if ranking.axis == axis}
        if axis not in axes:
            raise CharterError(f"no vote has the axis {axis!r}; {suggest(axis, axes)}")
        axes = [axis]
    if plot is not None:
        _draw(rankings, plot)
    if as_json:
        print(json.dumps({key: [_row(r, s) for s in r.standings] for key, r in rankings.items()}, ensure_ascii=False))
        return
    for key, ranking in rankings.items():
        _show(key, ranking)
    for name in sorted(set(axes) - {ranking.axis for ranking in rankings.values()}):
        print(f"{name}: no Elo, all votes are on two replies of one model")


def _check_options(ties: str, bootstrap: int, plot: Path | None) -> None:
    if ties not in ("drop", "half"):
        raise CharterError(f"--ties {ties}; {suggest(ties, ('drop', 'half'))}")
    if bootstrap and bootstrap < 100:
        raise CharterError(f"--bootstrap {bootstrap} is too few for 95 % intervals; take 100 or more, such as 1000")
    if plot is not None and plot.suffix != ".svg":
        raise CharterError(f"--plot {plot}: expected a name that ends in .svg")
    if plot is not None and not plot.parent.is_dir():
        raise CharterError(f"--plot {plot}: there is no folder {plot.parent}; create it first")


def _read_votes(place: str) -> tuple[list[dict[str, Any]], str]:
    """The votes of a place, each checked, and the model with Elo 0 in its configuration ("" if there is none).
    Raises CharterError naming file:line."""
    from charter.ground.measure.votes import check_votes

    path = find_place(place) or Path(place)
    if path.suffix in CONFIGS:
        return _checked(*_stored_votes().votes_of_configuration(path))
    if "://" in place or _is_sqlite(path):
        return _checked(_stored_votes().votes_of_database(place, Path()), "")
    if path.is_dir():
        steps = sorted(str(file.parent) for file in path.glob(f"*/{VOTES}"))
        path /= VOTES
        if not path.is_file():
            expected = f"the step {' or '.join(steps)}" if steps else "an export or a step of the arena"
            raise CharterError(f"{place} is a folder without {VOTES}; give {expected}, or a file of votes")
    numbered = list(numbered_rows(path))
    rows = [row for _, row in numbered]
    check_votes(rows, lambda number: f"{path}:{numbered[number][0]}")
    return rows, ""


def _checked(rows: list[dict[str, Any]], zero: str) -> tuple[list[dict[str, Any]], str]:
    from charter.ground.measure.votes import check_votes

    check_votes(rows, lambda number: f"vote {number + 1} of the database")
    return rows, zero


def _stored_votes() -> Any:
    """What reads the votes of a service's database. Raises CharterError if no installed package does."""
    points = extras.added(extras.VOTES)
    if not points:
        raise CharterError("no installed package reads databases of votes; give a file of votes")
    return points[0].load()


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:
        # reading it as rows says what is wrong
        return False


def _select_source(rows: list[dict[str, Any]], source: str | None) -> list[dict[str, Any]]:
    """The votes of one source, or all. Raises CharterError if no vote has the source."""
    from charter.ground.measure.votes import of_source

    if source is None:
        return rows
    votes = [dict(row) for row in of_source(rows, source)]
    if not votes:
        sources = sorted({row.get("source") or "human" for row in rows})
        raise CharterError(f"no vote has the source {source!r}; {suggest(source, sources)}")
    return votes


def _row(ranking: Any, standing: Any) -> dict[str, Any]:
    return {
        "model": standing.model,
        "elo": standing.elo,
        "low": standing.low,
        "high": standing.high,
        "n": standing.n,
        "rank": standing.rank_low,
        "rank_low": standing.rank_low,
        "rank_high": standing.rank_high,
        "note": standing.note,
        "base": ranking.base,
        "source": ranking.source,
        "interval": ranking.interval,
    }


def _draw(rankings: Mapping[str, Any], plot: Path) -> None:
    from charter.ground.measure import elo_plots, plots

    rated = {key: r for key, r in rankings.items() if sum(s.elo is not None for s in r.standings) > 1}
    wins = plot.with_name(f"{plot.stem}-wins.svg"), elo_plots.wins_figure(rankings)
    figures = [(*wins, "Wins", "Share of votes that each model wins against each other")]
    if rated:
        caption = "Elo of each model by axis, with 95 % intervals"
        figures.append((plot, elo_plots.elo_figure(rated), "Elo", caption))
    else:
        print(f"charter: {plot} is not drawn: no axis has a number for two models", file=sys.stderr)
    for path, figure, title, caption in figures:
        path.write_text(plots.standalone(plots.inline(figure, title.lower(), title, caption)), encoding="utf-8")


def _show(key: str, ranking: Any) -> None:
    """A table of the models of one axis, then remarks on its votes."""
    whose = "" if ranking.source == "human" or f"({ranking.source})" in key else f" ({ranking.source})"
    print(f"{key}{whose}: {_votes(ranking)}; {ranking.base} is 0; {_intervals(ranking)}")
    table = Table(box=None, pad_edge=False)
    for name in ("rank", "model", "Elo", "95 % interval", "n"):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    table.add_column("")
    for s in ranking.standings:
        interval = f"{_points(s.low)} to {_points(s.high)}"
        if s.model == ranking.base or (s.low is None and s.high is None):
            interval = "-"
        ends = dict.fromkeys(str(rank) for rank in (s.rank_low, s.rank_high) if rank is not None)
        table.add_row("-".join(ends) or "-", s.model, _points(s.elo), interval, str(s.n), s.note)
    console().print(table, highlight=False, markup=False)
    for note in (*ranking.notes, *_agreement(ranking)):
        print(note)
    if any(s.elo is not None for s in ranking.standings) and ranking.meetings:
        _show_wins(ranking)
    print()


def _votes(ranking: Any) -> str:
    """How many votes count and of how many raters, and how many are dropped."""
    raters = f" of {counted(ranking.raters, 'raters')}" if ranking.raters > 1 else ""
    tied, bad = ranking.tied, ranking.both_bad
    fate = "count half a win each" if ranking.ties == "half" else "dropped"
    ties = f", {counted(tied, 'ties')} and {bad} both bad {fate}" if tied or bad else ""
    unsure = f", {ranking.unsure} unsure dropped" if ranking.unsure else ""
    alone = f", {ranking.one_model} on two replies of one model dropped" if ranking.one_model else ""
    return f"{counted(ranking.votes, 'votes')}{raters}{ties}{unsure}{alone}"


def _intervals(ranking: Any) -> str:
    by = f" by {ranking.clustered}" if ranking.clustered else ""
    return {
        "hessian": "intervals of independent votes",
        "clustered": f"intervals clustered{by or ' by vote'}",
        "bootstrap": f"intervals resampled{by or ' by vote'}",
    }[ranking.interval]


def _points(value: float | None) -> str:
    return "-" if value is None else str(round(value))


def _agreement(ranking: Any) -> list[str]:
    """One line on how far raters of the same replies agree, if there are any."""
    agreement = ranking.agreement
    if agreement is None:
        return []
    parts = [
        f"{name} {'-' if x.value is None else f'{x.value:.2f}'}"
        + ("" if x.low is None else f" ({x.low:.2f} to {x.high:.2f})")
        for name, x in (
            ("share of pairs", agreement.percent),
            ("Fleiss' kappa", agreement.kappa),
            ("alpha", agreement.alpha),
        )
    ]
    return [f"agreement on {counted(agreement.items, 'items')} with several raters: {', '.join(parts)}"]


def _show_wins(ranking: Any) -> None:
    """How often each model wins against each other; with many models only the pair that fits worst."""
    models = [s.model for s in ranking.standings]
    if len(models) <= MOST:
        cells = {(m.model, m.against): m for m in ranking.meetings}
        table = Table(box=None, pad_edge=False)
        table.add_column("wins against, % (predicted)", no_wrap=True)
        for model in models:
            table.add_column(model, justify="right")
        for model in models:
            table.add_row(model, *(_cell(cells.get((model, opponent))) for opponent in models))
        console().print(table, highlight=False, markup=False)
    worst = max(ranking.meetings, key=lambda m: m.residual)
    if worst.residual > 3:
        print(
            f"fits worst: {worst.model} won {100 * worst.observed:.0f} % of {worst.votes:g} votes against "
            f"{worst.against}, predicted {100 * worst.predicted:.0f} %"
        )


def _cell(meeting: Any) -> str:
    if meeting is None:
        return "-"
    predicted = "" if meeting.predicted is None else f" ({100 * meeting.predicted:.0f})"
    return f"{100 * meeting.observed:.0f}{predicted}"
