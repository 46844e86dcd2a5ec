"""Figures of votes: Elo by axis with its intervals, and how often each model beats each other; one for each kind of
rater."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from matplotlib.figure import Figure as Drawing

from charter.ground.measure.elo import Ranking
from charter.ground.measure.elo_plots import elo_figure, wins_figure
from charter.ground.measure.plots import inline
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import FEW
from charter.ground.text.judgments import HUMAN
from charter.ground.text.votes import VOTES
from charter.rooms.card.drawing import WIDTH
from charter.rooms.card.elo import axis_name, badge, rankings, raters_of, rule_of
from charter.rooms.card.figure import Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger

# Most models of a win table that fits in half a page.
ONE_PANEL = 6


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
    return replace(
        ranking, standings=standings, meetings=tuple(m for m in ranking.meetings if m.votes >= FEW)
    )


def _draw(votes: Artifact, source: str, by_axis: dict[str, Ranking], several: bool) -> Iterator[Figure]:
    name = f"{votes.name}-{source}".replace(":", "-").replace("/", "-").replace("@", "-")
    end = (f", {votes.name}" if several else "") + (f" ({badge(source)})" if badge(source) else "")
    by = f" by {raters_of(source)}"
    whose = "" if source == HUMAN else " These raters are not people."
    with_elo = {key: r for key, r in by_axis.items() if sum(s.elo is not None for s in r.standings) > 1}
    counts = "; ".join(f"{key}: {r.votes:,} votes" for key, r in by_axis.items())
    if with_elo:
        rules = " and ".join(dict.fromkeys(rule_of(r) for r in with_elo.values()))
        bases = " and ".join(dict.fromkeys(r.base for r in with_elo.values()))
        caption = (
            f"Elo from votes{by}; {bases} is 0, and 100 points more win 64 % of the votes. Bars are 95 % intervals "
            f"of the difference from {bases}, {rules}; a dotted line has no end on its other side. {counts}.{whose}"
        )
        figure = inline(_widen(elo_figure(with_elo)), f"elo-{name}", f"Elo by axis{end}", caption)
        wide = len(with_elo) > 1
        yield Figure(f"elo-{name}", f"Elo by axis{end}", caption, figure, (votes.source(VOTES),), wide, "elo")
    met = {key: r for key, r in by_axis.items() if r.meetings}
    if met:
        caption = (
            f"Share of the votes{by} that the model of a row wins against that of a column, with the number of votes "
            f"below it. {counts}.{whose}"
        )
        figure = inline(_widen(wins_figure(met)), f"wins-{name}", f"Who beats whom{end}", caption)
        wide = len(met) > 1 or max(len(r.standings) for r in met.values()) > ONE_PANEL
        yield Figure(
            f"wins-{name}", f"Who beats whom{end}", caption, figure, (votes.source(VOTES),), wide, "elo"
        )


def _widen(drawing: Drawing) -> Drawing:
    """A drawing of at least half a page, so that its words are as large as those of other figures."""
    width, height = drawing.get_size_inches()
    drawing.set_size_inches(max(WIDTH, width), height)
    return drawing
