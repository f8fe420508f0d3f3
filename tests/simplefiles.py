"""Writes files of the simple backend as QEMU does, and reads them as simply as can be."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from qtctl.backends.simple.forms import Form

ONES = 2**64 - 1
MAGIC = 0xF2B177CB0AA429B4
DROPPED = ONES - 1
KINDS = [Form(version, order) for version in (0, 2, 3, 4) for order in ("little", "big")]

#: Id, time in ns and arguments.
Row = tuple[int, int, tuple[int | bytes, ...]]


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


def file_of(form: Form, names: Sequence[str], records: Iterable[Row]) -> bytes:
    """Write a file as the ``trace/simple.c`` of that version does."""
    sign = ">" if form.order == "big" else "<"

    def pack(fields: str, *values: int) -> bytes:
        return struct.pack(sign + fields, *values)

    out = pack("QQQ", ONES, MAGIC, form.version) + bytes(0 if form.version else 40)
    if form.version == 4:
        for code, name in enumerate(names):
            out += pack("QQI", 0, code, len(name)) + name.encode()
    for code, time_ns, arguments in records:
        if form.version == 0:
            moment = 0 if code == DROPPED else time_ns
            words = [0x7F00 if isinstance(one, bytes) else one & ONES for one in arguments]
            out += pack("QQ6Q", code, moment, *(words + [0] * 6)[:6])
            continue
        body = b"".join(
            pack("I", len(one)) + one if isinstance(one, bytes) else pack("Q", one & ONES)
            for one in arguments
        )
        pid = 0 if form.version == 2 else 4711
        kind = pack("Q", 1) if form.version == 4 else b""
        out += kind + pack("QQII", code, time_ns, 24 + len(body), pid) + body
    return out


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
