"""Texts that another text encodes: in digits, in letters of other alphabets, by a cipher without a key, out of order.

A decoded text counts only if it reads like natural language. Decoding is repeated on what was decoded, at most DEPTH
times, and all of it together is bounded by DECODED texts and LONGEST characters.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import string
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from charter.ground.moderation import vocabulary
from charter.ground.moderation.spelling import respell, upright

ROUND = 32  # most runs decoded
DEPTH = 4  # times that a decoded text is decoded again
DECODED = 32  # most texts decoded from one
LONGEST = 20_000  # characters of a decoded text that are decoded again
VARIED = 5  # least different characters of a decoded text
STRAY = 3  # bytes of a run that needn't be text
SKIPPED = 5  # digits that may precede a hexadecimal run
ENCODED = 16  # least characters of a run that may be encoded text
LEAST_CODES = 8  # numbers or signs in a row that may be letters
CODES = 500  # most of them that are read as one text
REGION = 1_000  # characters between the first and the last unknown word that are deciphered
STRANGE = 0.5  # share of known words below which a region may be ciphered
_BASE64 = re.compile(rf"[A-Za-z0-9+/_-]{{{ENCODED},}}={{0,2}}")
_HEX = re.compile(rf"(?:[0-9a-fA-F]{{2}}[\s:]?){{{ENCODED // 2 - 1},}}[0-9a-fA-F]{{2}}")
_HEX_ALONE = re.compile(rf"(?<!\w){_HEX.pattern}")  # not the "de" of "Decode"
_BASE32 = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z2-7]{16,}|[a-z2-7]{24,})(?![A-Za-z0-9])")
_UU = re.compile(r"(?=(?:^|(?<=\s))([!-M][ -`]{4,60})$)", re.MULTILINE)  # a line, or its end
_BASE85 = re.compile(r"[!-~]{20,4000}")
_CODE = r"(?:0[xXbBoO]|\\[xob]?|[&%=#xuU]{1,2}\+?)?[0-9a-fA-F]{1,8}"
_CODES = re.compile(rf"(?<![\w.]){_CODE}(?:[\s,;:/|.-]{{1,3}}{_CODE}){{{LEAST_CODES - 1},{CODES}}}(?!\.?\w)")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_DIALLED = re.compile(r"(?<!\S)[2-9]{1,16}(?:[ \n,/.-]{1,3}[2-9]{1,16}){3,99}(?!\S)")
_BITS = re.compile(r"(?<!\d)[01]{56,}(?!\d)")
_JOINED_HEX = re.compile(r"(?:(?:0x|=|\\x)[0-9a-fA-F]{2}){8,}")
_DOTS = str.maketrans(
    {".": ".", "\u00b7": ".", "\u2022": ".", "-": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-", "_": "-"}
)
_SIGN = r"[.\u00b7\u2022_\u2013\u2014\u2212-]{1,6}"
_MORSE = re.compile(rf"(?<![^\s/|]){_SIGN}(?:[ \n/|]{{1,4}}{_SIGN}){{7,}}(?![^\s/|])")
_MORSE_CODES = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
    "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----. .-.-.- --..-- ..--.. -....-"
)
_MORSE_LETTERS = dict(zip(_MORSE_CODES.split(), "abcdefghijklmnopqrstuvwxyz0123456789.,?-", strict=True))
_BRAILLE = {
    0x2800 + dots: letter
    for dots, letter in zip(
        (1, 3, 9, 25, 17, 11, 27, 19, 10, 26, 5, 7, 13, 29, 21, 15, 31, 23, 14, 30, 37, 39, 58, 45, 61, 53),
        string.ascii_lowercase,
        strict=True,
    )
} | {0x2800: " "}
_BRAILLED = re.compile("[\u2800-\u283f][\u2800-\u283f\\s]{6,}")
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{8,}")
_RADIO = (
    "alfa alpha bravo charlie delta echo foxtrot golf hotel india juliett juliet kilo lima mike november oscar papa "
    "quebec romeo sierra tango uniform victor whiskey whisky xray yankee zulu"
)
_NATO = {word[:5]: word[0] for word in _RADIO.split()}
_NAMES = re.compile(r"[A-Za-z]{4,8}(?:[ ,/-]{1,3}[A-Za-z]{4,8}){7,400}")
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_LEET = str.maketrans("013457@$", "oieastas")
_MORE_LEET = str.maketrans("0123456789@$!+|", "oizeasgtbgasitl")
_COMMON = re.compile(
    r"\b(?:an?|and|are|as|for|from|how|in|is|it|of|on|that|the|this|to|what|with|your?)\b", re.IGNORECASE
)
# letters of English by frequency, in percent, a to z
_FREQUENCY = (
    8,
    1.5,
    2.8,
    4.2,
    12.6,
    2.2,
    2,
    6,
    7,
    0.2,
    0.8,
    4,
    2.4,
    6.8,
    7.5,
    2,
    0.1,
    6,
    6.3,
    9,
    2.8,
    1,
    2.4,
    0.2,
    2,
    0.1,
)
_LOWER = string.ascii_lowercase
_PLACES = {str(n): letter for n, letter in enumerate(_LOWER, 1)} | {f"0{n}": _LOWER[n - 1] for n in range(1, 10)}
# of a telephone, pressed once for its first letter, twice for its second; 0 is a blank
_KEYS = {"0": ""} | {
    str(key) * times: letter
    for key, letters in enumerate(["abc", "def", "ghi", "jkl", "mno", "pqrs", "tuv", "wxyz"], 2)
    for times, letter in enumerate(letters, 1)
}
_SHIFTS = [
    str.maketrans(_LOWER + _LOWER.upper(), (_LOWER[n:] + _LOWER[:n]) + (_LOWER[n:] + _LOWER[:n]).upper())
    for n in range(26)
]
_MIRROR = str.maketrans(_LOWER + _LOWER.upper(), _LOWER[::-1] + _LOWER[::-1].upper())


def decode_runs(text: str) -> str:
    """A text with its base64 and hexadecimal runs decoded in place, if the result is readable: classifiers can't read
    the runs, and the words around them say what to do with them."""

    def decode_run(run: re.Match[str], decode: Callable[[str], str]) -> str:
        return next(_readable(decode(run[0])), run[0])

    for form, decode in ((_BASE64, _from_base64), (_HEX_ALONE, _from_hex)):
        text = form.sub(lambda run, decode=decode: decode_run(run, decode), text)  # type: ignore[misc]
    return text


def invisible(text: str) -> list[str]:
    """Texts in characters that nobody sees: tags (U+E0020 to U+E007E), bytes as variation selectors."""
    tags = ["".join(chr(ord(tag) - 0xE0000) for tag in run) for run in _TAGS.findall(text)[:ROUND]]
    for run in _SELECTORS.findall(text)[:ROUND]:
        places = [ord(c) - 0xFE00 if ord(c) < 0xFE10 else ord(c) - 0xE0100 + 16 for c in run]
        tags.append(bytes(places).decode(errors="ignore"))
    return [tag for tag in tags if tag.strip()]


def decode_all(text: str, also: Sequence[str] = ()) -> list[str]:
    """The decoded texts of a text and of others found in it, and of these, as far as they read like natural
    language."""
    decoded, level, texts = [*also], [text, *also], {text, *also}
    for _ in range(DEPTH):
        following = list[str]()
        for decoding, readable in (pair for source in level for pair in islice(_undo(source), DECODED)):
            if decoding in texts or len(decoded) >= DECODED:
                continue
            texts.add(decoding)
            following.append(decoding[:LONGEST])
            if readable:
                decoded.append(decoding)
        level = following[:ROUND]
    return decoded


def decodings(text: str) -> Iterator[str]:
    """The decoded texts of a text, decoded once, if they read like natural language."""
    return (decoding for decoding, readable in _undo(text) if readable)


def common_words(text: str) -> int:
    """Number of words that are common in every English text."""
    return len(_COMMON.findall(text))


def select(parts: list[str], most: int, wished: Callable[[str], object] = bool) -> list[str]:
    """At most `most` parts of a text: the first quarter, the last half, and of the others the `wished` ones first."""
    if len(parts) <= most:
        return parts
    first, last = parts[: most // 4], parts[-most // 2 :]
    middle = sorted(parts[most // 4 : -most // 2], key=lambda part: not wished(part))
    return [*first, *middle[: most - len(first) - len(last)], *last]


def _undo(text: str) -> Iterator[tuple[str, bool]]:
    """Each text that a text encodes, and whether it reads like natural language; others may be decoded further."""
    for decoded in _from_runs(text):
        readable = any(_readable(decoded))
        if readable or _is_printable(decoded):
            yield decoded, readable
    for letters in _from_signs(text):
        sense = _sense(letters)
        if sense or _is_printable(letters):
            yield sense or letters, bool(sense)
    for part in select([p for p in dict.fromkeys(_SENTENCE.split(text)) if len(p) >= ENCODED], 2 * ROUND):
        yield from ((decoding, True) for decoding in _from_part(part))


def _from_runs(text: str) -> Iterator[str]:
    """Runs in the alphabets of base64, base32, base85 and hexadecimal digits, decoded."""
    for run in [*_BASE64.findall(text), *_BASE64.findall("".join(text.split()))][:ROUND]:
        for piece in dict.fromkeys((run, *re.split("[/_-]", run), re.sub("[_-]", "", run))):
            if len(piece) >= ENCODED:
                yield _from_base64(piece)
        yield from (_from_base64(variant) for variant in (codecs.encode(run, "rot13"), run[::-1]))
    for run in _HEX.findall(text)[:ROUND]:
        yield _from_hex(run)
    for run in _JOINED_HEX.findall(text)[:ROUND]:
        yield _from_hex(re.sub(r"0x|=|\\x", "", run))
    for run in _BASE32.findall(text)[:ROUND]:
        yield _from_bytes(base64.b32decode, run.upper() + "=" * (-len(run) % 8))
    yield "".join(_from_uu(run[1]) for run in islice(_UU.finditer(text), ROUND))
    for run in _BASE85.findall(text)[:ROUND]:
        yield _from_bytes(base64.b85decode, run)
        yield _from_bytes(base64.a85decode, run.removeprefix("<~").removesuffix("~>"))


def _from_signs(text: str) -> Iterator[str]:
    """Letters written as numbers, bits, Morse code, Braille, the alphabet of radio, and invisible characters."""
    for run in _CODES.findall(text)[:ROUND]:
        yield from _from_codes(run)
    for run in _DIALLED.findall(text)[:ROUND]:
        yield vocabulary.from_keys(run)
    for run in _BITS.findall(text)[:ROUND]:
        for size in (8, 7):
            yield "".join(chr(int(run[at : at + size], 2)) for at in range(0, len(run) - size + 1, size))
    for run in _MORSE.findall(text)[:ROUND]:
        words = re.split(r"\s*[/|]\s*| {2,}|\n", run.translate(_DOTS).strip())
        yield " ".join("".join(_MORSE_LETTERS.get(code, "#") for code in word.split()) for word in words)
    for run in _BRAILLED.findall(text)[:ROUND]:
        yield run.translate(_BRAILLE)
    if "ango" in text or "omeo" in text or "cho" in text:
        for run in _NAMES.findall(text)[:ROUND]:
            yield "".join(_NATO.get(word.lower()[:5], "#") for word in re.findall(r"\w+", run))
    yield upright(text)


def _from_codes(run: str) -> Iterator[str]:
    """Numbers as letters: bits, hexadecimal, decimal or octal codes, or places in the alphabet."""
    tokens = [re.sub(r"^(?:0[xXbBoO]|\\[xob]?|[&%=#xuU]{1,2}\+?)(?=.)", "", t) for t in re.split(r"[\s,;:/|.-]+", run)]
    if all(len(t) in (7, 8) and set(t) <= {"0", "1"} for t in tokens):
        bases = [2]
    else:
        decimal = all(t.isdigit() for t in tokens)
        bases = [10, 16, 8] if decimal and all(set(t) <= set("01234567") for t in tokens) else [10, 16]
        bases = bases if decimal else [16]
    for base in bases:
        numbers = [int(token, base) for token in tokens]
        if all(32 <= n < 127 or n in (9, 10, 13) for n in numbers):
            yield "".join(map(chr, numbers))
    words = re.split(r"\s*[/|,]\s*|\s+" if "-" in run or "." in run else r"\s*[/|]\s*|\s{2,}|\n|-|\b0\b", run)
    for letters in (_PLACES, _KEYS):
        if all(t in letters for t in tokens):
            yield " ".join("".join(letters[n] for n in re.findall(r"\d+", word)) for word in words)


def _from_part(part: str) -> Iterator[str]:
    """A part of a text read backwards, deciphered, or in plain letters, as far as that reads like English."""
    if "%" in part and (unquoted := urllib.parse.unquote(part)) != part:
        yield unquoted
    least = common_words(part)
    for variant in (codecs.encode(part, "rot13"), part[::-1]):
        if common_words(variant) > least:
            yield variant
    if common_words(spelled := part.translate(_LEET)) > least + 1:  # a lone 4 is not a word
        yield spelled
    if vocabulary.reads(spelled := part.translate(_MORE_LEET)) and not vocabulary.reads(part):
        yield spelled
    if vocabulary.reads(spelled := vocabulary.restore_masked(part)) and spelled != part:
        yield spelled
    yield from dict.fromkeys(_decipher(part))


def _decipher(part: str) -> Iterator[str]:
    """What the unknown words of a part say by a shift of the alphabet, its mirror, or in another order of letters."""
    unknown = [word for word in vocabulary.WORD.finditer(part) if not vocabulary.is_known(word[0])]
    if len(unknown) < 3:
        return
    ordered = vocabulary.restore_order(part)
    unknown_left = sum(not vocabulary.is_known(word) for word in vocabulary.WORD.findall(ordered))
    if 2 * unknown_left < len(unknown) and vocabulary.reads(ordered) and vocabulary.known_share(ordered) > 0.8:
        yield ordered
    region = part[unknown[0].start() : unknown[-1].end()][:REGION]
    region += part[unknown[-1].end() :].partition(" ")[0]
    if vocabulary.known_share(region) > STRANGE:
        return
    shifts = sorted(_SHIFTS, key=lambda shift: _fit(region.translate(shift)))[-2:]
    for key in (*shifts, _MIRROR, {}):
        deciphered = region.translate(key)
        backwards = _WORD.sub(lambda word: word[0][::-1], deciphered)
        turned = [_WORD.sub(lambda word, at=at: word[0][at:] + word[0][:at], deciphered) for at in (-1, 1)]  # type: ignore[misc]
        for order in (deciphered, deciphered[::-1], backwards, *turned):
            yield from _if_english(order)
    yield from _if_english(vocabulary.from_pig_latin(region))
    # pairs of digits and abbreviations are shorter than words without vowels
    if (
        region.isascii()
        and sum(char in "aeiouAEIOU" for char in region) < 0.1 * len(region)
        and len(region) > 3.5 * len(region.split())
    ):
        yield from _if_english(vocabulary.restore_vowels(part))


def _if_english(text: str) -> Iterator[str]:
    if vocabulary.reads(text):
        yield text


def _fit(text: str) -> float:
    """How much a text's letters have the frequencies of English."""
    lower = text.lower()
    return sum(share * lower.count(letter) for letter, share in zip(_LOWER, _FREQUENCY, strict=True))


