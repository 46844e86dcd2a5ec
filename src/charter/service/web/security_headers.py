"""Headers that keep browsers strict: pages load nothing but this service's own style and script, stand in no other
site's frame, and are kept by nobody."""

from __future__ import annotations

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
KEPT = "max-age=86400"


def with_headers(given: list[tuple[bytes, bytes]], kept: bool) -> list[tuple[bytes, bytes]]:
    """Headers of an answer with those that every answer has; only style and script may be kept by browsers."""
    there = {name.lower() for name, _ in given}
    wanted = {**HEADERS, "cache-control": KEPT if kept else "no-store"}
    more = [(name.encode(), value.encode()) for name, value in wanted.items() if name.encode() not in there]
    return [*given, *more]


def framed_twice(scope: Scope) -> bool:
    """Whether a request says in two ways where its body ends: by its length, and by pieces. A proxy that believes the
    other one of them takes what follows for a request of somebody else's (RFC 9112, 6.1)."""
    names = {name for name, _ in scope["headers"]}
    return b"content-length" in names and b"transfer-encoding" in names


def address_of(scope: Scope) -> str:
    """The network address that a request came from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"
