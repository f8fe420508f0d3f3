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
own records. ``docs/recording.md`` describes the format byte by byte.
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
# A checksum follows each of these.
_HEADER = struct.Struct("<8sI48s")
_HEAD = struct.Struct("<8s5I")
_TRAILER = struct.Struct("<8sI")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CHECK.size
HEAD_BYTES = _HEAD.size + _CHECK.size
TRAILER_BYTES = _TRAILER.size + _CHECK.size


class ChunkKind(IntEnum):
    """Kind of a chunk; readers skip kinds that they do not know."""

    FACTS = 1
    NAMES = 2
    DATA = 3
    END = 4
    NOTE = 64
    """One JSON object; only on a link between two hosts, never in a file."""


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
        return cls(kind, rows, _checked(head) + stored)

    @classmethod
    def of(cls, kind: ChunkKind, document: Any) -> Chunk:
        """Make a chunk of one JSON document."""
        return cls.pack(kind, json.dumps(document).encode())


def header() -> bytes:
    """Return the header of a recording."""
    return _checked(_HEADER.pack(_MAGIC, VERSION, f"qtctl {WRITER}".encode()[:48]))


def trailer(end: Chunk) -> bytes:
    """Return the trailer behind the END chunk, by which a reader finds it."""
    return _checked(_TRAILER.pack(_LAST, len(end.data)))


def _checked(data: bytes) -> bytes:
    """Return data and its checksum."""
    return data + _CHECK.pack(zlib.crc32(data))


def _is_checked(data: bytes) -> bool:
    """Return whether data ends with its checksum."""
    return data == _checked(data[: -_CHECK.size])


def end_chunk_bytes(tail: bytes) -> int:
    """Return the size of the END chunk from a file's last bytes; 0 if it has no trailer."""
    if len(tail) != TRAILER_BYTES or not tail.startswith(_LAST) or not _is_checked(tail):
        return 0
    return int(_TRAILER.unpack_from(tail)[1])


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
    _, version, writer = _HEADER.unpack_from(head)
    if not _is_checked(head[:HEADER_BYTES]):
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
    if len(raw) < HEAD_BYTES or not raw.startswith(_SYNC) or not _is_checked(raw):
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
