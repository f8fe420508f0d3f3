"""Encode fields in the wire format of Protocol Buffers. A message is its fields, concatenated.

Source: the encoding page of the Protocol Buffers documentation.
"""

from __future__ import annotations

from functools import cache

_SMALL = tuple(bytes([value]) for value in range(0x80))


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _SMALL[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@cache
def tag(field: int, kind: int = 0) -> bytes:
    """Return a field's tag: its number and wire type (0: varint, 2: length-delimited)."""
    return _varint(field << 3 | kind)


def number(field: int, value: int) -> bytes:
    """Return an integer, enum or bool field; negative values as int64."""
    return tag(field, 0) + _varint(value & (1 << 64) - 1)


def message(field: int, *parts: bytes) -> bytes:
    """Return a field with a message of the given fields, or with bytes."""
    body = b"".join(parts)
    return tag(field, 2) + _varint(len(body)) + body


def text(field: int, value: str) -> bytes:
    """Return a string field; ``value`` must be encodable as UTF-8."""
    return message(field, value.encode())
