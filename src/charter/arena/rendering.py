"""Pages from templates, all text escaped; style and script are files of their own, named by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent / "pages"
FILES = {"arena.css": "text/css", "arena.js": "text/javascript", "icon.svg": "image/svg+xml"}
LETTERS = ("A", "B")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates of the service."""
    found = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {"versions": {name: _version(name) for name in FILES}}
    found.filters |= {
        "percent": percent,
        "grouped": grouped,
        "decimal": decimal,
        "sentence": sentence,
        "counted": counted,
    }
    return found


def fill(template: str, **context: Any) -> Markup:
    """A template's text; the parts of a page are filled this way."""
    return Markup(environment().get_template(f"{template}.html.jinja").render(**context))


def page(
    template: str, status: int = 200, headers: Mapping[str, str] | None = None, **context: Any
) -> HTMLResponse:
    """A page; every page has `name`, `title`, and `member`, None where nobody is logged in."""
    return HTMLResponse(fill(template, **context), status, headers=dict(headers or {}))


def read_file(name: str) -> bytes:
    """A file that pages load."""
    return (HERE / name).read_bytes()


def percent(value: float | None) -> str:
    """A share as people read it; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.0f} %"


def decimal(value: float | None, places: int = 2) -> str:
    """A number with so many decimals; a dash where there is none, and a real minus sign."""
    return "–" if value is None else f"{value:.{places}f}".replace("-", "−")


def grouped(value: int) -> str:
    """A count with its thousands apart."""
    return f"{value:,}".replace(",", " ")


def sentence(words: str) -> str:
    """A refusal's words as a sentence."""
    return f"{words[:1].upper()}{words[1:]}."


def counted(value: int, one: str, many: str = "") -> str:
    """A count with its word: "1 vote", "2 votes"."""
    return f"{grouped(value)} {one if value == 1 else many or one + 's'}"


def _version(name: str) -> str:
    path = HERE / name
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10] if path.is_file() else "0"
