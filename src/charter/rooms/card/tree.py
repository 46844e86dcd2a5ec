"""Draws the lineage: artifacts in layers by their distance from the sources, parents above.

A line that others imply (transitive reduction) is left out. The table beside the drawing has all parents.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from charter.rooms.card.facts import Node
from charter.rooms.card.figure import Figure
from charter.rooms.card.number import Ledger, Source

WIDTH, HEIGHT, ACROSS, DOWN, EDGE = 172, 62, 28, 40, 6


def direct(nodes: Sequence[Node]) -> dict[str, list[str]]:
    """Parents of each node that aren't ancestors of another of its parents; `nodes` lists ancestors first."""
    above: dict[str, set[str]] = {}
    direct_parents = {}
    for node in nodes:
        parents = [i for i in dict.fromkeys(i for _, i in node.parents) if i in above]
        direct_parents[node.id] = [i for i in parents if not any(i in above[j] for j in parents)]
        above[node.id] = set(parents).union(*(above[i] for i in parents))
    return direct_parents


def places(nodes: Sequence[Node], parents: dict[str, list[str]]) -> dict[str, tuple[float, int]]:
    """(position, layer) of each node: a layer below its lowest parent, each layer centred and ordered by parents."""
    layer: dict[str, int] = {}
    for node in nodes:
        layer[node.id] = 1 + max((layer[i] for i in parents[node.id]), default=-1)
    positions: dict[str, tuple[float, int]] = {}
    for at in range(max(layer.values(), default=-1) + 1):
        members = [n.id for n in nodes if layer[n.id] == at]
        wish = {
            i: sum(positions[p][0] for p in parents[i]) / len(parents[i]) if parents[i] else 0.0
            for i in members
        }
        for place, name in enumerate(sorted(members, key=lambda i: wish[i])):
            positions[name] = (place - (len(members) - 1) / 2, at)
    return positions


def lineage(nodes: Sequence[Node], final: str, ledger: Ledger, sources: tuple[Source, ...]) -> Figure:
    """The lineage as a figure of the card; `final` is the id of the card's model, drawn stronger."""
    caption = (
        "Each box is an artifact with its room, the start of its id and one of its numbers. A line that others imply "
        "is left out."
    )
    return Figure("lineage", "Lineage", caption, draw(nodes, final, ledger), sources, True, "lineage")


def draw(nodes: Sequence[Node], final: str, ledger: Ledger) -> str:
    """An <svg> of the lineage."""
    parents = direct(nodes)
    at = places(nodes, parents)
    left = min(p[0] for p in at.values())
    width = (max(p[0] for p in at.values()) - left + 1) * (WIDTH + ACROSS) - ACROSS + 2 * EDGE
    height = (1 + max(p[1] for p in at.values())) * (HEIGHT + DOWN) - DOWN + 2 * EDGE

    def corner(name: str) -> tuple[float, float]:
        place, layer = at[name]
        return EDGE + (place - left) * (WIDTH + ACROSS), EDGE + layer * (HEIGHT + DOWN)

    parts = []
    for node in nodes:
        x, y = corner(node.id)
        for parent in parents[node.id]:
            px, py = corner(parent)
            a, b, c, d = px + WIDTH / 2, py + HEIGHT, x + WIDTH / 2, y
            bend = (d - b) / 2
            parts.append(
                f'<path class="edge" d="M{a:g} {b:g}C{a:g} {b + bend:g} {c:g} {d - bend:g} {c:g} {d:g}"/>'
            )
    parts += [_box(node, corner(node.id), node.id == final, ledger) for node in nodes]
    return (
        f'<svg class="tree" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-labelledby="tree-title">'
        '<title id="tree-title">Lineage: artifacts and their parents; the table below has them in words'
        f"</title>{''.join(parts)}</svg>"
    )


def _box(node: Node, corner: tuple[float, float], final: bool, ledger: Ledger) -> str:
    x, y = corner
    mark = " †" if node.unfit else ""
    number = f"{node.metric} {ledger.value(node.number)}{mark}" if node.number is not None else node.kind
    lines = (("step", node.step, 20), ("room", f"{node.room} · {node.id[:8]}", 36), ("number", number, 52))
    text = "".join(
        f'<text class="{c}" x="{x + 12:g}" y="{y + dy:g}">{escape(_cut(t))}</text>' for c, t, dy in lines
    )
    box = f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
    return f'<g class="node{" final" if final else ""}">{box}{text}</g>'


def _cut(text: str, most: int = 27) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
