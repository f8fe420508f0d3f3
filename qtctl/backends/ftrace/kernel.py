# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Walk the kernel's ``trace_pipe``: line heads, continuation lines, losses, for ``decoder.py``.

``trace-cmd report`` (3.1, trace-read.c) prints the same heads, ``print: `` before the word of a
mark, or its address (0x...) where it has no symbols, and ``CPU:n [m EVENTS DROPPED]``.

The forms are those of the kernel's
``trace_print_context`` and ``print_trace_line`` (kernel/trace/trace_output.c and trace.c, 6.1 to
6.18): ``COMM-TID (TGID) [CPU] FLAGS SEC.USEC: WORD: TEXT``, COMM padded to 16 bytes, so its dash
stands in one place whatever the name holds; and ``CPU:n [LOST m EVENTS]``.
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import integers, moments, octets, pointers

COMPILED: bool = cython.compiled

#: Kinds of rows: a line without a head, a write to trace_marker, another event, a loss.
PLAIN, MARK, EVENT, LOST = 0, 1, 2, 3
_MARK_KIND = cython.declare(cython.int, 1)
_EVENT_KIND = cython.declare(cython.int, 2)
_LOST_KIND = cython.declare(cython.int, 3)

_COMM = cython.declare(cython.Py_ssize_t, 16)
_LAST_COUNT = cython.declare(cython.longlong, 1000000000000000000)


def _blanks(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Skip blanks."""
    while at < end and data[at] == 32:
        at += 1
    return at


def _lost(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, head: cython.p_longlong
) -> cython.bint:
    """Read a loss line; head[0] gets how many, or -1 where the kernel does not know."""
    if not octets.starts(data, at, end, b"CPU:", 4):
        return False
    at = integers.number(data, at + 4, end, 0x7FFFFFFF, head, 0)
    if at < 0 or not octets.starts(data, at, end, b" [", 2):
        return False
    at += 2
    head[0] = -1
    if octets.starts(data, end - 15, end, b"EVENTS DROPPED]", 15):
        return end - at == 15 or integers.number(data, at, end, _LAST_COUNT, head, 0) == end - 16
    if not octets.starts(data, at, end, b"LOST ", 5):
        return False
    at += 5
    if at < end and data[at] >= 48 and data[at] <= 57:
        at = integers.number(data, at, end, _LAST_COUNT, head, 0)
        if at < 0 or at >= end or data[at] != 32:
            return False
        at += 1
    return end - at == 7 and octets.starts(data, at, end, b"EVENTS]", 7)


def _stamp(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, head: cython.p_longlong
) -> cython.Py_ssize_t:
    """Read ``SEC.FRACTION: `` or ``COUNT: ``; head[0] gets ns, or -1 for a count. -1: neither."""
    stop: cython.Py_ssize_t = moments.unix(data, at, end, 0, head)
    if stop < 0:
        stop = integers.number(data, at, end, _LAST_COUNT, head, 0)
        head[0] = -1
    return stop + 2 if stop >= 0 and octets.starts(data, stop, end, b": ", 2) else -1


def _head(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, head: cython.p_longlong
) -> cython.Py_ssize_t:
    """Read a line's head: where its word begins, or -1. head: time, tid, tgid (-1 unknown)."""
    at += _COMM
    if at >= end or data[at] != 45:
        return -1
    at = integers.number(data, at + 1, end, 0x7FFFFFFF, head, 1)
    if at < 0 or at >= end or data[at] != 32:
        return -1
    at = _blanks(data, at, end)
    head[2] = -1
    if at < end and data[at] == 40:
        at = _blanks(data, at + 1, end)
        if at < end and data[at] == 45:
            while at < end and data[at] == 45:
                at += 1
        else:
            at = integers.number(data, at, end, 0x7FFFFFFF, head, 2)
        if at < 0 or at >= end or data[at] != 41:
            return -1
        at = _blanks(data, at + 1, end)
    if at >= end or data[at] != 91:
        return -1
    at = integers.number(data, at + 1, end, 0x7FFFFFFF, head, 0)
    if at < 0 or not octets.starts(data, at, end, b"] ", 2):
        return -1
    at = _blanks(data, at + 2, end)
    if at < end and (data[at] < 48 or data[at] > 57):  # irq and preemption flags
        while at < end and data[at] != 32:
            at += 1
        at = _blanks(data, at, end)
    return _stamp(data, at, end, head)


def split_trace(
    data: cython.const[cython.uchar][::1],
    state: cython.longlong[::1],
    final: cython.bint,
    kind: cython.int[::1],
    tid: cython.int[::1],
    tgid: cython.int[::1],
    time_ns: cython.longlong[::1],
    start: cython.longlong[::1],
    word: cython.longlong[::1],
    first: cython.longlong[::1],
    stop: cython.longlong[::1],
    at: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
) -> tuple:
    """Split data[at:] into lines; returns (rows written, offset reached).

    A row gets: its kind; tid and tgid, or -1; the time in ns of the buffer's clock, or -1 (of a
    loss: how many, or -1); the offsets of the line, of the word that says what it is, of the text
    behind that word, and of the line's end. ``state`` is scratch of four, state[3] kept between
    calls and started at 0: whether a line beyond ``limit`` is being passed on in pieces.
    """
    text: cython.p_uchar = pointers.to_chars(data)
    head: cython.p_longlong = pointers.to_longs(state)
    size: cython.Py_ssize_t = len(data)
    room: cython.Py_ssize_t = len(kind)
    row: cython.Py_ssize_t = 0
    with cython.nogil:
        while at < size and row < room:
            end: cython.Py_ssize_t = octets.line_end(text, at, size, limit, final)
            if end < 0:
                break
            cut: cython.bint = end < size and text[end] != 10
            kind[row] = 0
            tid[row] = tgid[row] = -1
            time_ns[row] = -1
            start[row] = word[row] = first[row] = at
            stop[row] = end
            begin: cython.Py_ssize_t = -1
            if not cut and head[3] == 0:
                if _lost(text, at, end, head):
                    kind[row] = _LOST_KIND
                    time_ns[row] = head[0]
                else:
                    begin = _head(text, at, end, head)
            if begin >= 0:
                is_mark: cython.bint = False
                if octets.starts(text, begin, end, b"print: ", 7):
                    begin = _blanks(text, begin + 6, end)
                    is_mark = octets.starts(text, begin, end, b"0x", 2)
                if octets.starts(text, begin, end, b"tracing_mark_write", 18):
                    is_mark = True
                kind[row] = _MARK_KIND if is_mark else _EVENT_KIND
                time_ns[row] = head[0]
                tid[row] = cython.cast(cython.int, head[1])
                tgid[row] = cython.cast(cython.int, head[2])
                word[row] = first[row] = begin
                while begin < end and text[begin] != 58 and text[begin] != 32:
                    begin += 1
                if begin < end and text[begin] == 58:  # every event has such a line
                    begin += 1
                    if begin < end and text[begin] == 32:
                        begin += 1
                    first[row] = begin
            head[3] = cut
            row += 1
            at = end if cut else end + 1
    return row, min(at, size)
