"""Replaces personal data and secrets in a text by placeholders such as <email>, and counts them by kind.

It finds data by shape and, if one exists, by a check: Luhn's digit of cards (ISO/IEC 7812), the remainder 1 modulo
97 of an IBAN (ISO 13616), a plausible exchange of North American telephones, the checksum of a Bitcoin key. These stay:
addresses of nobody (example.com of RFC 2606, addresses for documentation, private networks and this machine), version
and section numbers, placeholders of passwords. It doesn't look for names and postal addresses.

Each pattern is bounded in length and can start only at the border of a run of its characters, so time is linear in
the text. If two matches overlap, the earlier finder wins.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from charter.ground.text.private_numbers import accounts, numbers
from charter.ground.text.secrets import keys, passwords

Span = tuple[int, int, str]

_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-")
_LABEL = r"[^\W_](?:(?:[^\W_]|-){0,61}[^\W_])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.){{1,8}}[A-Za-z]{{2,24}}(?!\w|-\w)")
_NOBODYS = re.compile(r"(?:.*\.)?(?:example(?:\.(?:com|org|net|edu))?|test|invalid|localhost|local)\Z", re.I)
_PICTURE = re.compile(r"\d+x\.(?:png|jpe?g|gif|webp|svg)\Z")
# A product of matrices, or a unit of systemd.
_PROGRAM = re.compile(r"(?:self|cls)\..*|.*\.(?:service|socket|timer|target|slice)\Z")
_TRANSPOSED = re.compile(r"\.T\b")
# Accounts of services that clone and push over SSH, not of persons.
_SERVICES = frozenset({"git", "hg", "svn"})


def scrub(text: str) -> tuple[str, Counter[str]]:
    """The text with placeholders, and their number by kind. A placeholder is never changed again."""
    counts: Counter[str] = Counter()
    spans = _choose_spans(text)
    if not spans:
        return text, counts
    parts, end = [], 0
    for start, stop, kind in spans:
        parts += [text[end:start], f"<{kind}>"]
        counts[kind] += 1
        end = stop
    return "".join([*parts, text[end:]]), counts


def _choose_spans(text: str) -> list[Span]:
    """Spans in order without overlaps; earlier finders take precedence."""
    spans: list[Span] = []
    for finder in (keys, passwords, _emails, accounts, numbers):
        new = list(finder(text))
        if spans and new:
            spans = _merge(spans, new)
        else:
            spans = spans or sorted(new)
    return spans


def _merge(first: list[Span], later: list[Span]) -> list[Span]:
    """Merges both in order, without those of `later` that overlap one of `first`."""
    merged: list[Span] = []
    end = 0
    for start, stop, kind, rank in sorted([(*s, 0) for s in first] + [(*s, 1) for s in later]):
        if start >= end:
            merged.append((start, stop, kind))
            end = stop
        elif rank == 0:
            merged[-1] = (start, stop, kind)
            end = stop
    return merged


def _emails(text: str) -> Iterator[Span]:
    at = text.find("@")
    while at >= 0:
        start = at
        while start > max(0, at - 65) and (text[start - 1] in _LOCAL or _is_apostrophe(text, start - 1)):
            start -= 1
        domain = _DOMAIN.match(text, at + 1) if 0 < at - start <= 64 else None
        if domain and _is_person(text[start:at], domain) and not _ends_credentials(text, start):
            yield start + (text[start] in ".-"), domain.end(), "email"
        at = text.find("@", at + 1)


def _is_apostrophe(text: str, place: int) -> bool:
    """Whether a ' is inside a name, as in o'neil."""
    return text[place] == "'" and text[place - 1 : place].isalpha() and text[place + 1].isalpha()


def _ends_credentials(text: str, start: int) -> bool:
    """Whether this is the start of a password in a web address, which `passwords` has checked."""
    return text[start - 1 : start] == ":" and "://" in text[max(0, start - 70) : start].split()[-1]


def _is_person(local: str, domain: re.Match[str]) -> bool:
    return not (
        local in _SERVICES
        or local.strip(".-") == ""
        or _TRANSPOSED.match(domain.string, domain.end())
        or any(form.match(domain[0]) for form in (_NOBODYS, _PICTURE, _PROGRAM))
    )
