"""Requests to the simulated web: sites by name, and ports of hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, urlsplit

from charter.ground.world.programs import answered
from charter.ground.world.sites import cloud, shops
from charter.ground.world.sites.request import Answer, Request
from charter.ground.world.state import Refused, World, noted


def _static(world: World, request: Request) -> Answer:
    return world, 405, "this site takes no forms"


# What answers where a site has no page for the path; `index` is read by `pkg` too.
HANDLERS: Mapping[str, Callable[[World, Request], Answer]] = {
    "static": _static,
    "index": _static,
    "cloud": cloud.accounts,
    "shop": cloud.shop,
    "faucet": shops.faucet,
    "board": shops.board,
    "orders": shops.orders,
    "mock": shops.mock,
}


def asked(world: World, method: str, url: str, values: Mapping[str, str]) -> tuple[World, str]:
    """The world after a request, and what it shows. Raises Refused for an address that nobody answers."""
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        raise Refused("not the address of a page") from None
    path = parts.path.rstrip("/") or "/"
    values = {**dict(parse_qsl(parts.query)), **values}
    if name in world.hosts and port:
        status, text = answered(world.hosts[name], str(port), path, values)
        return noted(world, "asked", f"{name}:{port}{path}"), f"{status} {text}"
    site = world.sites.get(name)
    if site is None:
        raise Refused("no site has this name")
    world = noted(world, method.lower(), f"{name}{path}")
    if method == "GET" and path in site.pages:
        return world, site.pages[path]
    if method == "GET" and site.kind in ("static", "index"):
        return world, "404 no such page"
    world, status, text = HANDLERS[site.kind](world, Request(method, name, path, values))
    return world, f"{status} {text}"
