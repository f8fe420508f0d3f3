"""Pages of the kernel's trace buffer, made by hand, and a plain reader of them to compare with."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator

import numpy as np

from qtctl.backends.dtrace.uprobes import Sites
from qtctl.backends.ring.layout import EventFormat, Field, Layout

LAYOUT = Layout(256, 0, 8, 16)
"""Pages far smaller than the kernel's."""
KIND = 2000
"""Number of the kernel event of event 0; the others follow."""
MARK = EventFormat(5, {"buf": Field(16, 0)})
ADDRESS = 0x5555_0000_1000
MISSED, COUNTED = 1 << 31, 1 << 30


def sites(events: int) -> Sites:
    """Give each event a kernel event and an address of its own."""
    numbers = np.arange(events)
    kinds = (numbers + KIND).astype(np.int32)
    return Sites(8, 16, ADDRESS + 16 * numbers.astype(np.int64), numbers.astype(np.int32), kinds)


def probe(
    event: int, *numbers: int, texts: tuple[bytes | None, ...] = (), tid: int = 30300
) -> bytes:
    """Return a record of an event, as the kernel writes it; a text None is NULL."""
    head = struct.pack("=HBBiQ", KIND + event, 0, 0, tid, ADDRESS + 16 * event)
    words = struct.pack(f"={len(numbers)}Q", *(number & 2**64 - 1 for number in numbers))
    words += struct.pack(f"={len(texts)}Q", *(0 if text is None else 77 for text in texts))
    place, fetched, where = len(head) + len(words) + 4 * len(texts), b"", b""
    for text in texts:
        held = b"" if text is None else text + b"\0"
        where += struct.pack("=I", len(held) << 16 | place + len(fetched))
        fetched += held
    return head + words + where + fetched


def mark(text: bytes, tid: int = 30300) -> bytes:
    """Return a write to trace_marker as the kernel keeps it, with old bytes where it wrote none."""
    text += b"\0x" if text.endswith(b"\n") else b"\n\0"
    data = struct.pack("=HBBiQ", MARK.number, 0, 0, tid, ADDRESS) + text
    return data + b"\n\0x"[: -len(data) % 4]


def entry(data: bytes, delta: int = 1) -> bytes:
    """Return a record with its head."""
    data += bytes(-len(data) % 4)
    if 0 < len(data) // 4 <= 28:
        return struct.pack("=I", delta << 5 | len(data) // 4) + data
    return struct.pack("=II", delta << 5, len(data) + 4) + data


def extend(delta: int) -> bytes:
    """Return a time that is added to the next record's."""
    return struct.pack("=II", (delta & (1 << 27) - 1) << 5 | 30, delta >> 27)


def absolute(time: int) -> bytes:
    """Return a time stamp."""
    return struct.pack("=II", (time & (1 << 27) - 1) << 5 | 31, time >> 27 & 2**32 - 1)


def discarded(size: int, delta: int = 1) -> bytes:
    """Return a record that was taken back."""
    return struct.pack("=II", delta << 5 | 29, size + 4) + bytes(size)


def page(
    *entries: bytes, stamp: int = 10, lost: int | None = None, layout: Layout = LAYOUT
) -> bytes:
    """Return a page; ``lost`` is how many records are missing before it, -1: an unknown number."""
    data = b"".join(entries)
    flags, count = 0, b""
    if lost is not None:
        flags = MISSED if lost < 0 else MISSED | COUNTED
        count = b"" if lost < 0 else struct.pack("=Q", lost)
    head = struct.pack("=QQ", stamp, len(data) | flags)
    assert len(head + data + count) <= layout.page_bytes
    return (head + data + count).ljust(layout.page_bytes, b"\0")


def read(data: bytes, layout: Layout = LAYOUT) -> Iterator[tuple[str, int, bytes]]:
    """Yield (what, time, content) of each record, loss and unreadable rest; slowly."""
    for at in range(0, len(data), layout.page_bytes):
        one = data[at : at + layout.page_bytes]
        if len(one) < layout.data_at:
            yield "bad", 0, b""
            continue
        time, commit = struct.unpack_from("=QQ", one)
        if time >= 1 << 62:
            yield "bad", 0, b""
            continue
        end = layout.data_at + (commit & (1 << 27) - 1)
        if commit & MISSED:
            count = one[end : end + 8] if commit & COUNTED else b""
            yield "lost", time, count if len(count) == 8 else b""
        if not (yield from _records(one, layout.data_at, end, time)):
            yield "bad", 0, b""


def _records(
    one: bytes, at: int, end: int, time: int
) -> Generator[tuple[str, int, bytes], None, bool]:
    whole, end = end <= len(one), min(end, len(one))
    while end - at >= 4:
        (word,) = struct.unpack_from("=I", one, at)
        what, delta = word & 31, word >> 5
        if what == 29 and not delta:
            return whole
        first, more = at + 4, 0
        if what in (0, 29, 30, 31):
            if end - at < 8:
                return False
            (more,) = struct.unpack_from("=I", one, first)
            first += 4
        if what == 31:
            stamp = (more << 27 | delta) & (1 << 59) - 1 | time >> 59 << 59
            time = stamp + (stamp < time) * (1 << 59)
        else:
            time += delta + (more << 27) * (what == 30)
        if time >= 1 << 62:
            return False
        size = 0 if what >= 30 else 4 * what if 0 < what < 29 else more - 4 + (-more % 4)
        if size < 0 or size > end - first or (what < 29 and size < 8):
            return False
        if what < 29:
            yield "record", time, one[first : first + size]
        at = first + size
    return whole and at == end
