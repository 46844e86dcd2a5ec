"""Secrets of well-known shapes: keys of services, private keys, passwords in web addresses."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

Span = tuple[int, int, str]

# The start of a key, and a pattern for its rest. The length is bounded, so a long run costs only its length.
_KEYS = {
    "AKIA": r"[0-9A-Z]{16}",
    "ASIA": r"[0-9A-Z]{16}",
    "AIza": r"[\w-]{35}",
    "ghp_": r"[A-Za-z0-9]{36}",
    "gho_": r"[A-Za-z0-9]{36}",
    "ghu_": r"[A-Za-z0-9]{36}",
    "ghs_": r"[A-Za-z0-9]{36}",
    "ghr_": r"[A-Za-z0-9]{36}",
    "github_pat_": r"\w{40,90}",
    "glpat-": r"[\w-]{20}",
    "hf_": r"[A-Za-z]{34}",
    "npm_": r"[A-Za-z0-9]{36}",
    "pypi-AgEIcHlwaS5vcmc": r"[\w-]{50,250}",
    "sk-ant-": r"[\w-]{40,120}",
    "sk-proj-": r"[\w-]{40,200}",
    "sk-": r"[A-Za-z0-9]{32,64}",
    "sk_live_": r"[A-Za-z0-9]{24,99}",
    "rk_live_": r"[A-Za-z0-9]{24,99}",
    "xoxb-": r"[A-Za-z0-9-]{20,80}",
    "xoxp-": r"[A-Za-z0-9-]{20,80}",
    "xoxa-": r"[A-Za-z0-9-]{20,80}",
    "xoxs-": r"[A-Za-z0-9-]{20,80}",
    "SG.": r"[\w-]{22}\.[\w-]{43}",
    "eyJ": r"[\w-]{10,500}\.eyJ[\w-]{10,2000}\.[\w-]{20,700}",
}
# The forbidden prefix of a pattern comes after its first letters, which makes the search ten times faster.
_SHAPES = {
    head: re.compile(rf"{re.escape(head)}(?<![\w-]{re.escape(head)}){rest}(?![\w-])")
    for head, rest in _KEYS.items()
}
_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_LONGEST_BLOCK = 8192
_BITCOIN = re.compile(r"[5KL](?<!\w.)[1-9A-HJ-NP-Za-km-z]{50,51}(?!\w)")
_BASE58 = {c: n for n, c in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}
_CREDENTIALS = re.compile(r"([^\s/:@'\"<>]{1,64}):([^\s/@'\"<>]{1,128})@(?=[\w\[])")
_EXAMPLES = frozenset(
    {"password", "passwd", "pass", "pw", "pwd", "secret", "mypassword", "yourpassword", "***", "xxx"}
)


def keys(text: str) -> Iterator[Span]:
    """Keys of services, private keys in PEM or PGP armour, and private keys of Bitcoin: "key"."""
    for head, shape in _SHAPES.items():
        if head in text:
            yield from ((*match.span(), "key") for match in shape.finditer(text))
    start = text.find("-----BEGIN ")
    while start >= 0:
        end = start + 1
        if opening := _BEGIN.match(text, start):
            closing = _END.search(text, opening.end(), opening.end() + _LONGEST_BLOCK)
            end = closing.end() if closing else opening.end()
            yield start, end, "key"
        start = text.find("-----BEGIN ", end)
    yield from ((*match.span(), "key") for match in _BITCOIN.finditer(text) if _is_bitcoin(match[0]))


def passwords(text: str) -> Iterator[Span]:
    """User and password before the host of a web address: "password". Placeholders of documentation stay."""
    place = text.find("://")
    while place >= 0:
        match = _CREDENTIALS.match(text, place + 3)
        if match and match[2].lower() not in _EXAMPLES and not set("{}$") & set(match[2]):
            yield match.start(), match.end() - 1, "password"
        place = text.find("://", place + 3)


def _is_bitcoin(key: str) -> bool:
    """Whether the last 4 bytes are the checksum of the others (Base58Check)."""
    value = 0
    for character in key:
        value = value * 58 + _BASE58[character]
    data = value.to_bytes(40, "big").lstrip(b"\0")
    if data[:1] != b"\x80":
        return False
    return hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()[:4] == data[-4:]
