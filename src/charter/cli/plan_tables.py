"""Plans and runs as tables and trees for a terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.tree import Tree

from charter.ground.artifact.manifest import Metric
from charter.runner.forecast import Forecast, totals
from charter.runner.pace import spell_minutes
from charter.runner.show import StepView
from charter.terminal.tables import amount, number, plain_table

_COLOURS = {
    "done": "green",
    "reused": "green",
    "resume": "yellow",
    "started": "yellow",
    "failed": "red",
    "waiting": "magenta",
}


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


def run_tree(name: str, views: Sequence[StepView]) -> Tree:
    """The lineage as a tree: each step stands under its main parent, such as its policy, and names its other
    parents beside it."""
    tree = Tree(name)
    branches: dict[str, Tree] = {}
    for view in views:
        parents = [parent for parent in view.parents if parent.step in branches]
        # a card stands under the last of its reports, which is that of the final model
        main = next((p.step for p in reversed(parents) if p.role == parents[0].role), None)
        others = [step for step in dict.fromkeys(p.step for p in parents) if step != main]
        also = f"  [dim]with {', '.join(others)}[/dim]" if others else ""
        branches[view.name] = (branches[main] if main else tree).add(_label(view) + also)
    return tree


def spell_metric(metric: Metric) -> str:
    """'harm_rate 0.12 (0.08 to 0.17), n 86'."""
    interval = f" ({number(metric.low)} to {number(metric.high)})" if metric.low is not None else ""
    count = f", n {metric.n}" if metric.n is not None else ""
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{metric.name} {number(metric.value)}{unit}{interval}{count}"


def headline(metrics: Sequence[Metric]) -> Metric | None:
    """The one metric that stands for a step: the first with an interval, else the first that is not a count."""
    measured = [m for m in metrics if m.low is not None]
    fractional = [m for m in metrics if m.value is not None and not m.value.is_integer()]
    return next(iter([*measured, *fractional, *metrics]), None)


def _label(view: StepView) -> str:
    metric = headline(view.metrics)
    metric_words = f"  {spell_metric(metric)}" if metric else ""
    return f"[bold]{view.name}[/bold] {view.room} → {view.kind} {view.id[:8]} {_colour(view.status)}{metric_words}"


def _colour(status: str) -> str:
    colour = _COLOURS.get(status)
    return f"[{colour}]{status}[/{colour}]" if colour else status
