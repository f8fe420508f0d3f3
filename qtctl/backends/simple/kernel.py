# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Find the binary records of QEMU's simple backend, and read their arguments.

Callers are ``decoder.py`` and ``arguments.py``. Source: ``trace/simple.c`` of QEMU, checked on 7.2
and 10.2; ``forms.py`` lists the format versions. Nothing is aligned. ``swapped``: the file's byte
order is not this machine's.
"""

import sys

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import pointers, words

if cython.compiled:
    from cython.cimports.libc.string import memcpy

COMPILED: bool = cython.compiled

# Why ``walk`` stopped; the numbers are shared with ``decoder.py``.
MORE, FULL, MAPPING, HEADER, DROPPED, BAD = range(6)
# The same as C variables, for loops without the GIL.
_MORE = cython.declare(cython.int, 0)
_FULL = cython.declare(cython.int, 1)
_MAPPING = cython.declare(cython.int, 2)
_HEADER = cython.declare(cython.int, 3)
_DROPPED = cython.declare(cython.int, 4)
_BAD = cython.declare(cython.int, 5)

_ORDERS = ("little", "big") if sys.byteorder == "little" else ("big", "little")
_ONES = cython.declare(cython.ulonglong, 0xFFFFFFFFFFFFFFFF)
_DROPPED_ID = cython.declare(cython.ulonglong, 0xFFFFFFFFFFFFFFFE)
_MAGIC = cython.declare(cython.ulonglong, 0xF2B177CB0AA429B4)
_ONE = cython.declare(cython.ulonglong, 1)
_LATEST = cython.declare(cython.ulonglong, 1 << 62)
# A record has at most ten arguments, of which QEMU cuts texts at 512 bytes.
_TEXT = cython.declare(cython.longlong, 512)
_LONGEST = cython.declare(cython.ulonglong, 16384)
_IDS = cython.declare(cython.ulonglong, 65536)
_NAME = cython.declare(cython.ulonglong, 256)
# Every record of version 0.
_FIXED = cython.declare(cython.ulonglong, 64)


def _turned(value: cython.ulonglong, size: cython.int) -> cython.ulonglong:
    """Reverse the bytes of a number."""
    found: cython.ulonglong = 0
    _i: cython.int
    for _i in range(size):
        found = (found << 8) | (value & 255)
        value >>= 8
    return found


def _u64(data: cython.p_uchar, at: cython.Py_ssize_t, swapped: cython.bint) -> cython.ulonglong:
    if cython.compiled:
        value = cython.declare(cython.ulonglong)
        memcpy(cython.address(value), data + at, 8)
        return _turned(value, 8) if swapped else value
    else:
        return int.from_bytes(data[at : at + 8], _ORDERS[swapped])


def _u32(data: cython.p_uchar, at: cython.Py_ssize_t, swapped: cython.bint) -> cython.ulonglong:
    if cython.compiled:
        value = cython.declare(cython.uint)
        memcpy(cython.address(value), data + at, 4)
        return _turned(value, 4) if swapped else value
    else:
        return int.from_bytes(data[at : at + 4], _ORDERS[swapped])


def walk(
    data: cython.const[cython.uchar][::1],
    at: cython.Py_ssize_t,
    version: cython.int,
    swapped: cython.bint,
    ids: cython.int[::1],
    pid: cython.longlong[::1],
    event: cython.int[::1],
    time_ns: cython.longlong[::1],
    start: cython.longlong[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
) -> tuple[int, int, int]:
    """Put the events of data[at:] into the columns until something else comes.

    ``ids`` maps QEMU's event ids to rows of the table (-1: a name it lacks, -2: no mapping seen).
    ``pid[0]`` is the process that writes; -1 takes that of the first record (0 before version 3).
    Returns how many events there were, where the walk stopped, and why.
    """
    end: cython.Py_ssize_t = len(data)
    if at >= end:
        return 0, at, MORE
    text: cython.p_uchar = pointers.to_chars(data)
    rows: cython.Py_ssize_t = 0
    room: cython.Py_ssize_t = len(event)
    known: cython.ulonglong = len(ids)
    # Bytes before the event's id, and from there to its arguments.
    lead: cython.Py_ssize_t = 8 if version > 3 else 0
    head: cython.Py_ssize_t = 24 if version else 16
    why: cython.int = _MORE
    kind: cython.ulonglong
    code: cython.ulonglong
    moment: cython.ulonglong
    size: cython.ulonglong = _FIXED
    writer: cython.longlong = 0
    index: cython.int
    with cython.nogil:
        while end - at >= 8:
            if rows == room:
                why = _FULL
                break
            kind = _u64(text, at, swapped)
            if kind == _ONES:
                why = _HEADER
                break
            if lead and kind != _ONE:
                why = _MAPPING if kind == 0 else _BAD
                break
            if end - at < lead + head:
                break
            code = _u64(text, at + lead, swapped)
            moment = _u64(text, at + lead + 8, swapped)
            if version:
                size = _u32(text, at + lead + 16, swapped)
            if version > 2:
                writer = _u32(text, at + lead + 20, swapped)
            index = ids[code] if code < known else -2
            if size < 24 or size > _LONGEST or moment >= _LATEST:
                why = _BAD
                break
            if index == -2 and code != _DROPPED_ID and (lead == 0 or pid[0] < 0):
                why = _BAD
                break
            if writer != pid[0] and pid[0] >= 0:
                why = _BAD
                break
            pid[0] = writer
            if code == _DROPPED_ID:
                if version and size != 32:
                    why = _BAD
                elif end - at - lead >= cython.cast(cython.longlong, size):
                    why = _DROPPED
                break
            if end - at - lead < cython.cast(cython.longlong, size):
                break
            event[rows] = index if index >= 0 else -1
            time_ns[rows] = moment
            start[rows] = at
            begin[rows] = at + lead + head
            at += lead + cython.cast(cython.longlong, size)
            stop[rows] = at
            rows += 1
    return rows, at, why


def _head(
    text: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    version: cython.int,
    swapped: cython.bint,
    ids: cython.p_int,
    known: cython.ulonglong,
) -> cython.int:
    """Return whether a record may begin at ``at``: 0 no, 1 an event, 2 bytes lack, 3 another."""
    if end - at < 8:
        return 2
    kind: cython.ulonglong = _u64(text, at, swapped)
    if kind == _ONES:
        if end - at < 16:
            return 2
        return 3 if _u64(text, at + 8, swapped) == _MAGIC else 0
    size: cython.ulonglong
    code: cython.ulonglong
    i: cython.Py_ssize_t
    if version > 3:
        if kind > _ONE:
            return 0
        if kind == 0:
            if end - at < 20:
                return 2
            code = _u64(text, at + 8, swapped)
            size = _u32(text, at + 16, swapped)
            if code >= _IDS or size == 0 or size > _NAME:
                return 0
            for i in range(at + 20, min(end, at + 20 + cython.cast(cython.longlong, size))):
                if not words.of_name(text[i]):
                    return 0
            return 3 if at + 20 + cython.cast(cython.longlong, size) <= end else 2
        at += 8
    if end - at < 24:
        return 2
    code = _u64(text, at, swapped)
    size = _u32(text, at + 16, swapped) if version else _FIXED
    if _u64(text, at + 8, swapped) >= _LATEST or size > _LONGEST:
        return 0
    if code == _DROPPED_ID:
        return 1 if size == (32 if version else _FIXED) else 0
    return 1 if size >= 24 and code < known and ids[code] > -2 else 0


def _writer(
    text: cython.p_uchar, at: cython.Py_ssize_t, version: cython.int, swapped: cython.bint
) -> cython.longlong:
    """Return the process of the event at ``at``; 0 before version 3."""
    return _u32(text, at + (28 if version > 3 else 20), swapped) if version > 2 else 0


def resync(
    data: cython.const[cython.uchar][::1],
    at: cython.Py_ssize_t,
    version: cython.int,
    swapped: cython.bint,
    ids: cython.int[::1],
    pid: cython.longlong[::1],
    final: cython.bint,
) -> tuple[int, bool]:
    """Find the first place in data[at:] that begins a record; returns whether it does, too.

    A header, a mapping, an event of process pid[0], or an event followed by another of the same
    process, which is then put into ``pid``. Without one, it returns the first place that more bytes
    might prove (``final``: none).
    """
    end: cython.Py_ssize_t = len(data)
    if at >= end:
        return end, False
    text: cython.p_uchar = pointers.to_chars(data)
    table: cython.p_int = pointers.to_ints(ids)
    known: cython.ulonglong = len(ids)
    sure: cython.int
    after: cython.Py_ssize_t
    writer: cython.longlong
    place: cython.Py_ssize_t
    for place in range(at, end):
        sure = _head(text, place, end, version, swapped, table, known)
        if sure == 3:
            return place, True
        if sure == 1:
            writer = _writer(text, place, version, swapped)
            if version > 2 and writer == pid[0]:
                return place, True
            after = place + cython.cast(cython.longlong, _FIXED)
            if version:
                after = place + (8 if version > 3 else 0)
                after += cython.cast(cython.longlong, _u32(text, after + 16, swapped))
            sure = _head(text, after, end, version, swapped, table, known)
            if sure == 3 or (sure == 1 and _writer(text, after, version, swapped) == writer):
                pid[0] = writer
                return place, True
        if sure == 2 and not final:
            return place, False
    return end, False


def read_arguments(
    data: cython.const[cython.uchar][::1],
    swapped: cython.bint,
    fields: cython.longlong[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    values: cython.ulonglong[::1],
    spans: cython.longlong[::1],
    ok: cython.uchar[::1],
) -> None:
    """Read the arguments data[begin[i]:stop[i]] of rows of one event.

    ``fields`` has two numbers an argument: bits (0: a text), and whether it is signed. Number c of
    row i is values[c * rows + i]; a text takes two columns of ``spans``. ``ok`` of a row that is
    exactly these arguments is 1; 2 if a text has 512 bytes, at which QEMU cuts without a mark.
    """
    rows: cython.Py_ssize_t = len(begin)
    if rows == 0:
        return
    text: cython.p_uchar = pointers.to_chars(data)
    count: cython.Py_ssize_t = len(fields) // 2
    i: cython.Py_ssize_t
    j: cython.Py_ssize_t
    at: cython.Py_ssize_t
    to: cython.Py_ssize_t
    number: cython.Py_ssize_t
    edge: cython.Py_ssize_t
    read: cython.uchar
    size: cython.longlong
    bits: cython.longlong
    value: cython.ulonglong
    top: cython.ulonglong
    with cython.nogil:
        for i in range(rows):
            at = begin[i]
            to = stop[i]
            number = edge = i
            read = 1
            for j in range(count):
                bits = fields[2 * j]
                if bits == 0:
                    if to - at < 4:
                        break
                    size = _u32(text, at, swapped)
                    if size > to - at - 4:
                        break
                    if size >= _TEXT:
                        read = 2
                    spans[edge] = at + 4
                    at += 4 + size
                    spans[edge + rows] = at
                    edge += 2 * rows
                else:
                    if to - at < 8:
                        break
                    value = _u64(text, at, swapped)
                    at += 8
                    # ``integers.extended``, which would cost a tenth of the time here.
                    if bits < 64:
                        top = _ONE << bits
                        value &= top - 1
                        if fields[2 * j + 1] and value >> (bits - 1):
                            value |= _ONES ^ (top - 1)
                    values[number] = value
                    number += rows
            else:
                if at == to:
                    ok[i] = read
