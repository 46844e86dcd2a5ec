"""Search of the web and its pages: no private address is ever reached, and what is sent is bounded."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpcore2
import pytest

from charter_service.tools.settings import WebSearch
from charter_service.tools.tool import ANYWHERE, Domains, ToolFailure
from charter_service.tools.web_search import (
    MOST_BYTES,
    GuardedBackend,
    NotRead,
    Search,
    check_url,
    is_public,
    read_page,
)
from web_double import searx_answer, send, web_server

PUBLIC = "93.184.216.34"
PRIVATE = (
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "192.88.99.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:a00:1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "3fff:fff::1",
    "not an address",
    "",
)
HOSTILE = (
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:ffff:a9fe:a9fe]/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://localhost/",
    "http://localhost./",
    "http://LOCALHOST/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "https://user:pass@example.org/",
    "http://example.org@127.0.0.1/",
    "http://127.0.0.1#@example.org/",
    "http://example.org\\@127.0.0.1/",
    "http://example.org:22/",
    "http://example.org:0/",
    "http://example.org:99999/",
    "http://127.0.0.1:80:80/",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "ftp://example.org/",
    "//127.0.0.1/",
    "http:///",
    "http://",
    "http://[::1",
    "http://exa mple.org/",
    "http://example.org/\r\nHost: x",
    "http://" + "a" * 3000 + ".org/",
    "http://" + "a." * 200 + "org/",
    "http://\ud800.org/",
    "javascript:alert(1)",
    "",
)


class Wire:
    """A resolver and a wire of doubles: names have the addresses of a table, in turn; a connection to a public address
    goes to a server on this machine. It keeps the addresses that connections went to."""

    def __init__(self, port: int = 0, **names: Sequence[str]) -> None:
        self._port, self._names, self.reached = (
            port,
            {k.replace("_", "."): list(v) for k, v in names.items()},
            list[str](),
        )
        self.backend = GuardedBackend(self.resolve, self)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        if (addresses := self._names.get(host)) is not None:
            return [addresses.pop(0) if len(addresses) > 1 else addresses[0]]
        entries = await asyncio.get_running_loop().getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)
        return [str(entry[4][0]) for entry in entries]

    async def connect_tcp(self, host: str, port: int, **how: Any) -> Any:
        self.reached.append(host)
        assert is_public(host), f"a private address was reached: {host}"
        return await httpcore2.AnyIOBackend().connect_tcp("127.0.0.1", self._port, **how)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def read(url: str, wire: Wire, domains: Domains = ANYWHERE, seconds: float = 20.0) -> Any:
    return asyncio.run(read_page(url, domains, wire.backend, seconds))


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700::1111"])
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("url", HOSTILE)
def test_hostile_addresses_reach_nothing(url: str) -> None:
    wire = Wire(localhost=["127.0.0.1"], example_org=[PUBLIC])
    with pytest.raises(NotRead):
        read(url, wire)
    assert wire.reached == []


@pytest.mark.parametrize("address", PRIVATE[:-2])
def test_a_name_of_a_private_address_is_not_reached(address: str) -> None:
    wire = Wire(evil_example=[address])
    with pytest.raises(NotRead, match="not one of the public"):
        read("http://evil.example/", wire)
    assert wire.reached == []


def test_a_name_that_changes_its_address_gains_nothing() -> None:
    with web_server(lambda handler: send(handler, b"hello", "text/plain")) as url:
        wire = Wire(port_of(url), evil_example=[PUBLIC, "127.0.0.1"])
        assert read("http://evil.example/", wire).data == b"hello"
        assert wire.reached == [PUBLIC]  # the address that was checked, and one look-up alone
        with pytest.raises(NotRead, match="not one of the public"):
            read("http://evil.example/", wire)
    assert wire.reached == [PUBLIC]


class Both(Wire):
    async def resolve(self, host: str, port: int) -> Sequence[str]:
        return [PUBLIC, "10.0.0.1"]


def test_a_name_with_a_private_address_among_others_is_not_reached() -> None:
    wire = Both()
    with pytest.raises(NotRead, match="not one of the public"):
        read("http://evil.example/", wire)
    assert wire.reached == []


@pytest.mark.parametrize("url", [url for url in HOSTILE if url.isprintable() and url.isascii() and url])
def test_a_redirect_into_the_network_is_not_followed(url: str) -> None:
    def answer(handler: Any) -> None:
        handler.send_response(302)
        handler.send_header("location", url)
        handler.send_header("content-length", "0")
        handler.end_headers()

    with web_server(answer) as address:
        wire = Wire(port_of(address), good_example=[PUBLIC], localhost=["127.0.0.1"], example_org=["10.0.0.1"])
        with pytest.raises(NotRead):
            read("http://good.example/", wire)
    assert set(wire.reached) == {PUBLIC}


def test_redirects_are_followed_a_few_times_and_within_the_domains() -> None:
    def answer(handler: Any) -> None:
        if handler.path == "/end":
            send(handler, b"arrived", "text/plain")
            return
        handler.send_response(301)
        where = {"/": "/end", "/off": "http://other.example/end"}.get(handler.path, handler.path + "x")
        handler.send_header("location", where)
        handler.send_header("content-length", "0")
        handler.end_headers()

    with web_server(answer) as address:
        wire = Wire(port_of(address), a_example=[PUBLIC], other_example=[PUBLIC])
        page = read("http://a.example/", wire)
        with pytest.raises(NotRead, match="more than 4"):
            read("http://a.example/loop", wire)
        assert read("http://a.example/off", wire).url == "http://other.example/end"
        with pytest.raises(NotRead, match="among those"):
            read("http://a.example/off", wire, Domains(blocked=("other.example",)))
        with pytest.raises(NotRead, match="among those"):
            read("http://a.example/off", wire, Domains(allowed=("a.example",)))
    assert (page.url, page.data) == ("http://a.example/end", b"arrived")


def test_pages_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def answer(handler: Any) -> None:
        if handler.path == "/hang":
            release.wait(30)
        elif handler.path == "/drip":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not release.is_set():
                try:
                    handler.wfile.write(b"x-more: x\r\n")
                    handler.wfile.flush()
                except OSError:
                    return
                time.sleep(0.05)
        elif handler.path == "/large":
            handler.send_response(200)
            handler.send_header("content-type", "text/html")
            handler.end_headers()
            try:
                for _ in range(10_000):
                    handler.wfile.write(b"a" * 100_000)
            except OSError:
                return
        elif handler.path == "/packed":
            handler.send_response(200)
            handler.send_header("content-type", "text/html")
            handler.send_header("content-encoding", "gzip")
            handler.end_headers()
        else:
            send(handler, b"MZ", "application/octet-stream", 404 if handler.path == "/no" else 200)

    with web_server(answer) as address:
        wire = Wire(port_of(address), a_example=[PUBLIC])
        for path, problem, seconds in (
            ("hang", "took over", 0.5),
            ("drip", "took over|reached", 0.5),
            ("large", f"over {MOST_BYTES:,} bytes", 30.0),
            ("packed", "compressed", 30.0),
            ("no", "404", 30.0),
            ("program", "no page of text", 30.0),
        ):
            with pytest.raises(NotRead, match=problem):
                read(f"http://a.example/{path}", wire, seconds=seconds)
        release.set()


# how a resolver reads 1.1.1.1, too
ONE_ADDRESS = ("16843009", "0x01010101", "0X1010101", "0100200401", "1.65793", "1.1.257", "01.0x1.1.001", "１．1.1.1")


@pytest.mark.parametrize(
    ("domains", "host", "may"),
    [
        (Domains(), "a.example", True),
        (Domains(allowed=("example",)), "A.example.", True),
        (Domains(allowed=("a.example",)), "ba.example", False),
        (Domains(blocked=("a.example",)), "x.a.example", False),
        (Domains(blocked=("a.example",)), "xa.example", True),
        (Domains(blocked=("evil.org",)), "ｗｗｗ．ｅｖｉｌ．ｏｒｇ", False),
        (Domains(blocked=("evil.org",)), "evil。org", False),
        (Domains(blocked=("evil.org",)), "ev\u00adil.org", False),
        (Domains(blocked=("Ｅｖｉｌ｡org.",)), "EVIL.org", False),
        (Domains(blocked=("BÜCHER.example",)), "xn--bcher-kva.example", False),
        (Domains(blocked=("xn--BCHER-kva.example.",)), "bu\u0308cher.example", False),
        (Domains(blocked=("straße.example",)), "straẞe.example", False),
        (Domains(allowed=("bücher.example",)), "XN--BCHER-KVA.example.", True),
        (Domains(allowed=("bücher.example",)), "bücher.example.org", False),
        (Domains(blocked=("a_b.example",)), "A_b.example", False),
        *((Domains(blocked=("1.1.1.1",)), host, False) for host in ONE_ADDRESS),
        *((Domains(blocked=(host,)), "1.1.1.1", False) for host in ONE_ADDRESS),
        (Domains(blocked=("1.1.1.1",)), "1.1.1.1.example", True),
        (Domains(blocked=("1.1.1.1",)), "1.1.1.2", True),
        (Domains(blocked=("1.1.1.1",)), "0xfg.99999999999", True),
    ],
)
def test_domains_hold_with_what_is_below_them(domains: Domains, host: str, may: bool) -> None:
    assert domains.admit(host) is may


def test_the_host_that_was_checked_is_the_one_that_is_asked() -> None:
    hosts = list[str]()

    def answer(handler: Any) -> None:
        hosts.append(handler.headers["host"])
        send(handler, b"ok", kind="text/plain")

    with web_server(answer) as url:
        wire = Wire(port_of(url), evil_org=[PUBLIC])
        assert read("http://ｅｖｉｌ。org/x", wire).url == "http://evil.org/x"
        with pytest.raises(NotRead, match="not among those"):
            read("http://ｅｖｉｌ。org/x", wire, Domains(blocked=("evil.org",)))
    assert hosts == ["evil.org"]


def search(url: str, wire: Wire | None = None, seconds: float = 20.0, **settings: Any) -> Search:
    return Search(WebSearch(url=url, **settings), wire.backend if wire else None, seconds)


def test_only_pages_that_were_read_are_sources() -> None:
    results = [
        {"url": "http://a.example/good", "title": "Good", "content": "snippet"},
        {"url": "http://inner.example/", "title": "Inner", "content": "snippet"},
        {"url": "http://127.0.0.1/", "title": "Loopback", "content": "snippet"},
        {"url": "http://a.example/gone", "title": "Gone", "content": "snippet"},
        {"title": "without an address"},
        "no object",
    ]
    page = (
        b"<html><head><title>T</title><script>bad()</script></head><body><h1>Tower</h1><p>74 metres</p></body></html>"
    )

    def answer(handler: Any) -> None:
        if handler.path.startswith("/search"):
            send(handler, searx_answer(*results))  # type: ignore[arg-type]
        else:
            send(handler, page, "text/html; charset=utf-8", 404 if "gone" in handler.path else 200)

    with web_server(answer) as url:
        wire = Wire(port_of(url), a_example=[PUBLIC], inner_example=["10.0.0.1"])
        read_pages = search(url, wire, fetch=3).run({"query": "tower"})
        unread = search(url, wire).run({"query": "tower"}, Domains(allowed=("a.example",)))
    assert [(one["url"], one["read"]) for one in read_pages] == [("http://a.example/good", True)]
    assert "74 metres" in read_pages[0]["text"]
    assert "bad()" not in read_pages[0]["text"]
    assert [one["url"] for one in unread] == ["http://a.example/good", "http://a.example/gone"]
    assert {one["read"] for one in unread} == {False}
    assert set(wire.reached) == {PUBLIC}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"not json", "something else than JSON"),
        (b"[" * 100_000, "something else than JSON"),
        (b"[]", "another shape"),
        (b'{"results": 3}', "another shape"),
        (b"\xff\xfe", "something else than JSON"),
        (b" " * (MOST_BYTES + 1), "can't be read"),
    ],
)
def test_an_odd_answer_of_the_search_is_told(body: bytes, problem: str) -> None:
    with web_server(lambda handler: send(handler, body)) as url, pytest.raises(ToolFailure, match=problem) as failure:
        search(url).run({"query": "x"})
    assert failure.value.code == "unavailable"


def test_a_search_that_hangs_fails_or_is_away_is_told() -> None:
    release = threading.Event()
    with web_server(lambda _: bool(release.wait(30)) or None) as url:
        with pytest.raises(ToolFailure, match="took over"):
            search(url, seconds=0.5).run({"query": "x"})
        release.set()
    with pytest.raises(ToolFailure, match="can't be reached"):
        search(url).run({"query": "x"})
    with web_server(lambda handler: send(handler, b"", status=429)) as url, pytest.raises(ToolFailure) as failure:
        search(url).run({"query": "x"})
    assert failure.value.code == "too_many_requests"
    with pytest.raises(ToolFailure, match="at most 400"):
        search(url).run({"query": "x" * 401})


def test_a_query_is_only_a_query() -> None:
    paths = list[str]()

    def answer(handler: Any) -> None:
        paths.append(handler.path)
        send(handler, searx_answer())

    with web_server(answer) as url:
        assert search(url).run({"query": "a&format=html#x /../\r\nX: y"}) == []
    assert paths == ["/search?q=a%26format%3Dhtml%23x+%2F..%2F%0D%0AX%3A+y&format=json"]


def test_a_plain_address_may_be_read() -> None:
    assert check_url("https://example.org/a?b=c#d") == "example.org"
    assert check_url("http://example.org:80/") == "example.org"
