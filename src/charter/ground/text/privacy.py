"""Replaces personal data and secrets in a text by placeholders such as <email>, and counts them by kind.

It finds data by shape and, if one exists, by a check: Luhn's digit of cards (ISO/IEC 7812), the remainder 1 modulo
97 of an IBAN (ISO 13616), a plausible exchange of North American telephones, the checksum of a Bitcoin key. Secrets are
keys of services, private keys, and passwords in web addresses. These stay: addresses of nobody (example.com of RFC
2606, addresses for documentation, private networks and this machine), version and section numbers, placeholders of
passwords. It doesn't look for names and postal addresses.

Each pattern is bounded in length and can start only at the border of a run of its characters, so time is linear in
the text. If two matches overlap, the earlier finder wins. At each possible start of a number, one form after another is
tried; each form has a function that checks the match. A bare row of digits is a telephone number only after a word for
one.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

Span = tuple[int, int, str]

# At least five digits, with little between them. The forbidden prefix of a pattern comes after its first character,
# which makes the search faster. The = of a setting or the comma of a table may precede it.
_START = re.compile(
    r"[+(\d](?<![\w.#$€£-].)(?<!\d,.)(?<!\W=.)"
    r"(?:(?<=[+(])(?=\d)|(?<=\d)(?=\d|\.\d)|(?<=1)(?=[-. ]\(?\d{3}))"
    r"(?=(?:[^\w\n]{0,3}\d){4})"
)
# No word and no part of a version, range, time or path follows; after a telephone number, no decimal either.
_BREAK = r"(?![\w-]|[.:/]\d)"
_NUMBER_END = r"(?![\w-]|[.,:/]\d)"
_CALLING = {
    *("tel", "telephone", "telefon", "telefono", "teléfono", "téléphone", "phone", "mobile", "mobil", "móvil", "cell"),
    *("fax", "call", "dial", "whatsapp", "handy", "电话", "電話", "тел"),
}
_VERSION_BEFORE = re.compile(
    r"(?:(?<![^\W_])(?:v|ver|versions?|release|revision|build|firmware|section|chapter|clause|§)\.?|[\w)]/)"
    r"[\s=]{0,2}\Z",
    re.IGNORECASE,
)
# The codes of countries (ITU-T E.164).
_COUNTRY = re.compile(
    r"1|7|2(?:[07]|1[1-8]|[2-6]|9[0789])|3(?:[0-469]|[578])|4(?:[013-9]|2[013])|5|6(?:[0-6]|[78]|9[0-2])"
    r"|8(?:[1246]|0[08]|5|70|8[06])|9(?:[0-58]|[679])"
)
# A day (05/11/2019, 2019-11-05), a month (11/2019 and a blank) or two years.
_DATE = re.compile(
    r"\(?(?:\d\d?([./-])\d\d?\1(?:19|20)\d\d|(?:19|20)\d\d([./-])\d\d?\2\d\d?"
    r"|(?:0[1-9]|1[0-2])/(?:19|20)\d\d(?= )|(?:1[5-9]|20)\d\d ?[-/] ?(?:1[5-9]|20)\d\d)(?!\d)"
)
_TIMETABLE = re.compile(r"(?:[01]\d|2[0-3])[0-5]\d(?:[ .\-/](?:[01]\d|2[0-3])[0-5]\d){2,}")
_LEAST_OCTET = 32
_ISSUERS = ((5100, 5599), (2221, 2720), (6011, 6011), (6221, 6229), (6440, 6599), (3528, 3589))
# The sum of the digits of twice a digit.
_DOUBLED = dict(zip("0123456789", (0, 2, 4, 6, 8, 1, 3, 5, 7, 9), strict=True))
_IPV6 = re.compile(r"[23](?<![\w:.].)[0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}(?![\w:])")
_IBAN = re.compile(r"[A-Z](?<!\w.)[A-Z]\d{2}(?= ?[A-Z0-9]{4})")
_IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18"
    " FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20"
    " LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24"
    " SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
)
_LENGTH_OF = {entry[:2]: int(entry[2:]) for entry in _IBAN_LENGTHS.split()}
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
    head: re.compile(rf"{re.escape(head)}(?<![\w-]{re.escape(head)}){rest}(?![\w-])") for head, rest in _KEYS.items()
}
_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_LONGEST_BLOCK = 8192
_BITCOIN = re.compile(r"[5KL](?<!\w.)[1-9A-HJ-NP-Za-km-z]{50,51}(?!\w)")
_BASE58 = {c: n for n, c in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}
_CREDENTIALS = re.compile(r"([^\s/:@'\"<>]{1,64}):([^\s/@'\"<>]{1,128})@(?=[\w\[])")
_EXAMPLES = frozenset({"password", "passwd", "pass", "pw", "pwd", "secret", "mypassword", "yourpassword", "***", "xxx"})
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


def accounts(text: str) -> Iterator[Span]:
    """Spans of international bank account numbers: "iban"."""
    end = 0
    for start in (match.start() for match in _IBAN.finditer(text)):
        length = _LENGTH_OF.get(text[start : start + 2])
        match = _groups(length).match(text, start) if length and start >= end else None
        if match and _is_iban(match[0]):
            end = match.end()
            yield start, end, "iban"


def numbers(text: str) -> Iterator[Span]:
    """Spans of other numbers with their kinds: ip, ssn, card, phone."""
    if text.count(":") > 2:
        yield from ((*match.span(), "ip") for match in _IPV6.finditer(text) if _is_public(match[0]))
    end = 0
    for start in (match.start() for match in _START.finditer(text)):
        if start < end:
            continue
        free = start - end < 2 or _is_free(text, start)
        for kind, form, holds in _FORMS if free else _FORMS[:3]:
            match = form.match(text, start)
            if match and holds(match):
                end = match.end()
                yield start, end, kind
                break


@cache
def _groups(length: int) -> re.Pattern[str]:
    """A pattern of `length` characters, in fours with or without blanks between them."""
    sizes = [min(4, length - start) for start in range(0, length, 4)]
    return re.compile(" ?".join(f"[A-Z0-9]{{{size}}}" for size in sizes) + r"(?!\w)")


def _is_iban(text: str) -> bool:
    """Whether the remainder modulo 97 is 1, with letters as numbers from 10."""
    plain = text.replace(" ", "")
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _is_public(text: str) -> bool:
    """Whether an address is public: not private, local, for documentation or reserved."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast and text.count(":") != 2


