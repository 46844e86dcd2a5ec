"""Elo from votes between models, by axis and by voter (card section 3.1).

`ground/measure/elo.py` fits each set of votes again from its votes.jsonl. Sets are never added up: Elo is a place
among the models of one set, and an export may hold the votes of an earlier one. Votes of people, of simulated raters
and of models are kept apart too, in tables and in figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.figure import Figure as Drawing

from charter.ground.measure.agreement import Estimate
from charter.ground.measure.elo import Meeting, Ranking, Standing, standings
from charter.ground.measure.elo_plots import elo_figure, wins_figure
from charter.ground.measure.metric import VERSION
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import COUNT, ELO, FEW, SHARE, Number
from charter.ground.reports.stages import model_of
from charter.ground.text.judgments import HUMAN, SIMULATED
from charter.ground.text.votes import VOTES
from charter.rooms.card.drawing import WIDTH, Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger

AXIS_NAMES = {"helpful": "Helpfulness", "honest": "Honesty", "harmless": "Harmlessness", "all": "All votes"}
# Decimals of an Elo value that don't depend on a machine's rounding.
PLACES = 4
# Most models of a win table that fits in half a page.
ONE_PANEL = 6


@dataclass(frozen=True, slots=True)
class Row:
    """One model: its Elo, its possible ranks (the value is the best, the interval spans them), the votes on it that
    count, and why it has no number.

    `stage` is the card's name for that model, if a report is on it.
    """

    model: str
    stage: str
    base: bool
    elo: Number | None
    rank: Number | None
    votes: Number
    note: str


@dataclass(frozen=True, slots=True)
class Met:
    """Votes of one model against another: the share that it won, and the share that their Elo predicts."""

    share: Number
    predicted: Number | None


@dataclass(frozen=True, slots=True)
class EloTable:
    """The ranking of one axis by one kind of rater.

    `wins` has, for each model, one cell against each model in the order of the rows. `votes` and `raters` count what
    counts; `left_out` counts the rest. `rule` says how intervals were computed.
    """

    key: str
    step: str
    axis: str
    source: str
    base: str
    rule: str
    rows: tuple[Row, ...]
    wins: tuple[tuple[str, tuple[Met | None, ...]], ...]
    votes: Number
    raters: Number | None
    left_out: tuple[tuple[str, Number], ...]
    agreement: tuple[tuple[str, Number], ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        return axis_name(self.axis)

    @property
    def badge(self) -> str:
        return badge(self.source)


def axis_name(axis: str) -> str:
    """An axis as the head of a table."""
    return AXIS_NAMES.get(axis, axis)


def badge(source: str) -> str:
    """The word beside every number of raters who are not people; empty for people."""
    return "" if source == HUMAN else SIMULATED if source == SIMULATED else "AI"


def raters_of(source: str) -> str:
    """Who voted, in words."""
    name = source.partition(":")[2]
    if source in (HUMAN, SIMULATED):
        return "people" if source == HUMAN else "simulated raters"
    return f"the model {name}" if name else "models"


def rule_of(ranking: Ranking) -> str:
    """How the intervals of a ranking were computed, in words."""
    by = ranking.clustered or "vote"
    wordings = {"clustered": f"clustered by {by}", "bootstrap": f"resampled by {by}"}
    return wordings.get(ranking.interval, "for independent votes")


def rankings(votes: Artifact) -> tuple[Ranking, ...]:
    """The rankings of one set of votes, axis by axis, people's first."""
    rows = votes.rows(VOTES)
    fits = standings(rows, base_of(votes, rows)).values()
    axes = list(dict.fromkeys(ranking.axis for ranking in fits))
    return tuple(sorted(fits, key=lambda r: (axes.index(r.axis), r.source != HUMAN, r.source)))


def base_of(votes: Artifact, rows: Sequence[dict[str, Any]]) -> str | None:
    """The model at 0: the one in the settings, else the first of the step's models. None if no vote names it."""
    manifest = votes.manifest
    names = {p.id: p.step for p in manifest.parents} | {e.digest: e.ref for e in manifest.external}
    first = next(iter(manifest.inputs.get("models", [])), "")
    base = str(manifest.resolved.get("base") or names.get(first, ""))
    models = {row.get(side) for row in rows for side in ("model_a", "model_b")}
    return base if base in models else None


