"""What a terminal shows of runs: plans as tables, runs as trees, and the end of a run in at most eight lines: how long
it took, what changed, where its card is, what to do next.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from charter.ground.artifact.manifest import Metric
from charter.ground.artifact.release import LEAST_DIGITS
from charter.runner.forecast import Forecast, totals
from charter.runner.pace import spell_minutes
from charter.runner.show import FEWEST, StepView
from charter.terminal.tables import amount, number, plain_table

if TYPE_CHECKING:
    from charter.runner.summary import Change, Summary

ARROWS = {"lower": "↓", "higher": "↑", "zero": "→0"}
MOST_LINES = 8
# metrics named in one line
_MOST = 3
_COLOURS = {
    "done": "green",
    "reused": "green",
    "resume": "yellow",
    "started": "yellow",
    "failed": "red",
    "waiting": "magenta",
}
# what learning rooms log of their learning
_LEARNT = ("loss", "reward")


def run_lines(summary: Summary, elapsed: float | None = None) -> list[str]:
    """The lines, without a colour. `elapsed`: the seconds that the command took; else those of the steps' work."""
    lines = [_heading(summary, elapsed)]
    if summary.headlines:
        width = max(len(_name(change)) for change in summary.headlines)
        values = [_values(change) for change in summary.headlines]
        beside = max(map(len, values))
        for change, value in zip(summary.headlines, values, strict=True):
            lines.append(f"  {_name(change):<{width}}  {value:<{beside}}  {change.verdict}".rstrip())
        if summary.stages is not None and summary.stages[0] != summary.stages[1]:
            lines.append(f"  Got worse: {_list_worse(summary.worse)}")
    if summary.card is not None:
        seal = f" (seal {summary.seal[:LEAST_DIGITS]})" if summary.seal else ""
        lines.append(f"  Card: {summary.card.resolve().as_uri()}{seal}")
    ends = [*_talk(summary), f"Next: {_next(summary)}"]
    if len(lines) + len(ends) > MOST_LINES:
        ends = ["   ".join(ends)]
    return lines + [f"  {end}" for end in ends]


def spell_seconds(seconds: float) -> str:
    """'45 s', '23 minutes', '2.5 hours'."""
    return f"{seconds:.0f} s" if seconds < 90 else spell_minutes(seconds / 60)


def _heading(summary: Summary, elapsed: float | None) -> str:
    count = f"{summary.done} of {summary.steps} {'step' if summary.steps == 1 else 'steps'}"
    work = f"{spell_seconds(summary.seconds)} of work"
    took = f"{count} done, {work}" if elapsed is None else f"{count} done in {spell_seconds(elapsed)} ({work})"
    if summary.stages is None:
        return f"{summary.run.name}: {took}"
    first, last = summary.stages
    doubt = f"; the grader is not fit{' (†)' if summary.unfit else ''}" if summary.fit is False else ""
    return f"{summary.run.name}: {took}; {first if first == last else f'{first} → {last}'}{doubt}"


def _name(change: Change) -> str:
    return f"{change.label}{' †' if change.unfit else ''} {ARROWS.get(change.better, '')}".strip()


def _values(change: Change) -> str:
    from charter.ground.reports.number import figure

    final = figure(change.final, change.unit)
    if change.start is None:
        return final
    moved = f" ({figure(change.difference, change.unit, signed=True)})" if change.difference is not None else ""
    return f"{figure(change.start, change.unit)} → {final}{moved}"


def _list_worse(worse: Sequence[Change]) -> str:
    names = "; ".join(change.label for change in worse[:_MOST])
    return (names + (f"; {len(worse) - _MOST} more" if len(worse) > _MOST else "")) or "nothing significantly"


def _talk(summary: Summary) -> list[str]:
    return [] if summary.talk is None else [f"Talk: charter chat {summary.talk}"]


def _next(summary: Summary) -> str:
    """The command that makes sense now."""
    if summary.done < summary.steps:
        return "charter run with the same recipe, which does the rest"
    if summary.compare:
        return f"charter compare {' '.join(map(str, summary.compare))}"
    if summary.talk is not None:
        return f"charter eval {summary.talk}"
    return f"charter show {summary.run}/{summary.last}"


def plan_table(lines: Sequence[Forecast]) -> Table:
    """Steps in order, with what each will do and cost."""
    table = plain_table(("step", "room", "makes", "id", "status"), ("minutes", "memory", "disk"))
    asks = [line.estimate.asks if line.estimate and line.status != "reused" else "" for line in lines]
    if any(asks):
        table.add_column("note")
    for line, ask in zip(lines, asks, strict=True):
        cost = line.estimate
        table.add_row(
            line.planned.name,
            line.planned.room.name,
            line.planned.room.product,
            line.planned.id[:12],
            _colour(line.status),
            amount(cost.minutes if cost else None),
            amount(cost.memory_gib if cost else None, " GiB"),
            amount(cost.disk_gib if cost else None, " GiB"),
            *([f"asks people: {ask}" if ask else ""] if any(asks) else []),
        )
    return table


