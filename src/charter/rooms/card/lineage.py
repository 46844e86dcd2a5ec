"""The lineage: each artifact with its most telling number, and a drawing in layers by the distance from the sources,
parents above.

A line that others imply (transitive reduction) is left out. The table beside the drawing has all parents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from charter.ground.reports.artifact import Artifact
from charter.ground.reports.judges import unfit
from charter.ground.reports.number import Number, Source
from charter.rooms.card.drawing import Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.sections import counts

WIDTH, HEIGHT, ACROSS, DOWN, EDGE = 172, 62, 28, 40, 6
# Letters of a line of a box.
MOST = 25
# The room of a line that passes a layer.
PASSING = 24
# A node's id and nothing, or that of a child and of the parent whose line to it passes.
Item = tuple[str, str]
NODE_METRIC = (
    "harm_answered_rate",
    "pair_accuracy",
    "label_accuracy",
    "rating_error_ratio",
    "review_kappa_harmful",
    "selected_share",
    "kept_share",
    "reward_heldout",
    "reward",
    "scaling_exponent",
    "bits_per_byte",
    "loss",
    "kept",
    "votes",
)


@dataclass(frozen=True, slots=True)
class Node:
    """One artifact of the lineage with its most telling number. `unfit`: a grader that failed gave the number."""

    step: str
    room: str
    kind: str
    id: str
    # (role, id) of each parent.
    parents: tuple[tuple[str, str], ...]
    # (role, reference, digest) of each source from outside.
    outside: tuple[tuple[str, str, str], ...]
    metric: str
    number: Number | None
    unfit: bool
    settings: tuple[tuple[str, str], ...]
    counts: tuple[tuple[str, Number], ...]

    @property
    def listed(self) -> str:
        """Its settings, one a line."""
        return "\n".join(f"{name}: {value}" for name, value in self.settings)


def nodes(run: Run) -> tuple[Node, ...]:
    """The lineage, ancestors first."""
    return tuple(_node(a) for a in run.lineage)


def _node(artifact: Artifact) -> Node:
    m = artifact.manifest
    candidates = (*NODE_METRIC, *artifact.reported.metrics)
    # the first of them, but marked numbers after all others
    name = min((n for n in candidates if n in artifact.own), key=lambda n: unfit(artifact, n), default="")
    return Node(
        step=artifact.step,
        room=m.room,
        kind=f"{m.kind} ({m.variant})" if m.variant else m.kind,
        id=m.id,
        parents=tuple((p.role, p.id) for p in m.parents),
        outside=tuple((e.role, e.ref, e.digest[:12]) for e in m.external),
        metric=artifact.own[name].label if name else "",
        number=artifact.own.get(name),
        unfit=unfit(artifact, name),
        settings=tuple((k, json.dumps(v, ensure_ascii=False)) for k, v in sorted(m.resolved.items())),
        counts=counts(artifact),
    )


def direct(nodes: Sequence[Node]) -> dict[str, list[str]]:
    """Parents of each node that aren't ancestors of another of its parents; `nodes` lists ancestors first."""
    above: dict[str, set[str]] = {}
    direct_parents = {}
    for node in nodes:
        parents = [i for i in dict.fromkeys(i for _, i in node.parents) if i in above]
        direct_parents[node.id] = [i for i in parents if not any(i in above[j] for j in parents)]
        above[node.id] = set(parents).union(*(above[i] for i in parents))
    return direct_parents


