"""Pages from templates, with all text escaped; style and script are separate files, named by their digest.

`shell` holds the common parts of all services' pages: their style, and small comforts from a script.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from charter.ground.measure.paper import style_sheet
from charter_service.web.refusal import NOTHING_HERE, NotFound

SHELL = Path(__file__).parent / "shell"
STYLE = "shell.css"
SHARED = {STYLE: "text/css", "shell.js": "text/javascript"}


class Pages:
    """The templates of a service, and the files that its pages load: media types by name."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.files = {**SHARED, **files}
        self._places = {name: (SHELL if name in SHARED else folder) / name for name in self.files}
        self.environment = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.globals |= {"versions": {name: self._version(name) for name in self.files}}
        self.environment.filters |= {
            "percent": percent,
            "grouped": grouped,
            "decimal": decimal,
            "sentence": sentence,
            "counted": counted,
        }

    def fill(self, template: str, **context: Any) -> Markup:
        """A template's text, for parts of a page."""
        return Markup(self.environment.get_template(f"{template}.html.jinja").render(**context))

    def page(
        self, template: str, status: int = 200, headers: Mapping[str, str] | None = None, **context: Any
    ) -> HTMLResponse:
        """A page."""
        return HTMLResponse(self.fill(template, **context), status, headers=dict(headers or {}))

    def read(self, name: str) -> bytes:
        """The bytes of a file that pages load."""
        place = self._places[name]
        return style_sheet(place).encode() if name == STYLE else place.read_bytes()

    def file(self, name: str, missing: str = NOTHING_HERE) -> Response:
        """A file as an answer. Raises NotFound."""
        if name not in self.files:
            raise NotFound(missing)
        return Response(self.read(name), media_type=self.files[name])

    def _version(self, name: str) -> str:
        return hashlib.sha256(self.read(name)).hexdigest()[:10] if self._places[name].is_file() else "0"


def percent(value: float | None) -> str:
    """A share in percent; a dash if there is none."""
    return "–" if value is None else f"{100 * value:.0f} %"


def decimal(value: float | None, places: int = 2) -> str:
    """A number with `places` decimals and a real minus sign; a dash if there is none."""
    return "–" if value is None else f"{value:.{places}f}".replace("-", "−")


def grouped(value: int) -> str:
    """A count with separated thousands."""
    return f"{value:,}".replace(",", " ")


def sentence(words: str) -> str:
    """A refusal's words as a sentence."""
    return f"{words[:1].upper()}{words[1:]}."


def counted(value: int, singular: str, many: str = "") -> str:
    """A count with its word: "1 vote", "2 votes"."""
    return f"{grouped(value)} {singular if value == 1 else many or singular + 's'}"
