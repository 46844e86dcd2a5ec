"""Secrets of a service: random tokens, stored only as digests, and the proofs that forms derive from them.

A token has 256 random bits, so a plain sha256 at rest is enough: there is nothing to guess (OWASP, session management).
"""

import hashlib
import hmac
import secrets


def new_token() -> str:
    """A token that nobody can guess, 43 URL-safe characters."""
    return secrets.token_urlsafe(32)


def new_id() -> str:
    """An identifier of 128 random bits, 32 hex digits: it tells nothing about its neighbours."""
    return secrets.token_hex(16)


def digest_of(token: str) -> str:
    """The stored form of a token: its sha256, 64 hex digits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def proof_of(token: str, purpose: str) -> str:
    """A proof in a page of the token's owner that a form came from that page (CSRF): HMAC-SHA256, 64 hex digits."""
    return hmac.new(token.encode(), purpose.encode(), "sha256").hexdigest()


def proves(token: str, purpose: str, proof: str) -> bool:
    """Whether a form's proof is the one of the token's owner; the time of the check tells nothing."""
    return hmac.compare_digest(proof_of(token, purpose).encode(), proof.encode("utf-8", "surrogatepass"))
