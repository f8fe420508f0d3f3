# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Split log text into records: lines, their prefixes, their events.

Line forms are those of QEMU 7.2 to 11.1: ``name args``, ``TID@SEC.USEC:name args`` and
``2026-11-22T21:37:32.295065Z name args`` (the fraction is absent on a whole second, as GLib's
g_date_time_format_iso8601 leaves it out). In saved text a name is looked for anywhere in a
line; ``heads.py`` decides what the words before it mean. ``decoder.py`` is the only caller.
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
        size: cython.Py_ssize_t = at - start  # QEMU's own time has six more digits, or none
        if (size == 19 or size == 26) and octets.starts(data, at, end, b"Z ", 2):
            stamp[1] = -1
            return at + 2
        at = integers.number(data, start, end, 0x7FFFFFFF, stamp, 1)
        if at >= 0 and at < end and data[at] == 64:
            at = moments.unix(data, at + 1, end, 6, stamp)
            if at >= 0 and at < end and data[at] == 58:
                return at + 1
    stamp[0] = stamp[1] = -1
    return start


def _sequence_end(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Return the end of the colour sequences (ESC [ ... letter) at ``at``."""
    while at + 1 < end and data[at] == 27 and data[at + 1] == 91:
        stop: cython.Py_ssize_t = at + 2
        while stop < end and (data[stop] < 64 or data[stop] > 126):
            stop += 1
        if stop >= end:
            break
        at = stop + 1
    return at


def _uncoloured(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Return the end of data[at:end] without the colour sequences at its end."""
    back: cython.Py_ssize_t = end
    while back > at and data[back - 1] != 27:
        back -= 1
    if back > at and _sequence_end(data, back - 1, end) == end:
        return _uncoloured(data, at, back - 1)
    return end


def _find(
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    blob: cython.p_uchar,
    offsets: cython.p_longlong,
    slots: cython.p_int,
    mask: cython.ulonglong,
    longest: cython.Py_ssize_t,
    out: cython.p_longlong,
) -> cython.int:
    """Return the leftmost event in data[at:end] that a blank or the end follows, or -1.

    ``out[3]`` and ``out[4]`` get where its name begins and ends, with colour sequences behind it.
    """
    while at < end:
        if data[at] == 27:
            stop: cython.Py_ssize_t = _sequence_end(data, at, end)
            at = stop if stop > at else at + 1
            continue
        if not words.of_name(data[at]):
            at += 1
            continue
        stop = at + 1
        while stop < end and words.of_name(data[stop]):
            stop += 1
        if stop - at <= longest:
            behind: cython.Py_ssize_t = _sequence_end(data, stop, end)
            if behind >= end or data[behind] == 32:
                name: cython.int = words.lookup(data, at, stop, blob, offsets, slots, mask)
                if name >= 0:
                    out[3] = at
                    out[4] = behind
                    return name
        at = stop
    return -1


def split_lines(
    data: cython.const[cython.uchar][::1],
    blob: cython.const[cython.uchar][::1],
    offsets: cython.longlong[::1],
    slots: cython.int[::1],
    extra: cython.int[::1],
    longest: cython.Py_ssize_t,
    stamp: cython.longlong[::1],
    anywhere: cython.bint,
    final: cython.bint,
    event: cython.int[::1],
    time_ns: cython.longlong[::1],
    tid: cython.int[::1],
    start: cython.longlong[::1],
    named: cython.longlong[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    at: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
) -> tuple:
    """Split data[at:] into records; returns (rows written, offset reached).

    With ``anywhere`` the event of a line is the leftmost one in it; a carriage return and, if the
    name is coloured, colours at the line's end are left out.
    ``extra[i]`` is how many further lines event i spans, up to a line that is an event itself or
    too long. ``stamp`` is scratch of five, stamp[2] kept between calls and started at 0: whether a
    line beyond ``limit`` is being passed on in pieces. Rows get: event index or -1 for text, time
    in ns or -1, tid or -1, and the offsets of the line, of the name, of its arguments (both of the
    text after a prefix for text rows) and of its end without the newline. Stops when the output
    columns are full. Without ``final`` an unfinished record at the end is left unconsumed. A line
    of more than ``limit`` bytes becomes text rows of that size, wherever the chunks were cut.
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
            last: cython.Py_ssize_t = end
            called: cython.Py_ssize_t = at
            clock[0] = clock[1] = -1
            if not cut and clock[2] == 0:
                if anywhere and last > at and text[last - 1] == 13:
                    last -= 1
                first = _prefix(text, at, last, clock)
                word: cython.Py_ssize_t = words.word_end(text, first, last, longest)
                if word > first:
                    name = words.lookup(text, first, word, names, edges, table, mask)
                called = first
                if name < 0 and anywhere:
                    name = _find(text, at, last, names, edges, table, mask, longest, clock)
                    if name >= 0:
                        clock[0] = clock[1] = -1
                        called = clock[3]
                        word = clock[4]
                        if text[called - 1] == 109 and called > at:
                            last = _uncoloured(text, word, last)
                if name >= 0:
                    first = word + 1 if word < last else last
                elif more > 0:
                    stop[row - 1] = last
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
            named[row] = called
            begin[row] = first
            stop[row] = last
            clock[2] = cut
            row += 1
            at = end if cut else end + 1
    if more > 0 and not final:
        row -= 1
        at = start[row]
    return row, min(at, size)
