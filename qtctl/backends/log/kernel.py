# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Split log text into records: lines, their prefixes, their events.

Line forms are those of QEMU 7.2 to 11.1: ``name args``, ``TID@SEC.USEC:name args`` and
``2026-11-22T21:37:32.295065Z name args`` (the fraction is absent on a whole second, as GLib's
g_date_time_format_iso8601 leaves it out). ``decoder.py`` is the only caller.
"""
# ruff: noqa: SIM102

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import integers, octets, pointers, words

COMPILED: bool = cython.compiled


def _iso_prefix(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    stamp: cython.p_longlong,
) -> cython.Py_ssize_t:
    """Read an ISO 8601 prefix: where the name starts, or -1. Sets stamp[0]; stamp[2:4] caches."""
    if end - start < 21 or data[start + 4] != 45 or data[start + 7] != 45:
        return -1
    if data[start + 10] != 84 or data[start + 13] != 58 or data[start + 16] != 58:
        return -1
    year: cython.longlong = integers.digits(data, start, 4)
    month: cython.longlong = integers.digits(data, start + 5, 2)
    day: cython.longlong = integers.digits(data, start + 8, 2)
    hour: cython.longlong = integers.digits(data, start + 11, 2)
    minute: cython.longlong = integers.digits(data, start + 14, 2)
    second: cython.longlong = integers.digits(data, start + 17, 2)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 60:
        return -1
    # 2262 is where nanoseconds outgrow 64 bits.
    if year < 1970 or year > 2261 or month < 1 or month > 12 or day < 1 or day > 31:
        return -1
    at: cython.Py_ssize_t = start + 19
    fraction: cython.longlong = 0
    unit: cython.longlong = 1000000000
    if data[at] == 46:
        at += 1
        while at < end and unit > 1 and data[at] >= 48 and data[at] <= 57:
            fraction = fraction * 10 + (data[at] - 48)
            unit //= 10
            at += 1
    if at + 1 >= end or data[at] != 90 or data[at + 1] != 32:
        return -1
    date: cython.longlong = (year * 16 + month) * 32 + day
    if stamp[2] != date:
        stamp[2] = date
        stamp[3] = integers.days(year, month, day)
    seconds: cython.longlong = ((stamp[3] * 24 + hour) * 60 + minute) * 60 + second
    stamp[0] = seconds * 1000000000 + fraction * unit
    stamp[1] = -1
    return at + 2


def _tid_prefix(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    stamp: cython.p_longlong,
) -> cython.Py_ssize_t:
    """Read a ``TID@SEC.USEC:`` prefix: where the name starts, or -1. Sets stamp[0] and stamp[1]."""
    at: cython.Py_ssize_t = integers.number(data, start, end, 0x7FFFFFFF, stamp, 1)
    if at < 0 or at >= end or data[at] != 64:
        return -1
    at = integers.seconds(data, at + 1, end, stamp, 0)
    if at < 0 or at + 7 >= end or data[at] != 46 or data[at + 7] != 58:
        return -1
    fraction: cython.longlong = integers.digits(data, at + 1, 6)
    if fraction < 0:
        return -1
    stamp[0] = stamp[0] * 1000000000 + fraction * 1000
    return at + 8


def _prefix(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    stamp: cython.p_longlong,
) -> cython.Py_ssize_t:
    """Skip a line's time prefix if it has one; sets stamp[0] and stamp[1] (-1: unknown)."""
    if start < end and data[start] >= 48 and data[start] <= 57:
        at: cython.Py_ssize_t = _iso_prefix(data, start, end, stamp)
        if at < 0:
            at = _tid_prefix(data, start, end, stamp)
        if at >= 0:
            return at
    stamp[0] = -1
    stamp[1] = -1
    return start


def split_lines(
    data: cython.const[cython.uchar][::1],
    blob: cython.const[cython.uchar][::1],
    offsets: cython.longlong[::1],
    slots: cython.int[::1],
    extra: cython.int[::1],
    longest: cython.Py_ssize_t,
    stamp: cython.longlong[::1],
    final: cython.bint,
    event: cython.int[::1],
    time_ns: cython.longlong[::1],
    tid: cython.int[::1],
    start: cython.longlong[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    at: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
) -> tuple:
    """Split data[at:] into records; returns (rows written, offset reached).

    ``extra[i]`` is how many further lines event i spans. ``stamp`` is scratch of five, the last
    three kept between calls and started at -1. Rows get: event index or -1 for text, time in ns or
    -1, tid or -1, and the offsets of the line, of its arguments (of the text after a prefix for
    text rows) and of its end without the newline. Stops when the output columns are full. Without
    ``final`` an unfinished record at the end is left unconsumed. A line of more than ``limit``
    bytes becomes text rows of that size, wherever the chunks were cut.
    """
    text: cython.p_uchar = pointers.to_chars(data)
    names: cython.p_uchar = pointers.to_chars(blob)
    edges: cython.p_longlong = pointers.to_longs(offsets)
    table: cython.p_int = pointers.to_ints(slots)
    clock: cython.p_longlong = pointers.to_longs(stamp)
    size: cython.Py_ssize_t = len(data)
    mask: cython.ulonglong = len(slots) - 1
    room: cython.Py_ssize_t = len(event)
    row: cython.Py_ssize_t = 0
    with cython.nogil:
        while at < size and row < room:
            end: cython.Py_ssize_t = octets.line_end(text, at, size, limit, final)
            if end == -1:
                break
            name: cython.int = -1
            first: cython.Py_ssize_t = at
            clock[0] = -1
            clock[1] = -1
            if end >= 0 and clock[4] < 0:
                first = _prefix(text, at, end, clock)
                word: cython.Py_ssize_t = words.word_end(text, first, end, longest)
                if word > first:
                    name = words.lookup(text, first, word, names, edges, table, mask)
                if name >= 0:
                    first = word + 1 if word < end else end
            time_ns[row] = clock[0]
            tid[row] = cython.cast(cython.int, clock[1])
            if name >= 0 and extra[name] > 0:
                end = _more_lines(
                    text,
                    end,
                    size,
                    extra[name],
                    names,
                    edges,
                    table,
                    longest,
                    clock,
                    final,
                    limit,
                    mask,
                )
                if end < 0:
                    break
            event[row] = name
            start[row] = at
            begin[row] = first
            stop[row] = at + limit if end == -2 else end
            clock[4] = 1 if end == -2 else -1
            row += 1
            at = stop[row - 1] + (0 if end == -2 else 1)
    return row, at if at < size else size


def _more_lines(
    data: cython.p_uchar,
    end: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    count: cython.int,
    blob: cython.p_uchar,
    offsets: cython.p_longlong,
    slots: cython.p_int,
    longest: cython.Py_ssize_t,
    stamp: cython.p_longlong,
    final: cython.bint,
    limit: cython.Py_ssize_t,
    mask: cython.ulonglong,
) -> cython.Py_ssize_t:
    """End of a record with ``count`` further lines; -1 if more bytes are needed.

    Stops short of a line that is an event itself, or beyond ``limit``.
    """
    _line: cython.int
    for _line in range(count):
        at: cython.Py_ssize_t = end + 1
        if at >= size and final:
            return end
        stop: cython.Py_ssize_t = octets.line_end(data, at, size, limit, final)
        if stop < 0:
            return -1 if stop == -1 else end
        first: cython.Py_ssize_t = _prefix(data, at, stop, stamp)
        word: cython.Py_ssize_t = words.word_end(data, first, stop, longest)
        if word > first:
            if words.lookup(data, first, word, blob, offsets, slots, mask) >= 0:
                return end
        end = stop
    return end
