"""A card, a comparison and a run with a card in Python: what a notebook shows of them."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

import charter
from charter.ground.reports.compare import compare
from charter.rooms.card.layout import FOLDED, FRONT, front_of


def test_a_card_shows_its_front_in_a_frame_that_runs_nothing(finished: Path) -> None:
    card = charter.open(finished / "card")
    assert isinstance(card, charter.Card) and card.page == finished / "card" / "card.html"
    shown = card._repr_html_()
    (frame,) = re.findall(r'^<iframe sandbox title="Model card" style="[^"]+" srcdoc="([^"]+)"></iframe>$', shown)
    front, page = html.unescape(frame), card.page.read_text("utf-8")
    assert front == front_of(page) and len(front) < len(page) / 2
    sections = re.findall(r'<section id="([\w-]+)"', front)
    assert sections == [key for key, _ in FRONT] and not FOLDED & set(sections)
    assert front.count("<main>") == front.count("</main>") == 1 and front.endswith("</html>\n") and "<nav" not in front
    assert front_of("<p>another page</p>") == "<p>another page</p>"


def test_a_card_without_its_page_is_one_line(run: Path) -> None:
    (run / "card" / "card.html").unlink()
    with pytest.raises(charter.CharterError, match=r"card.html cannot be read: .*; run the recipe again"):
        charter.open(run / "card")._repr_html_()


def test_a_comparison_has_the_rows_of_the_command(finished: Path) -> None:
    first, last = charter.open(finished / "eval_0"), charter.open(finished / "eval_3")
    comparison = charter.compare(first, last)
    assert list(comparison.rows) == compare([first.path, last.path])["metrics"]
    assert "harm_rate" in comparison.better and "bits_per_byte" in comparison.worse
    shown = comparison._repr_html_()
    assert "<td>Bits per byte</td>" in shown and "helpful_win_rate" not in shown, "it was not compared"
    counts = f"{len(comparison.better)} better, {len(comparison.worse)} worse, of {len(comparison.rows)} metrics"
    assert repr(comparison) == f"<Comparison {comparison.a} -> {comparison.b}: {counts}>"


def test_classes_follow_kinds_and_parents_are_opened(finished: Path) -> None:
    report = charter.open(finished / "eval_3")
    assert type(report) is charter.Report
    (policy,) = report.parents["policy"]
    assert type(policy) is charter.Checkpoint and policy.name == report.manifest.parents[0].step
    assert {type(parent) for parent in charter.open(finished / "card").parents["reports"]} == {charter.Report}