def _sense(text: str) -> str:
    """A text of letters with spaces between its words, if it consists of English ones; else ""."""
    if vocabulary.reads(text):
        return text
    letters = "".join(text.split())
    if letters.isascii() and letters.isalpha() and len(letters) >= ENCODED:
        return vocabulary.divide(letters)
    return respell(text) if vocabulary.reads(respell(text)) else ""


def _readable(decoded: str) -> Iterator[str]:
    if len(decoded) < ENCODED // 2 or len(set(decoded)) < VARIED or _CONTROL.search(decoded):
        return
    if sum(c.isalpha() or c.isspace() for c in decoded) > 0.8 * len(decoded):
        yield decoded


def _is_printable(decoded: str) -> bool:
    """Whether a decoded text consists of characters of ASCII that people write, and so may be encoded once more."""
    if len(decoded) < ENCODED // 2 or _CONTROL.search(decoded):
        return False
    return sum(c.isascii() for c in decoded) > 0.95 * len(decoded)


def _from_base64(run: str) -> str:
    """The decoded run if it is text, apart from a byte or two at its ends."""
    raw = run.rstrip("=").replace("-", "+").replace("_", "/")
    raw = raw[:-1] if len(raw) % 4 == 1 else raw
    try:
        decoded = base64.b64decode(raw + "=" * (-len(raw) % 4))
    except (binascii.Error, ValueError):
        return ""
    text = decoded.decode(errors="ignore")
    return text if len(text.encode()) >= len(decoded) - STRAY else ""


def _from_bytes(decode: Callable[[str], bytes], run: str) -> str:
    try:
        return decode(run).decode()
    except (binascii.Error, ValueError):
        return ""


def _from_uu(run: str) -> str:
    """The text of a line of uuencode whose first letter tells its length, else ""."""
    size = (ord(run[0]) - 32) % 64
    if len(run) - 1 > -(-size // 3) * 4 or len(run) - 1 < size * 4 / 3 - 2:
        return ""
    return _from_bytes(binascii.a2b_uu, run)


def _from_hex(run: str) -> str:
    """The decoded run, from its first digit, or from a later one if letters before it look like digits."""
    digits = re.sub(r"[\s:]", "", run)
    for start in range(SKIPPED):
        remaining = digits[start:]
        try:
            return bytes.fromhex(remaining[: len(remaining) // 2 * 2]).decode()
        except (ValueError, UnicodeDecodeError):
            continue
    return ""
