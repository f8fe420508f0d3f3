# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Split log text into records: lines, their prefixes, their events.

Line forms are those of QEMU 7.2 to 11.1: ``name args``, ``TID@SEC.USEC:name args`` and
``2026-11-22T21:37:32.295065Z name args`` (the fraction is absent on a whole second, as GLib's
g_date_time_format_iso8601 leaves it out). ``decoder.py`` is the only caller.
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import integers, moments, octets, pointers, words

COMPILED: bool = cython.compiled


def _prefix(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    stamp: cython.p_longlong,
) -> cython.Py_ssize_t:
    """Skip a line's prefix if it has one; sets stamp[0], the time, and stamp[1], the tid, or -1."""
    if start < end and data[start] >= 48 and data[start] <= 57:
        at: cython.Py_ssize_t = moments.iso(data, start, end, stamp)
        if at >= 0 and octets.starts(data, at, end, b"Z ", 2):
            stamp[1] = -1
            return at + 2
        at = integers.number(data, start, end, 0x7FFFFFFF, stamp, 1)
        if at >= 0 and at < end and data[at] == 64:
            at = moments.unix(data, at + 1, end, 6, stamp)
            if at >= 0 and at < end and data[at] == 58:
                return at + 1
    stamp[0] = stamp[1] = -1
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

    ``extra[i]`` is how many further lines event i spans, up to a line that is an event itself or
    too long. ``stamp`` is scratch of three, stamp[2] kept between calls and started at 0: whether a
    line beyond ``limit`` is being passed on in pieces. Rows get: event index or -1 for text, time
    in ns or -1, tid or -1, and the offsets of the line, of its arguments (of the text after a
    prefix for text rows) and of its end without the newline. Stops when the output columns are
    full. Without ``final`` an unfinished record at the end is left unconsumed. A line of more than
    ``limit`` bytes becomes text rows of that size, wherever the chunks were cut.
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
    more: cython.int = 0  # how many further lines the row before may take
    with cython.nogil:
        while at < size:
            end: cython.Py_ssize_t = octets.line_end(text, at, size, limit, final)
            if end < 0:
                break
            cut: cython.bint = end < size and text[end] != 10
            name: cython.int = -1
            first: cython.Py_ssize_t = at
            clock[0] = clock[1] = -1
            if not cut and clock[2] == 0:
                first = _prefix(text, at, end, clock)
                word: cython.Py_ssize_t = words.word_end(text, first, end, longest)
                if word > first:
                    name = words.lookup(text, first, word, names, edges, table, mask)
                if name >= 0:
                    first = word + 1 if word < end else end
                elif more > 0:
                    stop[row - 1] = end
                    more -= 1
                    at = end + 1
                    continue
            more = 0
            if row == room:
                break
            if name >= 0:
                more = extra[name]
            event[row] = name
            time_ns[row] = clock[0]
            tid[row] = cython.cast(cython.int, clock[1])
            start[row] = at
            begin[row] = first
            stop[row] = end
            clock[2] = cut
            row += 1
            at = end if cut else end + 1
    if more > 0 and not final:
        row -= 1
        at = start[row]
    return row, min(at, size)