def _is_ip(match: re.Match[str]) -> bool:
    """Whether an address is public and no version or section number. One part must exceed 31, because numberings stay
    below; the last part can't be 0, which no host has."""
    before = match.string[max(0, match.start() - 24) : match.start()]
    parts = [int(part) for part in match[0].split(".")]
    if max(parts) < _LEAST_OCTET or not parts[-1] or _VERSION_BEFORE.search(before):
        return False
    return _is_public(match[0])


def _is_ssn(match: re.Match[str]) -> bool:
    area, group, serial = match[0].split("-")
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def _is_card(match: re.Match[str]) -> bool:
    """Whether issuers use the length and the first digits, and Luhn's check holds."""
    digits = re.sub(r"[ -]", "", match[0])
    head, length = int(digits[:4]), len(digits)
    if digits[0] == "4":
        fits = length in (13, 16, 19)
    elif head // 100 in (34, 37):
        fits = length == 15
    elif head // 100 in (36, 38) or 3000 <= head < 3060:
        fits = length == 14
    else:
        fits = length == 16 and any(first <= head <= last for first, last in _ISSUERS)
    luhn = sum(map(int, digits[::-2])) + sum(_DOUBLED[digit] for digit in digits[-2::-2])
    return fits and len(set(digits)) > 1 and luhn % 10 == 0


def _is_free(text: str, start: int) -> bool:
    """Whether no path and no longer row of numbers precedes a place."""
    before = text[max(0, start - 2) : start]
    return not before.endswith("/") and not (before[:1].isdigit() and before[-1] in " -")


