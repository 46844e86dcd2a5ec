"""Forged drawings of a card are found, whatever the record says of who drew them; those laid out a little otherwise
hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from card_world import edit

from charter.ground.artifact.store import read_manifest, verify_files
from charter.ground.measure import plots
from charter.rooms.card.redrawn import DRAWING, WITHIN, drawing_problem, page_problem
from charter.rooms.card.verify import _file_problems, card_problems

HTML, HARM = "card.html", "plots/harm.svg"
NUMBER = re.compile(r"(?<=[ \"])\d+\.\d{3,}")


def otherwise(run: Path) -> None:
    """Says that another version of matplotlib drew the card."""

    def change(text: str) -> str:
        return (
            json.dumps(json.loads(text) | {"drawn_with": {"matplotlib": "3.0.0"}}, indent=1, ensure_ascii=False) + "\n"
        )

    edit(run, "card", "card.json", change)


def first(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text, old
        return text.replace(old, new, 1)

    return change


def in_harm(change: Callable[[str], str]) -> Callable[[str], str]:
    """The same in the drawing of harm on the page."""

    def whole(text: str) -> str:
        (drawing,) = [one for one in DRAWING.findall(text) if 'aria-labelledby="harm-title' in one]
        return text.replace(drawing, change(drawing))

    return whole


def moved(by: float) -> Callable[[str], str]:
    """As another version lays it out: places a little aside."""

    def change(text: str) -> str:
        parts = re.split(r"(<defs>.*?</defs>)", text, flags=re.DOTALL)
        parts[2::2] = [NUMBER.sub(lambda m: f"{float(m[0]) + by:.6f}", part) for part in parts[2::2]]
        return "".join(parts)

    return change


def swapped(text: str) -> str:
    one, other = (d for d in DRAWING.findall(text) if re.search(r'="(harm|hhh)-title', d))
    return text.replace(one, "@").replace(other, one).replace("@", other)


def doubled(text: str) -> str:
    harm = next(one for one in DRAWING.findall(text) if 'aria-labelledby="harm-title' in one)
    return text.replace(harm, harm + harm)


NEW = '<svg xmlns="http://www.w3.org/2000/svg"><text x="9" y="9">Harm rate: 0.0 %</text></svg>'
FORGED: dict[str, tuple[str, Callable[[str], str]]] = {
    "a drawing more": (HTML, first("<main>", f"<main>{NEW}")),
    "a script in one": (HTML, in_harm(first("</svg>", "<script>document.title=1</script></svg>"))),
    "a number in one": (HTML, in_harm(first("</svg>", '<text x="9" y="9">0.0 %</text></svg>'))),
    "one in one": (HTML, in_harm(first("<g>", f"{NEW}<g>"))),
    "one instead": (HTML, in_harm(lambda _: NEW)),
    "none": (HTML, in_harm(lambda _: "")),
    "one doubled": (HTML, doubled),
    "two swapped": (HTML, swapped),
    "a label": (HTML, in_harm(first(">start</text>", ">rival</text>"))),
    "a digit of another script": (HARM, lambda t: re.sub(r">(\d+) ?%?</text>", ">\uff10 %</text>", t, count=1)),
    "a title": (HTML, in_harm(lambda t: re.sub(r"(<title[^>]*>)", r"\1No harm: ", t))),
    "a label for readers of the screen": (HTML, in_harm(first('role="img"', 'role="img" aria-label="0 %"'))),
    "hidden": (HTML, in_harm(first('role="img"', 'role="none"'))),
    "a style": (HTML, in_harm(first("<g>", '<g style="opacity: 0">'))),
    "a class": (HTML, in_harm(first("<g>", '<g class="hidden">'))),
    "a comment": (HTML, in_harm(first("<g>", "<!-- --><g>"))),
    "a doctype": (HARM, first("<svg", '<!DOCTYPE svg [<!ENTITY a "0 %">]><svg')),
    "cdata": (HARM, first("<g>", "<![CDATA[<text>0 %</text>]]><g>")),
    "another namespace": (HARM, first('xmlns="http://www.w3.org/2000/svg"', 'xmlns="urn:none"')),
    "a foreign object": (HARM, first("<g>", "<foreignObject><p>0 %</p></foreignObject><g>")),
    "an image": (HARM, first("<g>", '<image href="data:image/png;base64,AAAA"/><g>')),
    "a link": (HARM, first('xlink:href="#', 'xlink:href="http://127.0.0.1/#')),
    "a use of another drawing": (HTML, in_harm(first('href="#harm-', 'href="#hhh-'))),
    "emptied": (HARM, lambda _: ""),
    "cut": (HARM, lambda t: t[: len(t) // 2]),
    "bytes behind": (HARM, lambda t: t + "\n" * 9),
    "paths without ink": (HARM, lambda t: t.replace("stroke-width: 1.6", "stroke-width: 1.6; opacity: 0")),
    "paths of another colour": (HARM, first(plots.SERIES[0], plots.PAPER)),
    "thin paths": (HARM, lambda t: t.replace("stroke-width: 1.6", "stroke-width: 0.1")),
    "opaque paths": (HARM, lambda t: t.replace("opacity: 0.55", "opacity: 0.05")),
    "points elsewhere": (HARM, moved(WITHIN * 2)),
    "a place beyond numbers": (HARM, lambda t: NUMBER.sub("1e999", t)),
    "a turned text": (HARM, first("rotate(-0 ", "rotate(-90 ")),
    "shrunk shapes": (HARM, lambda t: re.sub(r'(<defs>\s*<path id="[^"]+" d="M 0 )-?[0-9.]+', r"\g<1>1", t)),
    "another window": (HARM, lambda t: re.sub('viewBox="0 0 ', 'viewBox="900 0 ', t)),
    "an attribute twice": (HARM, first(' role="img"', ' role="img" viewBox="900 0 1 1"')),
    "dark text in the dark": (HARM, first("svg{color:#e9e7e1;", "svg{color:#181715;")),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_drawing_is_found(finished: Path, tmp_path: Path, name: str) -> None:
    card = finished / "card"
    files = {f"plots/{path.name}": path.read_text("utf-8") for path in card.glob("plots/*.svg")}
    files[HTML] = (card / HTML).read_text("utf-8")
    file, change = FORGED[name]
    (tmp_path / "plots").mkdir()
    for path, text in files.items():
        (tmp_path / path).write_text(change(text) if path == file else text, "utf-8")
    assert [one.partition(" ")[0] for one in _file_problems(tmp_path, files)] == [file]


def test_a_forged_drawing_is_found_though_the_record_names_another_version(run: Path) -> None:
    otherwise(run)
    for name in ("a drawing more", "paths without ink"):
        edit(run, "card", *FORGED[name])
    assert verify_files(run / "card", read_manifest(run / "card")) == []
    assert [one.partition(" ")[0] for one in card_problems(run / "card")] == [HTML, HARM]


def test_a_card_that_another_version_drew_holds(run: Path) -> None:
    otherwise(run)
    hashes = lambda t: re.sub(r"-([pm])([0-9a-f]{6,})\b", r"-\1f\2", t)  # noqa: E731
    for file, change in ((HARM, moved(0.7)), (HTML, in_harm(moved(0.7))), (HARM, hashes), (HTML, in_harm(hashes))):
        edit(run, "card", file, change)
    assert card_problems(run / "card") == []


@pytest.mark.parametrize(
    "said", [{"matplotlib": "the best"}, {"matplotlib": "3.0.0", "harm": "0 %"}, {"matplotlib": "3.0.\uff10"}, {}]
)
def test_the_record_of_who_drew_says_nothing_else(run: Path, said: dict[str, str]) -> None:
    change = lambda t: json.dumps(json.loads(t) | {"drawn_with": said}, indent=1, ensure_ascii=False) + "\n"  # noqa: E731
    edit(run, "card", "card.json", change)
    assert len(card_problems(run / "card")) == 1


def test_a_small_drawing_of_our_own_is_equal_or_wrong() -> None:
    """Those that matplotlib didn't draw have no version."""
    page = '<p><svg><circle cx="5"/></svg></p>'
    assert page_problem(page, page, frozenset()) == ""
    assert "line 1" in page_problem(page.replace("5", "6"), page, frozenset())
    assert (
        page_problem(
            page.replace('cx="5"', 'x="6"'), page.replace("cx", "x"), frozenset(['<svg><circle x="5"/></svg>'])
        )
        == ""
    )


def test_one_name_is_one_thing() -> None:
    two = '<svg><path id="a-1" d="M 0 0"/><path id="a-2" d="M 1 0"/><use href="#a-1"/></svg>'
    assert drawing_problem(two.replace("a-1", "a-f1"), two) == ""
    assert drawing_problem(two.replace("a-2", "a-1"), two) != ""
    assert drawing_problem(two.replace('href="#a-1"', 'href="#a-2"'), two) != ""
    assert drawing_problem(two.replace("a-1", "b-1"), two) != ""


def test_words_of_older_versions_have_the_same_letters() -> None:
    old = (
        '<svg viewBox="0 0 1 1"><text style="fill: red; font: 700 9px \'DejaVu Sans\'; text-anchor: end">x</text></svg>'
    )
    new = old.replace("font: 700 9px 'DejaVu Sans'", "font-weight: 700; font-size: 9px; font-family: 'DejaVu Sans'")
    assert plots._clean(old, "a", "t", "d") == plots._clean(new, "a", "t", "d")
