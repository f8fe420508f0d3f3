# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Walk lines of the system log: time, host, program, pid, for ``decoder.py``.

The forms, with MESSAGE behind each:
``<30>Nov 22 21:39:36 PROG[PID]: `` (what syslog(3) of glibc sends), ``Nov 22 21:39:36 HOST
PROG[PID]: `` and ``2026-11-22T21:37:32.295065+00:00 HOST PROG[PID]: `` (the two file formats of
rsyslog 8), ``1795391511.853284 HOST PROG[PID]: `` (journalctl -o short-unix of systemd 252).
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import integers, moments, octets, pointers

COMPILED: bool = cython.compiled

#: Kinds of rows: a line without a head, of the guest, of others, of a log daemon, a repeated one.
PLAIN, MINE, OTHER, DAEMON, REPEATED = 0, 1, 2, 3, 4
_MINE_KIND = cython.declare(cython.int, 1)
_OTHER_KIND = cython.declare(cython.int, 2)
_DAEMON_KIND = cython.declare(cython.int, 3)
_REPEATED_KIND = cython.declare(cython.int, 4)

_LAST_COUNT = cython.declare(cython.ulonglong, 999999999999999999)


def _month_day(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_longlong
) -> cython.Py_ssize_t:
    """Read ``Nov 22 21:39:36 ``: where it ends, or -1. out[0]: -2 less month, day and second."""
    if end - at < 16 or data[at + 3] != 32 or data[at + 6] != 32 or data[at + 15] != 32:
        return -1
    month: cython.longlong = -1
    i: cython.int
    for i in range(12):
        if octets.same(data, at, b"JanFebMarAprMayJunJulAugSepOctNovDec", i * 3, 3):
            month = i + 1
    tens: cython.int = data[at + 4] != 32  # a blank stands for a leading zero
    day: cython.longlong = integers.digits(data, at + 5 - tens, 1 + tens)
    second: cython.longlong = moments.clock(data, at + 7)
    if month < 1 or day < 1 or day > 31 or second < 0:
        return -1
    out[0] = -2 - ((month * 32 + day) * 131072 + second)
    return at + 16


def _iso(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_longlong
) -> cython.Py_ssize_t:
    """Read ``2026-11-22T21:37:32.295065+00:00 ``: where it ends, or -1. out[0]: Unix ns."""
    at = moments.iso(data, at, end, out)
    if at < 0:
        return -1
    if octets.starts(data, at, end, b"Z ", 2):
        return at + 2
    if end - at < 7 or (data[at] != 43 and data[at] != 45) or data[at + 3] != 58:
        return -1
    hours: cython.longlong = integers.digits(data, at + 1, 2)
    minutes: cython.longlong = integers.digits(data, at + 4, 2)
    shift: cython.longlong = (hours * 60 + minutes) * 60 * 1000000000
    out[0] += -shift if data[at] == 43 else shift
    return at + 7 if hours >= 0 and minutes >= 0 and data[at + 6] == 32 and out[0] >= 0 else -1


def _head(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_longlong
) -> cython.Py_ssize_t:
    """Read a line's head: where its message begins, or -1. out: time, pid or -1, program."""
    raw: cython.bint = octets.starts(data, at, end, b"<", 1)
    if raw:
        at = octets.find(data, 62, at, min(end, at + 6)) + 1
        if at == 0:
            return -1
    if at >= end:
        return -1
    first: cython.Py_ssize_t = at
    if data[at] >= 48 and data[at] <= 57:
        at = _iso(data, first, end, out)
        if at < 0:
            at = moments.unix(data, first, end, 0, out)
            at = at + 1 if octets.starts(data, at, end, b" ", 1) else -1
    else:
        at = _month_day(data, at, end, out)
    if at < 0:
        return -1
    if not raw:  # the host, one word
        first = at
        while at < end and data[at] != 32:
            at += 1
        if at == first or at >= end:
            return -1
        at += 1
    out[2] = at
    out[1] = -1
    first = at
    # A program's name may hold blanks, but neither brackets nor a colon.
    while at < end and data[at] != 91 and data[at] != 58:
        at += 1
    if at == first or at >= end:
        return -1
    if data[at] == 91:
        at = integers.number(data, at + 1, end, 0x7FFFFFFF, out, 1)
        if at < 0 or at >= end or data[at] != 93:
            return -1
        at += 1
    if at >= end or data[at] != 58:
        return -1
    at += 1
    return at + 1 if at < end and data[at] == 32 else at


def _repeats(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_longlong
) -> cython.Py_ssize_t:
    """Read ``message repeated N times: [ TEXT]``: where TEXT begins, or -1. out[3]: N."""
    if not octets.starts(data, at, end, b"message repeated ", 17) or data[end - 1] != 93:
        return -1
    at = integers.number(data, at + 17, end, _LAST_COUNT, out, 3)
    if at < 0 or not octets.starts(data, at, end, b" times: [", 9):
        return -1
    at += 9
    return at + 1 if data[at] == 32 else at


def split_syslog(
    data: cython.const[cython.uchar][::1],
    pid: cython.longlong,
    state: cython.longlong[::1],
    final: cython.bint,
    kind: cython.int[::1],
    time_ns: cython.longlong[::1],
    count: cython.longlong[::1],
    start: cython.longlong[::1],
    first: cython.longlong[::1],
    stop: cython.longlong[::1],
    at: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
) -> tuple:
    """Split data[at:] into lines; returns (rows written, offset reached).

    A row gets: its kind; the time: Unix ns, or -1, or -2 less (32 * month + day) * 2^17 + second of
    the day, in local time of an unknown year; how often the message came; the offsets of
    the line, of the message and of its end. ``pid`` is the guest's. ``state`` is scratch of five,
    state[4] kept between calls and started at 0: whether a line beyond ``limit`` is being passed on
    in pieces.
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
            time_ns[row] = -1
            count[row] = 1
            start[row] = first[row] = at
            stop[row] = end
            begin: cython.Py_ssize_t = -1
            if not cut and head[4] == 0:
                begin = _head(text, at, end, head)
            if begin >= 0:
                time_ns[row] = head[0]
                first[row] = begin
                kind[row] = _OTHER_KIND
                if head[1] == pid:
                    kind[row] = _MINE_KIND
                    begin = _repeats(text, begin, end, head)
                    if begin >= 0:
                        kind[row] = _REPEATED_KIND
                        count[row] = head[3]
                        first[row] = begin
                        stop[row] = end - 1
                elif octets.starts(text, head[2], end, b"rsyslogd", 8) or octets.starts(
                    text, head[2], end, b"systemd-journal", 15
                ):
                    kind[row] = _DAEMON_KIND
            head[4] = cut
            row += 1
            at = end if cut else end + 1
    return row, min(at, size)