def plan_total(lines: Sequence[Forecast]) -> str:
    """One line under the plan: what runs, and the sums that are known."""
    todo = [line for line in lines if line.status != "reused"]
    if not todo:
        return "nothing to do: every step is reused"
    sums = totals(todo)
    parts = [f"{len(todo)} of {len(lines)} {'step' if len(lines) == 1 else 'steps'} to run"]
    if sums.minutes is not None:
        without = f" without {_list_names(sums.unknown)}" if sums.unknown else ""
        parts.append(f"{_about(sums.minutes)}{without}")
    if sums.memory_gib is not None:
        parts.append(f"peak memory {amount(sums.memory_gib)} GiB")
    if sums.disk_gib is not None:
        parts.append(f"disk {amount(sums.disk_gib)} GiB")
    return ", ".join(parts)


def _about(minutes: float) -> str:
    words = spell_minutes(minutes)
    return f"about {words}" if words[0].isdigit() else words


def _list_names(names: Sequence[str]) -> str:
    """'card, which has no estimate': at most three names."""
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{some}, which {'has' if len(names) == 1 else 'have'} no estimate"


def run_tree(name: str, views: Sequence[StepView], unfit: Collection[str] = ()) -> Tree:
    """The lineage as a tree: each step stands under its main parent, such as its policy, and names its other
    parents last. On a narrow screen lines are cut. `unfit`: the metrics that an unfit grader gave."""
    tree = Tree(name)
    branches: dict[str, Tree] = {}
    for view in views:
        parents = [parent for parent in view.parents if parent.step in branches]
        # a card stands under the last of its reports, which is that of the final model
        main = next((p.step for p in reversed(parents) if p.role == parents[0].role), None)
        other_parents = [step for step in dict.fromkeys(p.step for p in parents) if step != main]
        branches[view.name] = (branches[main] if main else tree).add(_line(view, other_parents, unfit))
    return tree


def _line(view: StepView, other_parents: Sequence[str], unfit: Collection[str]) -> Text:
    """One step: its room and product, status, time, the metric that stands for it, its id and other parents."""
    metric = headline(view.metrics, unfit)
    seconds = view.manifest.timing.seconds if view.manifest else 0.0
    line = Text.assemble((view.name, "bold"), f" {view.room} → {view.kind} ", no_wrap=True, overflow="ellipsis")
    line.append(view.status, style=_COLOURS.get(view.status))
    line.append(f"  {spell_seconds(seconds)}" if seconds else "")
    line.append(f"  {spell_metric(metric)}" if metric else "")
    line.append(f"  {view.id[:8]}", style="dim")
    line.append(f"  with {', '.join(other_parents)}" if other_parents else "", style="dim")
    return line


def spell_metric(metric: Metric) -> str:
    """'Harm rate 12.0 % (8.0 to 17.0), n 86'; of a count without a label '757 numbers'."""
    from charter.ground.reports.number import figure

    if metric.label is None:
        name, words = (metric.name.replace("_", " "), number(metric.value, f" {metric.unit}" if metric.unit else ""))
        is_count = metric.value is not None and metric.value.is_integer() and not metric.unit
        return f"{words} {name}" if is_count else f"{name} {words}"
    unit = metric.unit or ""
    ends = [figure(end, unit, bare=True) for end in (metric.low, metric.high) if end is not None]
    interval = f" ({' to '.join(ends)})" if len(ends) == 2 else ""
    return f"{metric.label} {figure(metric.value, unit)}{interval}{'' if metric.n is None else f', n {metric.n}'}"


def headline(metrics: Sequence[Metric], unfit: Collection[str] = ()) -> Metric | None:
    """The one metric that stands for a step: the first described one with an interval, else a loss or reward, else the
    first that is not a count. Those named `unfit` come last. None of fewer than `FEWEST` rows stands for anything."""
    enough = [m for m in metrics if m.value is not None and (m.n is None or m.n >= FEWEST)]
    measured = sorted((m for m in enough if m.low is not None and m.label), key=lambda m: m.name in unfit)
    learnt = [m for m in enough if m.name in _LEARNT]
    fractional = [m for m in enough if m.value is not None and not m.value.is_integer()]
    return next(iter([*measured, *learnt, *fractional, *enough]), None)


def _colour(status: str) -> str:
    colour = _COLOURS.get(status)
    return f"[{colour}]{status}[/{colour}]" if colour else status
