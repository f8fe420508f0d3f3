# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Split pages of the kernel's trace buffer into records.

The caller is ``pages.py``. Source: ``kernel/trace/ring_buffer.c`` of Linux, 6.1 to 6.18. A page
begins with the time of its first record and how many bytes follow; each record with 5 bits of
type or length and 27 bits of time since the one before. Byte order is this machine's.
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import native, pointers

COMPILED: bool = cython.compiled

#: What a row is, where it is no record; a record has the number of its event.
LOST = -1
BAD = -2

_PADDING = cython.declare(cython.uint, 29)
_EXTEND = cython.declare(cython.uint, 30)
_STAMP = cython.declare(cython.uint, 31)
_LEAST = cython.declare(cython.longlong, 8)
_COMMIT = cython.declare(cython.ulonglong, (1 << 27) - 1)
_MISSED = cython.declare(cython.ulonglong, 1 << 31)
_COUNTED = cython.declare(cython.ulonglong, 1 << 30)
_STAMP_BITS = cython.declare(cython.ulonglong, (1 << 59) - 1)
_HIGH_BITS = cython.declare(cython.ulonglong, 0xF800000000000000)
_TURN = cython.declare(cython.ulonglong, 1 << 59)
_LATEST = cython.declare(cython.ulonglong, 1 << 62)
_SIGN = cython.declare(cython.ulonglong, 1 << 63)


def split_pages(
    data: cython.const[cython.uchar][::1],
    page_bytes: cython.Py_ssize_t,
    stamp_at: cython.Py_ssize_t,
    commit_at: cython.Py_ssize_t,
    data_at: cython.Py_ssize_t,
    type_at: cython.Py_ssize_t,
    thread_at: cython.Py_ssize_t,
    final: cython.bint,
    kind: cython.int[::1],
    tid: cython.int[::1],
    time_ns: cython.longlong[::1],
    start: cython.longlong[::1],
    stop: cython.longlong[::1],
    at: cython.Py_ssize_t,
) -> tuple[int, int]:
    """Put the records of the whole pages of data[at:] into the columns.

    A page is begun only if the columns have room for all that it can hold. A row LOST has the
    number of records lost before the page in ``start``, -1 if the kernel did not count them; BAD
    stands where the rest of a page cannot be read. ``final``: what is left at the end is a page
    that is cut. Returns how many rows there are, and where the first page not taken begins.
    """
    size: cython.Py_ssize_t = len(data)
    room: cython.Py_ssize_t = len(kind)
    row: cython.Py_ssize_t = 0
    if at >= size:
        return 0, at
    text: cython.p_uchar = pointers.to_chars(data)
    most: cython.Py_ssize_t = page_bytes // 8 + 2
    held: cython.Py_ssize_t
    end: cython.Py_ssize_t
    place: cython.Py_ssize_t
    first: cython.Py_ssize_t
    length: cython.longlong
    moment: cython.ulonglong
    stamp: cython.ulonglong
    commit: cython.ulonglong
    count: cython.ulonglong
    word: cython.uint
    what: cython.uint
    good: cython.bint
    while at < size and room - row >= most:
        held = page_bytes
        if size - at < page_bytes:
            if not final:
                break
            held = size - at
        good = held >= data_at
        if good:
            moment = native.u64(text, at + stamp_at)
            commit = native.u64(text, at + commit_at)
            good = moment < _LATEST
        if good:
            place = at + data_at
            end = place + cython.cast(cython.Py_ssize_t, commit & _COMMIT)
            if commit & _MISSED:
                kind[row] = LOST
                tid[row] = -1
                time_ns[row] = cython.cast(cython.longlong, moment)
                start[row] = -1
                stop[row] = -1
                if commit & _COUNTED and end + 8 <= at + held:
                    count = native.u64(text, end)
                    if count > 0 and count < _SIGN:
                        start[row] = cython.cast(cython.longlong, count)
                row += 1
            if end > at + held:
                end = at + held
                good = False
            while end - place >= 4:
                word = native.u32(text, place)
                what = word & 31
                if what == _PADDING and word >> 5 == 0:
                    place = end
                    break
                first = place + 4
                if what == 0 or what >= _PADDING:
                    if end - place < 8:
                        break
                    first = place + 8
                if what == _STAMP:
                    stamp = (cython.cast(cython.ulonglong, native.u32(text, place + 4)) << 27) | (
                        word >> 5
                    )
                    stamp = (stamp & _STAMP_BITS) | (moment & _HIGH_BITS)
                    if stamp < moment:
                        stamp += _TURN
                    moment = stamp
                elif what == _EXTEND:
                    moment += (cython.cast(cython.ulonglong, native.u32(text, place + 4)) << 27) + (
                        word >> 5
                    )
                else:
                    moment += word >> 5
                if moment >= _LATEST:
                    break
                if what >= _EXTEND:
                    place = first
                    continue
                if what == 0 or what == _PADDING:
                    length = cython.cast(cython.longlong, native.u32(text, place + 4)) - 4
                    # Records begin at multiples of 4.
                    length = (length + 3) & ~3
                else:
                    length = what * 4
                if length < 0 or length > end - first:
                    break
                if what != _PADDING:
                    if length < _LEAST:
                        break
                    kind[row] = native.u16(text, first + type_at)
                    tid[row] = cython.cast(
                        cython.int, native.u32(text, first + thread_at) & 0x7FFFFFFF
                    )
                    time_ns[row] = cython.cast(cython.longlong, moment)
                    start[row] = first
                    stop[row] = first + length
                    row += 1
                place = first + cython.cast(cython.Py_ssize_t, length)
            good = good and place == end
        if not good:
            kind[row] = BAD
            tid[row] = -1
            time_ns[row] = -1
            start[row] = -1
            stop[row] = -1
            row += 1
        at += held
    return row, at


def find_texts(
    data: cython.const[cython.uchar][::1],
    kind: cython.int[::1],
    start: cython.longlong[::1],
    stop: cython.longlong[::1],
    wanted: cython.int,
    text_at: cython.Py_ssize_t,
    first: cython.longlong[::1],
    end: cython.longlong[::1],
) -> None:
    """Put where the text of each record of kind ``wanted`` begins and ends into first and end.

    The text of data[start[i]:stop[i]] begins at ``text_at``, and has a NUL behind it, which is in
    the last 5 bytes: the kernel leaves 2 for a newline and a NUL, and records have a multiple of 4.
    A newline at the end is no part of it. Other rows get an empty text.
    """
    rows: cython.Py_ssize_t = len(kind)
    row: cython.Py_ssize_t
    at: cython.Py_ssize_t
    low: cython.Py_ssize_t
    high: cython.Py_ssize_t
    if len(data) == 0:
        return
    text: cython.p_uchar = pointers.to_chars(data)
    for row in range(rows):
        first[row] = end[row] = start[row]
        if kind[row] != wanted:
            continue
        low = start[row] + text_at
        high = stop[row]
        if low > high:
            low = high
        at = high - 5
        if at < low:
            at = low
        while at < high and text[at] != 0:
            at += 1
        if at > low and text[at - 1] == 10:
            at -= 1
        first[row] = low
        end[row] = at