def elo_tables(run: Run) -> tuple[EloTable, ...]:
    """The tables of all sets of votes."""
    return tuple(_table(run, votes, ranking) for votes in run.votes for ranking in rankings(votes))


def _table(run: Run, votes: Artifact, ranking: Ranking) -> EloTable:
    stages = _stages(run, votes)
    models = [s.model for s in ranking.standings]
    cells = {(m.model, m.against): _compare_pair(votes, ranking, m) for m in ranking.meetings}
    ties = "" if ranking.ties == "half" else "ties"
    omitted = (
        ("unsure", ranking.unsure),
        (ties, ranking.tied),
        (ties and "both bad", ranking.both_bad),
        ("on two replies of one model", ranking.one_model),
    )
    return EloTable(
        key=f"{votes.name}-{ranking.axis}-{ranking.source}",
        step=votes.name,
        axis=ranking.axis,
        source=ranking.source,
        base=ranking.base,
        rule=rule_of(ranking),
        rows=tuple(_row(votes, ranking, s, stages.get(s.model, "")) for s in ranking.standings),
        wins=tuple((a, tuple(cells.get((a, b)) for b in models)) for a in models if cells),
        votes=_count(votes, ranking, "votes", ranking.votes),
        raters=_count(votes, ranking, "raters", ranking.raters) if ranking.raters else None,
        left_out=tuple((word, _count(votes, ranking, word, n)) for word, n in omitted if word and n),
        agreement=_agreement(votes, ranking),
        notes=ranking.notes,
    )


def _stages(run: Run, votes: Artifact) -> dict[str, str]:
    """Name of a model -> the card's name of its stage, for the models that a step's votes were on."""
    labels = {model_of(stage): stage.label for stage in run.stages}
    manifest = votes.manifest
    models = [(p.step, p.id) for p in manifest.parents if p.role == "models"]
    models += [(e.ref, e.digest) for e in manifest.external if e.role == "models"]
    return {name: labels[id] for name, id in models if id in labels and labels[id] != name}


def _number(votes: Artifact, ranking: Ranking, name: str, value: float | None, **parts: Any) -> Number:
    key = f"{votes.name}/{ranking.axis}/{ranking.source}/{name}"
    whose = f"{ranking.axis}, {raters_of(ranking.source)}"
    return Number(key, name, value, stage=whose, version=VERSION, sources=(votes.source(VOTES),), **parts)


def _count(votes: Artifact, ranking: Ranking, name: str, value: int) -> Number:
    return _number(votes, ranking, name, value, unit=COUNT)


def _row(votes: Artifact, ranking: Ranking, standing: Standing, stage: str) -> Row:
    model, base = standing.model, standing.model == ranking.base
    elo = rank = None
    if standing.elo is not None:
        low, high = (None, None) if base else (_round(standing.low), _round(standing.high))
        ends = {"low": low, "high": high, "n": standing.n, "unit": ELO}
        elo = _number(votes, ranking, f"elo of {model}", _round(standing.elo), **ends)
    if standing.rank_low is not None and standing.rank_high is not None:
        ends = {"low": standing.rank_low, "high": standing.rank_high, "unit": COUNT}
        rank = _number(votes, ranking, f"rank of {model}", standing.rank_low, **ends)
    count = _count(votes, ranking, f"votes on {model}", standing.n)
    return Row(model, stage, base, elo, rank, count, standing.note)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, PLACES) + 0.0


def _compare_pair(votes: Artifact, ranking: Ranking, meeting: Meeting) -> Met:
    pair = f"{meeting.model} over {meeting.against}"
    n = round(meeting.votes)
    won = _number(votes, ranking, f"wins of {pair}", meeting.observed, n=n, unit=SHARE)
    if meeting.predicted is None:
        return Met(won, None)
    expected = round(meeting.predicted, PLACES + 2)
    return Met(won, _number(votes, ranking, f"predicted wins of {pair}", expected, unit=SHARE))