def layered(nodes: Sequence[Node], parents: Mapping[str, Sequence[str]]) -> list[dict[Item, float]]:
    """The items of each layer with the middle of each, 0 being the layer's own. A node is one layer below its lowest
    parent. A line that passes a layer has room of its own there, so that it runs behind no box. Items are ordered by
    the mean of what is above them."""
    depth: dict[str, int] = {}
    for node in nodes:
        depth[node.id] = 1 + max((depth[i] for i in parents[node.id]), default=-1)
    layers: list[dict[Item, float]] = []
    for layer in range(1 + max(depth.values())):
        above: dict[Item, float] = {}
        for node in nodes:
            ends = [(i, "") if depth[i] == layer - 1 else (node.id, i) for i in parents[node.id]]
            if depth[node.id] == layer:
                over = [layers[-1][end] for end in ends]
                above[node.id, ""] = sum(over) / max(1, len(over))
            elif depth[node.id] > layer:
                passing = [(i, end) for i, end in zip(parents[node.id], ends, strict=True) if depth[i] < layer]
                above |= {(node.id, i): layers[-1][end] for i, end in passing}
        right = -sum(map(_room, above)) / 2
        layers.append({})
        for item in sorted(above, key=lambda item: above[item]):
            layers[-1][item] = right + _room(item) / 2
            right += _room(item)
    return layers


def _room(item: Item) -> int:
    return PASSING if item[1] else WIDTH + ACROSS


def lineage(nodes: Sequence[Node], final: str, ledger: Ledger, sources: tuple[Source, ...]) -> Figure:
    """The lineage as a figure of the card; `final` is the id of the card's model, drawn stronger."""
    caption = (
        "Each box is an artifact with its room, the start of its id and one of its numbers. A line that others imply "
        "is left out."
    )
    return Figure("lineage", "Lineage", "lineage", True, caption, draw(nodes, final, ledger), sources)


def draw(nodes: Sequence[Node], final: str, ledger: Ledger) -> str:
    """An <svg> of the lineage."""
    parents = direct(nodes)
    layers = layered(nodes, parents)
    half = max(sum(map(_room, layer)) for layer in layers) / 2
    width, height = 2 * (half + EDGE) - ACROSS, len(layers) * (HEIGHT + DOWN) - DOWN + 2 * EDGE
    # of every item, in the order of the layers: the middle of its upper side
    tops = [
        {item: (EDGE + half - ACROSS / 2 + x, EDGE + at * (HEIGHT + DOWN)) for item, x in layer.items()}
        for at, layer in enumerate(layers)
    ]
    nodes_at = {item[0]: top for layer in tops for item, top in layer.items() if not item[1]}
    parts = [
        _edge(
            [
                nodes_at[parent],
                *(layer[node.id, parent] for layer in tops if (node.id, parent) in layer),
                nodes_at[node.id],
            ]
        )
        for node in nodes
        for parent in parents[node.id]
    ]
    parts += [_box(node, nodes_at[node.id], node.id == final, ledger) for node in nodes]
    return (
        f'<svg class="tree" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-labelledby="tree-title">'
        '<title id="tree-title">Lineage: artifacts and their parents; the table below has them in words'
        f"</title>{''.join(parts)}</svg>"
    )


def _edge(tops: Sequence[tuple[float, float]]) -> str:
    """A line from a box through the places that it passes, upright as far as boxes stand beside it, to another box."""
    path = ""
    for (x, y), (next_x, next_y) in pairwise(tops):
        bottom, bend = y + HEIGHT, (next_y - y - HEIGHT) / 2
        path += f"{'L' if path else 'M'}{x:g} {bottom:g}"
        path += f"C{x:g} {bottom + bend:g} {next_x:g} {next_y - bend:g} {next_x:g} {next_y:g}"
    return f'<path class="edge" d="{path}"/>'


def _box(node: Node, top: tuple[float, float], final: bool, ledger: Ledger) -> str:
    x, y = top[0] - WIDTH / 2, top[1]
    mark = " †" if node.unfit else ""
    number = f"{ledger.value(node.number)}{mark} {node.metric.lower()}" if node.number is not None else node.kind
    lines = (("step", node.step, 20), ("room", f"{node.room} · {node.id[:8]}", 36), ("number", number, 52))
    text = "".join(
        f'<text class="{c}" x="{x + 12:g}" y="{y + dy:g}">{escape(t if len(t) <= MOST else f"{t[: MOST - 1]}…")}</text>'
        for c, t, dy in lines
    )
    box = f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
    return f'<g class="node{" final" if final else ""}">{box}{text}</g>'
