"""Bytes that are nearly right: flipped, cut off, doubled, with other numbers and other lengths. The same for a seed."""

from __future__ import annotations

import random
import re
import struct

NUMBERS = (
    0,
    1,
    2,
    7,
    127,
    128,
    255,
    256,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**48,
    2**60,
    2**63,
    2**64 - 1,
)
_DIGITS = re.compile(rb"-?\d+")


def mutate(data: bytes, seed: int) -> bytes:
    """The bytes with one to four harms."""
    draw = random.Random(seed)
    content = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        draw.choice((_flip, _cut, _splice, _number, _write_binary, _length))(content, draw)
    return bytes(content)


def _flip(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 8)):
        if data:
            data[_place(data, draw)] ^= 1 << draw.randrange(8)


def _cut(data: bytearray, draw: random.Random) -> None:
    if draw.random() < 0.5:
        del data[_place(data, draw) :]
    else:
        at = _place(data, draw)
        del data[at : at + draw.randint(1, 64)]


def _splice(data: bytearray, draw: random.Random) -> None:
    start, to = _place(data, draw), _place(data, draw)
    data[to:to] = data[start : start + draw.randint(1, 256)]


def _number(data: bytearray, draw: random.Random) -> None:
    """Another number in text."""
    places = list(_DIGITS.finditer(bytes(data[:20_000])))
    if places:
        start, end = draw.choice(places).span()
        data[start:end] = str(draw.choice((*NUMBERS, -1, -(2**63), "1e999", "null", "[]", '""'))).encode()


def _write_binary(data: bytearray, draw: random.Random) -> None:
    """A number in binary, small end first, of any width."""
    form = draw.choice(("<B", "<H", "<I", "<Q"))
    width = struct.calcsize(form)
    at = _place(data, draw)
    if at + width <= len(data):
        struct.pack_into(form, data, at, draw.choice(NUMBERS) % 2 ** (8 * width))


def _length(data: bytearray, draw: random.Random) -> None:
    """What is a length somewhere at the beginning or the end says another one."""
    at = draw.choice((0, 4, 8, 12, 16, 24, max(0, len(data) - 8)))
    if at + 8 <= len(data):
        struct.pack_into("<I" if draw.random() < 0.5 else "<Q", data, at, draw.choice(NUMBERS) % 2**32)


def _place(data: bytearray, draw: random.Random) -> int:
    """Anywhere, mostly near the beginning, where headers are."""
    size = max(1, len(data))
    return draw.randrange(size if draw.random() < 0.4 else min(size, 600))
