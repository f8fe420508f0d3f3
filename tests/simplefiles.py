"""Writes files of the simple backend as QEMU does, and reads them as simply as can be."""

from __future__ import annotations

import struct
from collections.abc import Iterator

ONES = 2**64 - 1
MAGIC = 0xF2B177CB0AA429B4
DROPPED = ONES - 1


def header(version: int = 4) -> bytes:
    return struct.pack("=QQQ", ONES, MAGIC, version)


def mapping(code: int, name: str) -> bytes:
    return struct.pack("=QQI", 0, code, len(name)) + name.encode()


def event(code: int, time_ns: int, *arguments: int | bytes, pid: int = 4711) -> bytes:
    body = b"".join(
        struct.pack("=I", len(one)) + one
        if isinstance(one, bytes)
        else struct.pack("=Q", one & ONES)
        for one in arguments
    )
    return struct.pack("=QQQII", 1, code, time_ns, 24 + len(body), pid) + body


def dropped(count: int, time_ns: int, pid: int = 4711) -> bytes:
    return event(DROPPED, time_ns, count, pid=pid)


def plainly(data: bytes) -> Iterator[tuple[str, int, int, bytes]]:
    """Yield (name, time, pid, arguments) of a faultless file; drops as the name ``dropped``."""
    names, at = {DROPPED: "dropped"}, 24
    while at < len(data):
        (kind, code) = struct.unpack_from("=QQ", data, at)
        if kind == 0:
            (size,) = struct.unpack_from("=I", data, at + 16)
            names[code] = data[at + 20 : at + 20 + size].decode()
            at += 20 + size
        else:
            time_ns, size, pid = struct.unpack_from("=QII", data, at + 16)
            yield names[code], time_ns, pid, data[at + 32 : at + 8 + size]
            at += 8 + size
