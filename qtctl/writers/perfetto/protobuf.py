"""The wire format of Protocol Buffers, as far as writing needs it.

Source: the encoding page of the Protocol Buffers documentation. A message is the concatenation of
its fields.
"""

from __future__ import annotations

from functools import cache

__all__ = ["message", "number", "tag", "text"]


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
    """Return what stands before a field's value: of a number (kind 0), or of bytes (2)."""
    return _varint(field << 3 | kind)


def number(field: int, value: int) -> bytes:
    """Return a field that is a whole number, enum or bool; signed as an int64."""
    return tag(field, 0) + _varint(value & (1 << 64) - 1)


def message(field: int, *parts: bytes) -> bytes:
    """Return a field that is a message of the given fields, or bytes."""
    body = b"".join(parts)
    return tag(field, 2) + _varint(len(body)) + body


def text(field: int, value: str) -> bytes:
    """Return a field that is a text; it must be encodable as UTF-8."""
    return message(field, value.encode())
