"""One synthetic run with its card, made once; tests that change it take a copy.

Drawing takes most of a card's time. Only the files of DRAWN draw; in the others a figure is written as its words, the
same way whenever it is written.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TextIO

import card_world
import pytest
from card_world import SETTINGS
from matplotlib.figure import Figure
from matplotlib.text import Text

DRAWN = {"test_card_benchmark_plots", "test_card_browser", "test_card_drawn", "test_card_page", "test_card_redrawn"}


def write_words(figure: Figure, file: TextIO, **_: object) -> None:
    """The words of a figure in place of its drawing."""
    words = dict.fromkeys(text.get_text() for text in figure.findobj(Text))
    file.write('<svg viewBox="0 0 1 1">' + "".join(f"<text>{escape(w)}</text>" for w in words if w) + "</svg>")


@pytest.fixture(scope="module", autouse=True)
def drawn(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether figures are drawn in this file."""
    real = request.module.__name__.rpartition(".")[2] in DRAWN
    with pytest.MonkeyPatch.context() as patch:
        if not real:
            patch.setattr(Figure, "savefig", write_words)
        yield real


@pytest.fixture(scope="session")
def runs() -> dict[bool, Path]:
    """The runs made so far, by whether their figures are drawn."""
    return {}


@pytest.fixture(scope="module")
def finished(drawn: bool, runs: dict[bool, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with all artifacts and the card; not to be changed."""
    if drawn not in runs:
        run = tmp_path_factory.mktemp("card") / "run"
        card_world.make_run(run, samples=2)
        card_world.make_card(run, SETTINGS)
        runs[drawn] = run
    return runs[drawn]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run directory, free to be changed."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"
