"""The file format GGUF, versions 2 and 3, little endian: metadata by key, and the tensors where they lie.

    magic, version (4 bytes each), tensors, keys (8 each)
    each key      text, type (4), value; a text is its length (8) and UTF-8; a list its type (4), length (8) and entries
    each tensor   text, dimensions (4), extents (8 each), type (4), offset (8)
    data          from the next multiple of general.alignment on

Every number is checked against the rest of the file before it is used: such files come from strangers, and a list may
claim 2^60 entries.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import quant_shape_to_byte_shape
from numpy.typing import NDArray

from charter.ground.artifact.foreign import regular

MOST_KEYS, MOST_TENSORS = 10_000, 100_000
MOST_TEXTS = 2**22  # in lists: a vocabulary and its merges
LONGEST_TEXT = 2**24  # bytes
MOST_EXTENTS = 4
_TEXT, _LIST, _BOOL = 8, 9, 7
_NUMBERS: dict[int, np.dtype[Any]] = {
    0: np.dtype("u1"),
    1: np.dtype("i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    _BOOL: np.dtype("?"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
_PLAIN: dict[GGMLQuantizationType, np.dtype[Any]] = {
    GGMLQuantizationType.F64: np.dtype("<f8"),
    GGMLQuantizationType.F32: np.dtype("<f4"),
    GGMLQuantizationType.F16: np.dtype("<f2"),
    GGMLQuantizationType.I8: np.dtype("i1"),
    GGMLQuantizationType.I16: np.dtype("<i2"),
    GGMLQuantizationType.I32: np.dtype("<i4"),
    GGMLQuantizationType.I64: np.dtype("<i8"),
}


@dataclass(frozen=True, eq=False)
class GgufTensor:
    """`extents` fastest first, as the file has them; `data`: numbers, or bytes of a quantised type, slowest first."""

    name: str
    kind: GGMLQuantizationType
    extents: tuple[int, ...]
    data: NDArray[Any]


@dataclass(frozen=True, eq=False)
class GgufFile:
    """Metadata by key (lists of numbers are arrays) and tensors by name; their data is read at its first use."""

    values: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """Reads the header. Raises OSError if it is no regular file, ValueError if it isn't whole."""
        if not regular(path).stat().st_size:
            raise ValueError("the file is empty")
        content = np.memmap(path, np.uint8, "r")
        walk = _Walk(content)
        magic, version = walk.number("<I"), walk.number("<I")
        if magic != 0x46554747:
            raise ValueError("it doesn't begin with GGUF")
        if version not in (2, 3):
            raise ValueError(f"its version is {version}; read are 2 and 3, little endian")
        tensors, keys = walk.count(24, MOST_TENSORS), walk.count(12, MOST_KEYS)
        values: dict[str, Any] = {}
        for _ in range(keys):
            key, value = walk.text(), walk.value(walk.number("<I"))
            if key in values:
                raise ValueError(f"it has the key {key[:80]!r} twice")
            values[key] = value
        entries = [walk.tensor() for _ in range(tensors)]
        return cls(values, _locate(content, walk.at, values.get("general.alignment", 32), entries))


@dataclass(frozen=True)
class _Entry:
    name: str
    extents: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the data. Raises ValueError if the fastest extent is no whole number of blocks."""
        block, width = GGML_QUANT_SIZES[self.kind]
        if self.extents[0] % block:
            raise ValueError(f"the tensor {self.name[:80]!r} has rows that are no whole blocks")
        return math.prod(self.extents) // block * width


class _Walk:
    """Reads a header from `at` on. All methods raise ValueError past the end of the file."""

    def __init__(self, content: NDArray[np.uint8]) -> None:
        self._content, self.at, self._left = content.data, 0, MOST_TEXTS

    def _take(self, size: int) -> int:
        start = self.at
        if size > len(self._content) - start:
            raise ValueError("it ends before its header does")
        self.at += size
        return start

    def number(self, form: str) -> int:
        """A whole number."""
        value: int = struct.unpack_from(form, self._content, self._take(struct.calcsize(form)))[0]
        return value

    def count(self, least: int, most: int) -> int:
        """How many entries follow, of at least `least` bytes each; at most `most`."""
        entries = self.number("<Q")
        if entries > most or entries * least > len(self._content) - self.at:
            raise ValueError(f"it says that {entries:,} entries follow, more than it has room for or than are read")
        return entries

    def text(self) -> str:
        """A text."""
        length = self.count(1, LONGEST_TEXT)
        start = self._take(length)
        return str(self._content[start : start + length], "utf-8")

    def value(self, kind: int) -> Any:
        """A value of this type: a number, a text, a list of texts, or an array of numbers."""
        if kind == _TEXT:
            return self.text()
        if kind == _LIST:
            inner = self.number("<I")
            if inner == _TEXT:
                length = self.count(8, self._left)
                self._left -= length
                return [self.text() for _ in range(length)]
            return self._array(inner, self.count(_dtype(inner).itemsize, len(self._content)))
        return self._array(kind, 1)[0].item()

    def _array(self, kind: int, length: int) -> NDArray[Any]:
        dtype = _dtype(kind)
        start = self._take(dtype.itemsize * length)
        return np.frombuffer(self._content, dtype, length, start)

    def tensor(self) -> _Entry:
        """The header's entry of a tensor."""
        name, dimensions = self.text(), self.number("<I")
        if not 1 <= dimensions <= MOST_EXTENTS:
            raise ValueError(f"the tensor {name[:80]!r} has {dimensions} dimensions")
        extents = tuple(self.number("<Q") for _ in range(dimensions))
        return _Entry(name, extents, GGMLQuantizationType(self.number("<I")), self.number("<Q"))


def _dtype(kind: int) -> np.dtype[Any]:
    if kind not in _NUMBERS:
        raise ValueError(f"a value of the type {kind}, which is not read")
    return _NUMBERS[kind]


def _locate(content: NDArray[np.uint8], at: int, alignment: object, entries: list[_Entry]) -> dict[str, GgufTensor]:
    """The tensors by name, in the file's order. Raises ValueError if two overlap or one leaves the file."""
    if not isinstance(alignment, int) or not 0 < alignment <= 2**20 or alignment & (alignment - 1):
        raise ValueError("its alignment is no power of two")
    start, end = -(-at // alignment) * alignment, 0
    for entry in sorted(entries, key=lambda item: item.offset):
        if entry.offset < end:
            raise ValueError(f"the tensor {entry.name[:80]!r} lies on another")
        end = entry.offset + entry.size
    if start + end > len(content):
        raise ValueError("it ends before its tensors do")
    tensors: dict[str, GgufTensor] = {}
    for entry in entries:
        if entry.name in tensors:
            raise ValueError(f"it has the tensor {entry.name[:80]!r} twice")
        raw = content[start + entry.offset : start + entry.offset + entry.size]
        shape = tuple(reversed(entry.extents))
        plain = _PLAIN.get(entry.kind)
        if plain is None:
            data = raw.reshape(quant_shape_to_byte_shape(shape, entry.kind))
        else:
            data = raw.view(plain).reshape(shape)
        tensors[entry.name] = GgufTensor(entry.name, entry.kind, entry.extents, data)
    return tensors
