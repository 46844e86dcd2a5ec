"""Security headers: pages load only this service's own style and script, can't be framed by other sites, and aren't
cached."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from starlette.types import Scope

POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
KEPT = "max-age=31536000, immutable"  # pages name each file by its digest


def with_headers(headers: list[tuple[bytes, bytes]], cacheable: bool) -> list[tuple[bytes, bytes]]:
    """Headers of an answer with those that every answer has; browsers may cache only style and script."""
    there = {name.lower() for name, _ in headers}
    wanted = {**HEADERS, "cache-control": KEPT if cacheable else "no-store"}
    more = [(name.encode(), value.encode()) for name, value in wanted.items() if name.encode() not in there]
    return [*headers, *more]


def framed_twice(scope: Scope) -> bool:
    """Whether a request gives the end of its body in two ways: by its length, and by chunks. A proxy that uses the
    other way takes the rest for another client's request (RFC 9112, 6.1)."""
    names = {name for name, _ in scope["headers"]}
    return b"content-length" in names and b"transfer-encoding" in names


def address_of(scope: Scope) -> str:
    """The network address that a request came from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def network_of(scope: Scope) -> str:
    """The network of that address, as one customer of a provider has it: of IPv6 the first 64 bits."""
    address = address_of(scope)
    try:
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(known) if known.version == 4 else str(ip_network((known, 64), strict=False))
