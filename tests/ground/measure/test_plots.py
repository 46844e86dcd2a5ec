"""Drawings: equal bytes, no outside, ids apart, colours that follow the page, text that stays text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import matplotlib
import pytest

from charter.ground.measure import plots
from charter.ground.measure.plots import Line, Point, Series
from charter.rooms.card import long_plots

POINTS = [Point(0.5, 0.4, 0.6), Point(0.0, 0.0, 0.1), None, Point(0.02)]
LABELS = ["start", "a < b", "$x_1$ & y", "end"]


def forest(log: bool = False) -> str:
    figure, (axes,) = plots.canvas(4, 2)
    plots.forest(axes, LABELS, [Series("one", POINTS), Series("two", POINTS, plots.SERIES[1], True)], log=log)
    return plots.inline(figure, "f", "A title", "What it <says>")


def dumbbell() -> str:
    figure, (axes,) = plots.canvas(4, 2)
    plots.dumbbell(axes, LABELS, Series("one", POINTS), Series("two", POINTS, plots.SERIES[1], True))
    return plots.inline(figure, "d", "t", "d")


def curves() -> str:
    figure, axes = plots.canvas(6, 2, 1, 2)
    plots.curves(axes[0], "two", [Line("a", [0, 1, 2], [1, 2, 3]), Line("b", [0, 1], [0, 1], dashed=True)], "step")
    plots.curves(axes[1], "share", [Line("a", [0, 1], [0.1, 0.4])], "step", percent=True)
    return plots.inline(figure, "c", "t", "d")


def reliability() -> str:
    figure, (axes,) = plots.canvas(4, 2)
    plots.reliability(axes, "Calibration", [(0.55, Point(0.5, 0.2, 0.8), 4), (0.9, Point(0.9, 0.7, 0.97), 20)])
    return plots.inline(figure, "r", "t", "d")


def bars() -> str:
    figure, (axes,) = plots.canvas(4, 2)
    plots.bars(axes, ["x", "y"], [("kept", [3.0, 1.0], plots.SERIES[0]), ("dropped", [1.0, 0.0], plots.GRID)])
    return plots.inline(figure, "b", "t", "d")


def strip() -> str:
    return plots.strip([Point(0.6, 0.5, 0.7), Point(0.1, 0.05, 0.2)], "s", "from <here>", (0.0, 1.0))


def falling() -> str:
    figure, (axes,) = plots.canvas(4, 2)
    x = [1.4, 2.8, 5.6, 11.2]
    series = [Series("one", POINTS), Series("two", POINTS[:1] + [None] * 3, plots.SERIES[1], True)]
    long_plots.falling(axes, x, series, [Line("", x, [3, 2, 1.5, 1.2], plots.SERIES[1], dashed=True)])
    plots.legend(figure, series, 2)
    return plots.inline(figure, "p", "t", "d")


def grid() -> str:
    figure, (axes,) = plots.canvas(4, 2)
    cells = {(0, 0): (1.0, "100 %", "51–100"), (1, 1): (0.0, "0 %", "")}
    long_plots.grid(axes, ["512", "1K"], ["0 %", "100 %"], cells)
    plots.rule(axes, 0.5)
    return plots.inline(figure, "g", "t", "d")


DRAWINGS = (*(forest, lambda: forest(log=True), dumbbell, curves, reliability, bars, strip), *(falling, grid))


@pytest.mark.parametrize("draw", DRAWINGS)
def test_equal_data_give_equal_bytes(draw: Callable[[], str]) -> None:
    assert draw() == draw()


@pytest.mark.parametrize("draw", DRAWINGS)
def test_is_wellformed_named_and_closed_to_the_outside(draw: Callable[[], str]) -> None:
    svg = draw()
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and root.get("aria-labelledby")
    assert root[0].tag.endswith("title") and root[0].text
    links = re.findall(r'(?:href="|url\()([^")]+)', svg)
    assert all(link.startswith("#") for link in links)
    ids = re.findall(r' id="([^"]+)"', svg)
    assert len(ids) == len(set(ids)) and {link[1:] for link in links} <= set(ids)
    assert "<metadata" not in svg and "matplotlib" not in svg and "<!--" not in svg


@pytest.mark.parametrize("draw", DRAWINGS)
def test_every_colour_follows_the_page(draw: Callable[[], str]) -> None:
    bare = re.sub(r"var\(--plot-[a-z0-9]+, #[0-9a-f]{6}\)", "", draw())
    assert not re.search(r"#[0-9a-fA-F]{6}|#[0-9a-fA-F]{3}\b", bare)
    assert not re.search(r"(?:fill|stroke): (?:black|white)", bare)


def test_text_stays_text_in_a_generic_font() -> None:
    svg = forest()
    assert "a &lt; b" in svg and "$x_1$ &amp; y" in svg and "What it &lt;says&gt;" in svg
    fonts = set(re.findall(r"font-family: ([^;\"]+)", svg))
    assert fonts == {"system-ui, sans-serif"}
    assert "DejaVu" not in svg


def test_ids_of_two_figures_stay_apart() -> None:
    assert not set(re.findall(r' id="([^"]+)"', forest())) & set(re.findall(r' id="([^"]+)"', bars()))


def test_standalone_follows_the_reader() -> None:
    text = plots.standalone(forest())
    ElementTree.fromstring(text)
    assert text.startswith("<?xml") and "prefers-color-scheme:dark" in text


def test_global_state_is_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    forest()
    curves()
    assert dict(matplotlib.rcParams) == before


def test_zero_has_a_place_on_a_log_axis() -> None:
    assert forest(log=True) != forest()
    _, (axes,) = plots.canvas(4, 2)
    plots.forest(axes, ["only"], [Series("", [Point(0.0, 0.0, 0.0)])], log=True)
    assert axes.get_xlim()[0] > 0


def test_what_is_below_zero_is_drawn_there() -> None:
    _, (axes,) = plots.canvas(4, 2)
    plots.forest(axes, ["only"], [Series("", [Point(-0.4, -0.6, -0.1)])], percent=False)
    assert [list(map(float, line.get_xdata())) for line in axes.lines] == [[-0.6, -0.1], [-0.4]]  # type: ignore[arg-type]


def test_a_figure_wide_legend_names_several_series_once() -> None:
    assert falling().count(">two</text>") == 1 and falling().count(">one</text>") == 1
    figure, _ = plots.canvas(4, 2)
    plots.legend(figure, [Series("one", POINTS)], 1)
    assert ">one</text>" not in plots.inline(figure, "l", "t", "d")


def test_a_grid_is_darker_where_the_share_is_larger_and_writes_both_lines() -> None:
    svg = grid()
    assert re.findall(r"opacity: ([\d.]+)", svg) == [f"{long_plots.DEEPEST:g}", "0"]
    assert all(f">{words}</text>" in svg for words in ("100 %", "51–100", "0 %", "512", "1K"))


def test_tokens_in_words() -> None:
    assert [long_plots.tokens(n) for n in (1, 512, 1024, 1536, 131072)] == ["1", "512", "1K", "1.5K", "128K"]
    assert long_plots.tokens(200_000) == "200K"


def test_strip_marks_both_ends() -> None:
    first, last = (float(x) for x in re.findall(r'<circle cx="([\d.]+)"', strip()))
    assert first > last
    assert "from &lt;here&gt;" in strip()
    same = plots.strip([Point(1.0), Point(1.0)], "s", "t", (1.0, 1.0))
    ElementTree.fromstring(same)


def test_a_share_has_no_tick_above_all_of_it() -> None:
    figure, (axes,) = plots.canvas(3.0, 2.0)
    lines = [Line("a", [0, 1], [0.0, 1.0]), Line("b", [0, 1], [0.0, 0.4])]
    plots.curves(axes, "Shares", lines, "step", percent=True)
    svg = plots.inline(figure, "shares", "Shares", "two curves")
    ticks = [float(text) for text in re.findall(r">([0-9.]+) %<", svg)]
    assert max(ticks) <= 100 and len(ticks) > 1


@pytest.mark.parametrize("stage", ["RL", "plain SFT at the chosen threshold"])
def test_names_of_series_stay_inside_the_drawing(stage: str):
    figure, (axes,) = plots.canvas(4.7, 1.5)
    labels = [Series("held-out grader (unfit)", POINTS), Series("model that RL maximised (unfit)", POINTS, hollow=True)]
    plots.forest(axes, [*LABELS[:3], stage], labels)
    figure.draw_without_rendering()
    names = axes.get_legend().get_window_extent()
    assert names.x0 >= 0 and names.x1 <= figure.bbox.width and names.y1 <= figure.bbox.height
