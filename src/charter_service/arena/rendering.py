"""The pages of the arena: its templates, style and script."""

from __future__ import annotations

from pathlib import Path

from charter_service.web.pages import Pages

HERE = Path(__file__).parent / "pages"
FILES = {"arena.css": "text/css", "arena.js": "text/javascript", "icon.svg": "image/svg+xml"}
PAGES = Pages(HERE, FILES)  # every page has `name`, `title`, and `member`, None if nobody is signed in
fill, page = PAGES.fill, PAGES.page
