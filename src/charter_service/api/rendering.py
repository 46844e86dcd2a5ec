"""The pages of a server: its templates, style and script, and error pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from charter_service.api.errors import ApiError
from charter_service.api.service import Service
from charter_service.api.wire.reading import secret_of
from charter_service.web.pages import Pages

HERE = Path(__file__).parent / "pages"
PAGES = Pages(HERE, {"serve.css": "text/css", "workbench.js": "text/javascript", "icon.svg": "image/svg+xml"})
ADMIN = "/admin"
PLACES = ("/", "/docs", "/report", ADMIN)
HEADINGS = {
    401: "Not with this key",
    403: "Not allowed",
    404: "Nothing here",
    405: "Not this way",
    409: "Decided already",
    413: "Too long",
    415: "Not a form",
    429: "A little slower",
    500: "Out of order",
}


def when(time: str | None) -> str:
    """A time for people, to the minute (UTC); a dash if there is none."""
    return f"{time[:10]} {time[11:16]}" if time else "–"


def short(id: str) -> str:
    """The beginning of an id, enough to tell it from others."""
    return id if len(id) <= 16 else f"{id[:14]}…"


PAGES.environment.filters |= {"when": when, "short": short}


def page(request: Request, template: str, title: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page of the server."""
    service: Service = request.app.state.service
    values: Mapping[str, Any] = {"visit": None, "here": request.scope["path"], **context}
    return PAGES.page(template, status, name=service.config.name, title=title, **values)


def wants_page(request: Request) -> bool:
    """Whether the request comes from a person: on one of the pages, or anywhere with a browser, which asks for HTML."""
    path = request.scope["path"]
    ours = path in PLACES or path.startswith(f"{ADMIN}/")
    return (ours or "text/html" in request.headers.get("accept", "")) and not wants_json(request)


def wants_json(request: Request) -> bool:
    """Whether a request wants a page as JSON: by `format=json`, by its accept header, or by sending a key."""
    accepted = request.headers.get("accept", "")
    explicit = request.query_params.get("format") == "json" or bool(secret_of(request))
    return explicit or ("application/json" in accepted and "text/html" not in accepted)


def error_page(request: Request, error: ApiError, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """A refusal as a small page."""
    inside = request.scope["path"].startswith(ADMIN)
    title = HEADINGS.get(error.status, "That did not work")
    response = page(
        request, "error", title, error.status, words=str(error), back=ADMIN if inside else "/", inside=inside
    )
    response.headers.update(headers or {})
    return response
