"""Reads files by blocks and unpacks .gz and .zst. A few bytes may unpack to gigabytes, but memory holds only about
one block."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader

import zstandard

BLOCK = 1 << 20
# errors for damaged files, besides OSError
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
_ZSTD_INPUT, _ZSTD_OUTPUT = 1 << 10, 1 << 15  # a KiB of zstandard holds at most 32 MiB


def blocks_of(file: BufferedReader, ending: str) -> Iterator[bytes]:
    """The content of a file by blocks of about `BLOCK` bytes. Raises OSError, and `BROKEN` for damaged files."""
    if ending == ".zst":
        return _zstd_blocks(file)
    whole = gzip.GzipFile(fileobj=file) if ending == ".gz" else file
    return iter(lambda: whole.read1(BLOCK), b"")  # yields all content before a fault


def _zstd_blocks(file: BufferedReader) -> Iterator[bytes]:
    """All frames. A truncated frame is an error, which the library's own reader ignores."""
    frame, chunks, size = None, list[bytes](), 0
    while data := file.read(_ZSTD_INPUT):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj(write_size=_ZSTD_OUTPUT)
            chunks.append(frame.decompress(data))
            size += len(chunks[-1])
            data = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
            if size >= BLOCK:
                yield b"".join(chunks)
                chunks, size = [], 0
    if size:
        yield b"".join(chunks)
    if frame is not None:
        raise EOFError("compressed data ends before its frame does")
