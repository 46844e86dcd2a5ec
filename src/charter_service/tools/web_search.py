"""Search of the web by a server of SearXNG's shape, which the operator names, and the pages of its results.

`GET /search?q=&format=json` gives results with url, title and content. With `fetch`, the first pages that can be read
are the results: what was only found is no source.

Only pages of the public web are read, as a guard against requests into the operator's network. A host's name is
resolved once for each hop; unless all its addresses are public the page is refused. The connection then goes to an
address that was checked, so a name that changes its address gains nothing. Redirects are followed here, hop by hop,
under the same rules. Bytes, time and hops are bounded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore2
import httpx2

from charter.ground.documents.document import Limits, Unreadable
from charter.ground.documents.reading import read_document
from charter_service.tools.settings import WebSearch
from charter_service.tools.tool import ANYWHERE, Domains, ToolFailure, ascii_host, one_text, text_of

SECONDS = 8.0  # for a page, with all its hops
MOST_BYTES = 2_000_000
MOST_HOPS = 4
PORTS = {"http": 80, "https": 443}
KINDS = ("text/html", "application/xhtml+xml", "text/plain", "text/markdown")
AGENT = "charter"
LONGEST_URL = 2000
UNICAST = ipaddress.IPv6Network("2000::/3")
# 6to4, and Teredo with other special uses, which lead to IPv4 addresses; 6to4's former relays; documentation
NOBODYS = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/23", "192.88.99.0/24", "3fff::/20")))
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
_HEADERS = {"user-agent": AGENT, "accept": ", ".join(KINDS), "accept-encoding": "identity"}
LONGEST_QUERY = 400
LONGEST_TITLE, LONGEST_SNIPPET, LONGEST_PAGE = 300, 1000, 3000  # characters for the model
LOOKED_AT = 40  # results of SearXNG's answer
PAGES = Limits(file_mb=2, seconds=5.0)


class NotRead(Exception):
    """A page that isn't read, and why, in words."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it came: the address after redirects, its type, and its bytes."""

    url: str
    kind: str
    data: bytes


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host. Raises OSError."""
    entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in entries]


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet: neither private, loopback, link-local, reserved nor multicast,
    and none that stands for another one."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and (ip not in UNICAST or ip.scope_id is not None):
        return False
    if any(ip in network for network in NOBODYS):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to public addresses alone."""

    def __init__(self, resolve: Resolve = resolve, inner: Any = None) -> None:
        self._resolve, self._inner = resolve, inner or httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Any:
        """A connection to an address of the host that was checked. Raises NotRead."""
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise NotRead("its name has no address") from None
        if not addresses or not all(is_public(address) for address in addresses):
            raise NotRead("its address is not one of the public internet")
        return await self._inner.connect_tcp(
            addresses[0], port, timeout=timeout, local_address=local_address, socket_options=socket_options
        )

    async def connect_unix_socket(self, *_: Any, **__: Any) -> Any:
        """Never."""
        raise NotRead("it is no address of the web")

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)


def _client(backend: GuardedBackend, seconds: float) -> httpx2.AsyncClient:
    transport = httpx2.AsyncHTTPTransport(trust_env=False)
    # the pool is the only place that takes a backend
    transport._pool = httpcore2.AsyncConnectionPool(network_backend=backend, max_keepalive_connections=0)
    return httpx2.AsyncClient(transport=transport, timeout=seconds, trust_env=False, follow_redirects=False)


def check_url(url: str, domains: Domains = ANYWHERE) -> str:
    """The host of an address that may be read, in ASCII. Raises NotRead."""
    try:
        parts = urlsplit(url)
        host, port = ascii_host(parts.hostname or ""), parts.port
    except ValueError:
        raise NotRead("it is no address") from None
    if parts.scheme not in PORTS or not host or len(url) > LONGEST_URL:
        raise NotRead("it is no address of the web")
    if parts.username is not None or parts.password is not None or "\\" in url or not url.isprintable():
        raise NotRead("its address holds a name, a password or odd characters")
    if port is not None and port != PORTS[parts.scheme]:
        raise NotRead("its address names another port than that of its scheme")
    if not domains.admit(host):
        raise NotRead("its site is not among those that the request allows")
    return host


