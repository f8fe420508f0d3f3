"""The frame of recordings: a header, then independent chunks. No files.

A chunk has a head with its kind, rows, sizes and checksums, and content that is compressed
separately (zstd). Everything is little-endian.

==========  ====================================================================================
FACTS       one JSON object: the guest, the patterns and filter, when
NAMES       JSON: events with their declarations, numbered on from those of NAMES before
DATA        records as ``packing`` lays them out, and notes (losses, marks, switches) between them
END         one JSON object: sums, and where FACTS and NAMES are; then a trailer that finds it
==========  ====================================================================================

A file that ends anywhere is whole up to its last whole chunk; a chunk that is damaged costs its
own records. ``store`` documents the contents of FACTS, NAMES and DATA.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import zstandard

from qtctl.errors import QtctlError
from qtctl.version import VERSION as WRITER

VERSION = 1
LEVEL = 3
"""Of zstd. Laid out as it is, the content is smaller and no slower to pack than at level 1."""
_LARGEST = 1 << 28
_MAGIC = b"\x89QTREC\r\n"
_SYNC = b"\xf5qtchunk"
_LAST = b"\x89QTREND\n"
_HEADER = struct.Struct("<8sI48sI")
_HEAD = struct.Struct("<8s5I")
_CHECK = struct.Struct("<I")
_TRAILER = struct.Struct("<8sII")
HEADER_BYTES = _HEADER.size
HEAD_BYTES = _HEAD.size + _CHECK.size
TRAILER_BYTES = _TRAILER.size


class ChunkKind(IntEnum):
    """Kind of a chunk; readers skip kinds that they do not know."""

    FACTS = 1
    NAMES = 2
    DATA = 3
    END = 4


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a chunk: how many rows, bytes ``stored`` behind the head, bytes ``raw``."""

    kind: int
    rows: int
    stored: int
    raw: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk to be written: its head and content."""

    kind: ChunkKind
    rows: int
    data: bytes

    @classmethod
    def pack(cls, kind: ChunkKind, raw: bytes, rows: int = 0) -> Chunk:
        """Compress content and put a head before it."""
        stored = zstandard.ZstdCompressor(LEVEL).compress(raw)
        head = _HEAD.pack(_SYNC, kind, rows, len(stored), len(raw), zlib.crc32(stored))
        return cls(kind, rows, head + _CHECK.pack(zlib.crc32(head)) + stored)

    @classmethod
    def of(cls, kind: ChunkKind, document: Any) -> Chunk:
        """Make a chunk of one JSON document."""
        return cls.pack(kind, json.dumps(document).encode())


def header() -> bytes:
    """Return the header of a recording."""
    writer = f"qtctl {WRITER}".encode()[:48]
    begin = _HEADER.pack(_MAGIC, VERSION, writer, 0)[: -_CHECK.size]
    return begin + _CHECK.pack(zlib.crc32(begin))


def trailer(end: Chunk) -> bytes:
    """Return the trailer behind the END chunk, by which a reader finds it."""
    begin = _TRAILER.pack(_LAST, len(end.data), 0)[: -_CHECK.size]
    return begin + _CHECK.pack(zlib.crc32(begin))


def end_chunk_bytes(tail: bytes) -> int:
    """Return the size of the END chunk from a file's last bytes; 0 if it has no trailer."""
    if len(tail) != TRAILER_BYTES:
        return 0
    last, size, check = _TRAILER.unpack(tail)
    return int(size) if last == _LAST and check == zlib.crc32(tail[: -_CHECK.size]) else 0


def is_recording(head: bytes) -> bool:
    """Return whether bytes begin a recording, of any version."""
    return head.startswith(_MAGIC)


def check_header(head: bytes, where: str) -> None:
    """Check the first bytes of a file.

    Raises:
        QtctlError: it is cut off there, or of a version that is not known here.
    """
    if len(head) < HEADER_BYTES:
        raise QtctlError(f"{where} ends in its header, after {len(head)} bytes")
    _, version, writer, check = _HEADER.unpack_from(head)
    if check != zlib.crc32(head[: HEADER_BYTES - _CHECK.size]):
        raise QtctlError(f"{where} is a recording with a damaged header")
    if version != VERSION:
        by = writer.rstrip(b"\0").decode("utf-8", "replace")
        raise QtctlError(
            f"{where} is a recording of version {version}, written by {by}; "
            f"qtctl {WRITER} reads version {VERSION}",
            hint="a newer qtctl",
        )


def read_head(data: bytes, at: int = 0) -> Head | None:
    """Return the head at ``at``; None if there is none."""
    raw = data[at : at + HEAD_BYTES]
    if len(raw) < HEAD_BYTES or raw[:8] != _SYNC:
        return None
    if _CHECK.unpack_from(raw, _HEAD.size)[0] != zlib.crc32(raw[: _HEAD.size]):
        return None
    head = Head(*_HEAD.unpack_from(raw)[1:])
    return head if head.stored <= _LARGEST and head.raw <= _LARGEST else None


def find_head(data: bytes, at: int) -> int:
    """Return the offset of the next head, or -1."""
    while (at := data.find(_SYNC, at)) >= 0:
        if read_head(data, at) is not None:
            return at
        at += 1
    return -1


def content(head: Head, stored: bytes) -> bytes | None:
    """Return a chunk's content; None if it is damaged."""
    if len(stored) != head.stored or zlib.crc32(stored) != head.checksum:
        return None
    try:
        if zstandard.frame_content_size(stored) != head.raw:
            return None
        return zstandard.ZstdDecompressor().decompress(stored)
    except zstandard.ZstdError:
        return None
