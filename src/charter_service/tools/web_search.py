"""Search of the web by a server of SearXNG's shape, which the operator names, and the pages of its results.

`GET /search?q=&format=json` gives results with url, title and content. With `fetch`, the first pages that can be read
are the results: what was only found is no source.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx2

from charter.ground.documents.document import Limits, Unreadable
from charter.ground.documents.reading import read_document
from charter_service.tools.guarded_web import (
    GuardedBackend,
    NotRead,
    check_url,
    read_bytes,
    read_page,
)
from charter_service.tools.settings import WebSearch
from charter_service.tools.tool import ANYWHERE, Domains, ToolFailure, one_text, text_of

LONGEST_QUERY = 400
SECONDS = 8.0
MOST_BYTES = 2_000_000  # of SearXNG's answer
LONGEST_TITLE, LONGEST_SNIPPET, LONGEST_PAGE = 300, 1000, 3000  # characters for the model
LOOKED_AT = 40  # results of SearXNG's answer
PAGES = Limits(file_mb=2, seconds=5.0)


class Search:
    """The tool."""

    name, kind = "web_search", "web_search_20250305"
    description = (
        "Searches the web, and gives titles, addresses and text. Answer from them, and name the address."
    )
    schema = one_text("query", "what to search for", LONGEST_QUERY)

    def __init__(
        self, settings: WebSearch, backend: GuardedBackend | None = None, seconds: float = SECONDS
    ) -> None:
        self._settings, self._backend, self._seconds = settings, backend, seconds

    def run(self, arguments: Mapping[str, Any], domains: Domains = ANYWHERE) -> list[dict[str, Any]]:
        """Results, each with its text."""
        query = text_of(arguments, "query", LONGEST_QUERY)
        return asyncio.run(self._run(query, domains))

    async def _run(self, query: str, domains: Domains) -> list[dict[str, Any]]:
        results = [one for one in await self._ask(query) if _admitted(one, domains)]
        if not self._settings.fetch:
            return results[: self._settings.results]
        tries = results[: 2 * self._settings.fetch]
        pages = await asyncio.gather(*(self._read(one, domains) for one in tries))
        return [page for page in pages if page is not None][: self._settings.fetch]

    async def _ask(self, query: str) -> list[dict[str, Any]]:
        """SearXNG's results. Raises ToolFailure."""
        where = {"q": query, "format": "json"}
        try:
            async with (
                asyncio.timeout(self._seconds),
                httpx2.AsyncClient(timeout=self._seconds, trust_env=False) as client,
                client.stream(
                    "GET",
                    f"{self._settings.url}/search",
                    params=where,
                    headers={"accept-encoding": "identity"},
                ) as answer,
            ):
                if answer.status_code != 200:
                    code = "too_many_requests" if answer.status_code == 429 else "unavailable"
                    raise ToolFailure(code, f"the search answers with {answer.status_code}")  # type: ignore[arg-type]
                found = json.loads(await read_bytes(answer, MOST_BYTES))
        except TimeoutError:
            raise ToolFailure("unavailable", f"the search took over {self._seconds:g} seconds") from None
        except NotRead as error:
            raise ToolFailure("unavailable", f"the search's answer can't be read: {error}") from None
        except (httpx2.HTTPError, OSError):
            raise ToolFailure("unavailable", "the search can't be reached now") from None
        except (ValueError, RecursionError):
            raise ToolFailure("unavailable", "the search answered with something else than JSON") from None
        rows = found.get("results") if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise ToolFailure("unavailable", "the search answered in another shape than SearXNG's")
        return [result for row in rows[:LOOKED_AT] if (result := _result(row)) is not None]

    async def _read(self, result: Mapping[str, Any], domains: Domains) -> dict[str, Any] | None:
        """A result with its page's text; None if the page can't be read."""
        try:
            page = await read_page(result["url"], domains, self._backend, self._seconds)
            name = "page.html" if "html" in page.kind else "page.txt"
            document = await asyncio.to_thread(read_document, page.data, name, PAGES)
        except (NotRead, Unreadable):
            return None
        return {**result, "url": page.url, "text": document.text[:LONGEST_PAGE], "read": True}


def _result(row: Any) -> dict[str, Any] | None:
    if not isinstance(row, dict) or not isinstance(url := row.get("url"), str):
        return None
    title, snippet, age = (row.get(name) for name in ("title", "content", "publishedDate"))
    return {
        "url": url,
        "title": _clean(title, LONGEST_TITLE) or url,
        "text": _clean(snippet, LONGEST_SNIPPET),
        "page_age": _clean(age, 40) or None,
        "read": False,
    }


def _clean(text: Any, most: int) -> str:
    if not isinstance(text, str):
        return ""
    return " ".join(text[: 4 * most].encode("utf-8", "replace").decode().replace("\0", " ").split())[:most]


def _admitted(result: Mapping[str, Any], domains: Domains) -> bool:
    try:
        check_url(result["url"], domains)
    except NotRead:
        return False
    return True