async def read_page(
    url: str, domains: Domains = ANYWHERE, backend: GuardedBackend | None = None, seconds: float = SECONDS
) -> Page:
    """A page of text, after at most four redirects. Raises NotRead."""
    try:
        async with asyncio.timeout(seconds), _client(backend or GuardedBackend(), seconds) as client:
            for _ in range(MOST_HOPS + 1):
                # the host that was checked is the one that is asked
                url = str(httpx2.URL(url, host=check_url(url, domains)))
                async with client.stream("GET", url, headers=_HEADERS) as answer:
                    if answer.is_redirect:
                        url = urljoin(url, answer.headers.get("location", ""))
                        continue
                    return await _page(url, answer)
    except TimeoutError:
        raise NotRead(f"it took over {seconds:g} seconds") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        raise NotRead(f"it can't be reached ({type(error).__name__})") from None
    except (UnicodeError, ValueError):
        raise NotRead("it is no address") from None
    raise NotRead(f"it redirects more than {MOST_HOPS} times")


async def _page(url: str, answer: httpx2.Response) -> Page:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status_code != 200:
        raise NotRead(f"it answers with {answer.status_code}")
    if kind not in KINDS:
        raise NotRead("it is no page of text")
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise NotRead("it is compressed, which was not asked for")
    return Page(url, kind, await read_bytes(answer, MOST_BYTES))


async def read_bytes(answer: httpx2.Response, most: int) -> bytes:
    """The body of an answer. Raises NotRead if it has over `most` bytes."""
    data = bytearray()
    async for part in answer.aiter_raw():
        data += part
        if len(data) > most:
            raise NotRead(f"it has over {most:,} bytes")
    return bytes(data)


class Search:
    """The tool."""

    name, kind = "web_search", "web_search_20250305"
    description = "Searches the web, and gives titles, addresses and text. Answer from them, and name the address."
    schema = one_text("query", "what to search for", LONGEST_QUERY)

    def __init__(self, settings: WebSearch, backend: GuardedBackend | None = None, seconds: float = SECONDS) -> None:
        self._settings, self._backend, self._seconds = settings, backend, seconds

    def run(self, arguments: Mapping[str, Any], domains: Domains = ANYWHERE) -> list[dict[str, Any]]:
        """Results, each with its text."""
        query = text_of(arguments, "query", LONGEST_QUERY)
        return asyncio.run(self._run(query, domains))

    async def _run(self, query: str, domains: Domains) -> list[dict[str, Any]]:
        results = [result for result in await self._ask(query) if _admitted(result, domains)]
        if not self._settings.fetch:
            return results[: self._settings.results]
        tries = results[: 2 * self._settings.fetch]
        pages = await asyncio.gather(*(self._read(result, domains) for result in tries))
        return [page for page in pages if page is not None][: self._settings.fetch]

    async def _ask(self, query: str) -> list[dict[str, Any]]:
        """SearXNG's results. Raises ToolFailure."""
        params = {"q": query, "format": "json"}
        try:
            async with (
                asyncio.timeout(self._seconds),
                httpx2.AsyncClient(timeout=self._seconds, trust_env=False) as client,
                client.stream(
                    "GET", f"{self._settings.url}/search", params=params, headers={"accept-encoding": "identity"}
                ) as answer,
            ):
                if answer.status_code != 200:
                    code = "too_many_requests" if answer.status_code == 429 else "unavailable"
                    raise ToolFailure(code, f"the search answers with {answer.status_code}")  # type: ignore[arg-type]
                body = json.loads(await read_bytes(answer, MOST_BYTES))
        except TimeoutError:
            raise ToolFailure("unavailable", f"the search took over {self._seconds:g} seconds") from None
        except NotRead as error:
            raise ToolFailure("unavailable", f"the search's answer can't be read: {error}") from None
        except (httpx2.HTTPError, OSError):
            raise ToolFailure("unavailable", "the search can't be reached now") from None
        except (ValueError, RecursionError):
            raise ToolFailure("unavailable", "the search answered with something else than JSON") from None
        rows = body.get("results") if isinstance(body, dict) else None
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