def _is_world(match: re.Match[str]) -> bool:
    """Whether it is a number with a country's code: 9 to 15 digits; after +1 neither the area nor the exchange starts
    with 0 or 1."""
    digits = re.sub(r"\D", "", match[0])
    digits = digits[2:] if digits.startswith("00") else digits
    if not 9 <= len(digits) <= 15 or not _COUNTRY.match(digits) or not _is_spaced(match[0]):
        return False
    if len(re.findall(r"\d+", match[0])) == 2 and "." in match[0]:
        return False  # a decimal
    return digits[0] != "1" or bool(re.fullmatch(r"1[2-9]\d\d[2-9]\d{6}", digits))


def _is_national(match: re.Match[str]) -> bool:
    """Whether it is a number with a leading 0: 9 to 12 digits in at most 5 groups of at least 2, with one kind of mark
    between them (or a stroke and then another). Dates, times, rows of numbers and addresses with leading zeros are
    not."""
    if _DATE.match(match[0]) or _TIMETABLE.fullmatch(match[0]):
        return False
    groups = re.findall(r"\d+", match[0])
    sizes = [len(group) for group in groups]
    if not 9 <= sum(sizes) <= 12 or not 2 <= len(groups) <= 5 or min(sizes) < 2:
        return False
    if any(group.startswith("000") for group in groups) or (len(groups) == 3 and sizes[:2] == [2, 2]):
        return False
    if len(groups) == 5 and (set(sizes) != {2} or {int(b) - int(a) for a, b in pairwise(groups)} == {1}):
        return False
    marks = re.sub(r"[\d()]", "", match[0]).strip()
    if "." in marks and (len(groups) < 3 or sizes[0] > 2):
        return False
    return len(set(marks.removeprefix("/"))) <= 1 and _is_spaced(match[0])


def _is_called(match: re.Match[str]) -> bool:
    before = match.string[max(0, match.start() - 20) : match.start()].rstrip(" .:=-\t(\"'")
    if not before[-1:].isalpha() or not 7 <= _digits(match[0]) <= 15 or _DATE.match(match[0]):
        return False
    word = re.search(r"[^\W\d_]+\Z", before)
    return word is not None and word[0].lower() in _CALLING


def _is_spaced(text: str) -> bool:
    return not re.search(r"[.\-/]{2}|  |[ (][.\-/)]|\([^)]*\(|\([^)]*\Z", text)


def _digits(text: str) -> int:
    return sum(character.isdigit() for character in text)


# The last four are telephone numbers, which need a free place.
_FORMS: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], bool]], ...] = (
    ("ip", re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w-]|\.\d)"), _is_ip),
    ("ssn", re.compile(rf"\d{{3}}-\d{{2}}-\d{{4}}{_BREAK}"), _is_ssn),
    (
        "card",
        re.compile(
            rf"(?:\d{{4}}([ -]?)\d{{4}}\1\d{{4}}\1\d{{1,7}}|3\d{{3}}([ -])\d{{6}}\2\d{{4,5}}|\d{{13,19}}){_BREAK}"
        ),
        _is_card,
    ),
    ("phone", re.compile(rf"(?:\+|(?<![=,])00(?=[1-9]))\d[\d ().\-/]{{6,24}}\d{_NUMBER_END}"), _is_world),
    (
        "phone",
        re.compile(
            rf"(?:\+?1[-. ])?(?:\([2-9]\d\d\)[ -]?[2-9]\d\d[-. ]|[2-9]\d\d([-.])[2-9]\d\d\1)\d{{4}}{_NUMBER_END}"
        ),
        lambda match: True,
    ),
    (
        "phone",
        re.compile(rf"(?:\(0[1-9]\d{{0,4}}\) ?|0[1-9]\d{{0,4}}[ .\-/])\d[\d .\-/]{{4,12}}\d{_NUMBER_END}"),
        _is_national,
    ),
    ("phone", re.compile(rf"\(?\d[\d ().\-/]{{5,18}}\d{_NUMBER_END}"), _is_called),
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
            closing = _KEY_END.search(text, opening.end(), opening.end() + _LONGEST_BLOCK)
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