def _agreement(votes: Artifact, ranking: Ranking) -> tuple[tuple[str, Number], ...]:
    """How far raters who voted on the same two replies agree."""
    agreement = ranking.agreement
    if agreement is None:
        return ()
    kinds: tuple[tuple[str, Estimate, str], ...] = (
        ("pairs of votes that agree", agreement.percent, SHARE),
        ("Fleiss' kappa", agreement.kappa, "kappa"),
    )
    numbers = []
    for words, estimate, unit in kinds:
        if estimate.value is not None:
            value, low, high = (
                None if x is None else round(x, 9) for x in (estimate.value, estimate.low, estimate.high)
            )
            ends = {"low": low, "high": high, "n": agreement.items, "unit": unit}
            numbers.append((words, _number(votes, ranking, words, value, **ends)))
    return tuple(numbers)


def vote_figures(run: Run, ledger: Ledger) -> Iterator[Figure]:
    """The figures of all sets of votes, separately for each kind of rater."""
    for votes in run.votes:
        all_rankings = [_drawable(ranking, ledger) for ranking in rankings(votes)]
        for source in dict.fromkeys(ranking.source for ranking in all_rankings):
            mark = f" ({badge(source)})" if badge(source) else ""
            by_axis = {axis_name(r.axis) + mark: r for r in all_rankings if r.source == source}
            yield from _draw(votes, source, by_axis, len(run.votes) > 1)


def _drawable(ranking: Ranking, ledger: Ledger) -> Ranking:
    """A ranking without the models and the pairs of few votes."""
    title = axis_name(ranking.axis)
    few = [f"Elo of {s.model}, {title}" for s in ranking.standings if s.elo is not None and s.n < FEW]
    few += [f"wins of some pairs, {title}" for m in ranking.meetings if m.votes < FEW]
    ledger.undrawn |= dict.fromkeys(few)
    standings = tuple(s for s in ranking.standings if s.elo is None or s.n >= FEW)
    return replace(ranking, standings=standings, meetings=tuple(m for m in ranking.meetings if m.votes >= FEW))


def _draw(votes: Artifact, rater: str, by_axis: dict[str, Ranking], several: bool) -> Iterator[Figure]:
    name = f"{votes.name}-{rater}".replace(":", "-").replace("/", "-").replace("@", "-")
    end = (f", {votes.name}" if several else "") + (f" ({badge(rater)})" if badge(rater) else "")
    by = f" by {raters_of(rater)}"
    whose = "" if rater == HUMAN else " These raters are not people."
    source = [votes.source(VOTES)]
    with_elo = {key: r for key, r in by_axis.items() if sum(s.elo is not None for s in r.standings) > 1}
    counts = "; ".join(f"{key}: {r.votes:,} votes" for key, r in by_axis.items())
    if with_elo:
        rules = " and ".join(dict.fromkeys(rule_of(r) for r in with_elo.values()))
        bases = " and ".join(dict.fromkeys(r.base for r in with_elo.values()))
        caption = (
            f"Elo from votes{by}; {bases} is 0, and 100 points more win 64 % of the votes. Bars are 95 % intervals "
            f"of the difference from {bases}, {rules}; a dotted line has no end on its other side. {counts}.{whose}"
        )
        figure = Figure(f"elo-{name}", f"Elo by axis{end}", "elo", wide=len(with_elo) > 1)
        yield figure.draw(_widen(elo_figure(with_elo)), caption, caption, source)
    met = {key: r for key, r in by_axis.items() if r.meetings}
    if met:
        caption = (
            f"Share of the votes{by} that the model of a row wins against that of a column, with the number of votes "
            f"below it. {counts}.{whose}"
        )
        wide = len(met) > 1 or max(len(r.standings) for r in met.values()) > ONE_PANEL
        figure = Figure(f"wins-{name}", f"Who beats whom{end}", "elo", wide)
        yield figure.draw(_widen(wins_figure(met)), caption, caption, source)


def _widen(drawing: Drawing) -> Drawing:
    """A drawing of at least half a page, so that its words are as large as those of other figures."""
    width, height = drawing.get_size_inches()
    drawing.set_size_inches(max(WIDTH, width), height)
    return drawing
