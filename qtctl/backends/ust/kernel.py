# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Split the text of babeltrace2 into lines, and parse named arguments, for ``decoder.py``.

The form is that of babeltrace2 2.0.4's ``sink.text.pretty`` with the parameters that
``qtctl.backends.ust.lttng`` gives it: ``[SEC.NSEC] qemu:NAME: { CPU }, { VPID, VTID }, { a = 1 }``.
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import integers, moments, octets, pointers, words

COMPILED: bool = cython.compiled

_MASK = cython.declare(cython.ulonglong, 0xFFFFFFFFFFFFFFFF)
_ONE = cython.declare(cython.ulonglong, 1)


def _stamp(
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    out: cython.p_longlong,
) -> cython.Py_ssize_t:
    """Read ``[SEC.NSEC] qemu:``: where the name starts, or -1. Sets out[0], ns."""
    if at >= end or data[at] != 91:
        return -1
    at = moments.unix(data, at + 1, end, 9, out)
    return at + 7 if at >= 0 and octets.starts(data, at, end, b"] qemu:", 7) else -1


def _contexts(
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    place: cython.longlong,
    out: cython.p_longlong,
) -> cython.Py_ssize_t:
    """Read ``: { CPU }, { VPID, VTID }, ``: where it ends, or -1. Sets out[1], the thread id.

    That stands at ``place`` among the second braces, or nowhere where this is -1. A trace that
    somebody else recorded may have other contexts, or none: they are stepped over, up to
    ``{ name = `` or the empty ``{ }`` of the arguments, and the thread is not known.
    """
    if end - at < 5 or data[at] != 58 or data[at + 1] != 32:
        return -1
    at += 2
    group: cython.int = 0
    stop: cython.Py_ssize_t
    while end - at >= 3 and data[at] == 123 and data[at + 1] == 32:
        if data[at + 2] == 125:
            return at if end - at == 3 else -1
        stop = _word_end(data, at + 2, end)
        if stop > at + 2 and end - stop > 3 and data[stop] == 32 and data[stop + 1] == 61:
            return at
        if group == 1 and place >= 0:
            out[1] = _thread(data, at + 2, end, place)
        group += 1
        at = _group_end(data, at + 2, end)
        if at < 0 or end - at < 2 or data[at] != 44 or data[at + 1] != 32:
            return -1
        at += 2
        if out[1] != -1:
            return at if out[1] <= 0x7FFFFFFF else -1
    return -1


def _word_end(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Where the run of letters, digits and underscores at ``at`` ends."""
    while at < end and words.of_name(data[at]):
        at += 1
    return at


def _group_end(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Where what follows the closing brace begins, quoted texts left out; -1 without one."""
    quoted: cython.bint = False
    while at < end:
        if data[at] == 92 and quoted:
            at += 1
        elif data[at] == 34:
            quoted = not quoted
        elif data[at] == 125 and not quoted:
            return at + 1
        at += 1
    return -1


def _thread(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, place: cython.longlong
) -> cython.longlong:
    """Read the thread id among ``VPID, VTID }``; -1 where that does not stand there.

    What is too large for one is a number still.
    """
    while place > 0:
        if at < end and data[at] == 34:
            at += 1
            while at < end and data[at] != 34:
                at += 2 if data[at] == 92 else 1
        while at < end and data[at] != 44 and data[at] != 125:
            at += 1
        if end - at < 2 or data[at] != 44 or data[at + 1] != 32:
            return -1
        at += 2
        place -= 1
    stop: cython.Py_ssize_t = at
    while stop < end and data[stop] >= 48 and data[stop] <= 57:
        stop += 1
    is_last: cython.bint = octets.starts(data, stop, end, b" }", 2)
    if stop == at or not (is_last or octets.starts(data, stop, end, b", ", 2)):
        return -1
    return integers.digits(data, at, stop - at) if stop - at <= 18 else 0xFFFFFFFF


def _name_end(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Where the name at ``at`` ends: at a colon, or -1."""
    first: cython.Py_ssize_t = at
    while at < end and data[at] != 58 and data[at] != 32:
        at += 1
    return at if at > first and at < end and data[at] == 58 else -1


def split_records(
    data: cython.const[cython.uchar][::1],
    scratch: cython.longlong[::1],
    place: cython.longlong,
    name: cython.longlong[::1],
    name_stop: cython.longlong[::1],
    time_ns: cython.longlong[::1],
    tid: cython.int[::1],
    start: cython.longlong[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    at: cython.Py_ssize_t,
) -> tuple:
    """Split data[at:] into whole lines; returns (rows written, offset reached).

    A line that is a record gets the offsets of its name; for others ``name`` is -1, ``time_ns`` -1
    and ``begin`` the line's start. ``stop`` leaves the newline out. ``scratch`` is of two. The
    thread id has ``place`` among the contexts, from 0, or -1. Stops when the columns are full, or
    at a line without an end.
    """
    text: cython.p_uchar = pointers.to_chars(data)
    out: cython.p_longlong = pointers.to_longs(scratch)
    size: cython.Py_ssize_t = len(data)
    room: cython.Py_ssize_t = len(start)
    row: cython.Py_ssize_t = 0
    with cython.nogil:
        while row < room:
            end: cython.Py_ssize_t = octets.find(text, 10, at, size)
            if end < 0:
                break
            name[row] = name_stop[row] = time_ns[row] = -1
            tid[row] = -1
            start[row] = begin[row] = at
            stop[row] = end
            out[1] = -1
            first: cython.Py_ssize_t = _stamp(text, at, end, out)
            last: cython.Py_ssize_t = _name_end(text, first, end) if first >= 0 else -1
            after: cython.Py_ssize_t = _contexts(text, last, end, place, out) if last >= 0 else -1
            if after >= 0:
                name[row] = first
                name_stop[row] = last
                time_ns[row] = out[0]
                tid[row] = cython.cast(cython.int, out[1])
                begin[row] = after
            row += 1
            at = end + 1
    return row, at


def _integer(
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    bits: cython.longlong,
    is_signed: cython.bint,
    out: cython.p_ulonglong,
) -> cython.Py_ssize_t:
    """Read a number, decimal or ``0xHEX``: its end, or -1. Sets out[0], a 64-bit pattern."""
    value: cython.ulonglong = 0
    base: cython.int = 10
    negative: cython.bint = False
    digit: cython.int
    if octets.starts(data, at, end, b"0x", 2):
        base = 16
        at += 2
    elif at < end and data[at] == 45:
        negative = True
        at += 1
    first: cython.Py_ssize_t = at
    while at < end:
        digit = data[at] - 48
        if digit > 9:
            digit = digit - 7 if digit > 16 else base
        if digit < 0 or digit >= base:
            break
        if at - first >= 16 and value > (_MASK - digit) // base:
            return -1
        value = value * base + digit
        at += 1
    if at == first or (base == 16 and at - first > 16):
        return -1
    # More than one digit after a leading zero would be octal, which QEMU does not ask for.
    if base == 10 and at - first > 1 and data[first] == 48:
        return -1
    if negative:
        if value > _ONE << 63:
            return -1
        value = integers.negated(value)
    # The tracer may carry a number wider or narrower than it was declared.
    out[0] = integers.extended(value, bits, is_signed)
    return at


def _read_row(
    data: cython.p_uchar,
    table: cython.p_longlong,
    count: cython.Py_ssize_t,
    names: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    row: cython.Py_ssize_t,
    rows: cython.Py_ssize_t,
    number: cython.p_ulonglong,
    values: cython.p_ulonglong,
    spans: cython.p_longlong,
    escaped: cython.p_uchar,
) -> cython.bint:
    """Read ``{ name = value, ... }`` whole; True if it has the arguments of the table."""
    if not octets.starts(data, at, end, b"{ ", 2):
        return False
    at += 2
    named: cython.Py_ssize_t = 0
    numbers: cython.Py_ssize_t = 0
    texts: cython.Py_ssize_t = 0
    field: cython.Py_ssize_t
    for field in range(count):
        size: cython.Py_ssize_t = table[field * 3]
        bits: cython.longlong = table[field * 3 + 1]
        if field:
            if not octets.starts(data, at, end, b", ", 2):
                return False
            at += 2
        if end - at < size + 3 or not octets.same(data, at, names, named, size):
            return False
        named += size
        at += size
        if not octets.starts(data, at, end, b" = ", 3):
            return False
        at += 3
        if bits == 0:
            if at >= end or data[at] != 34:
                return False
            at += 1
            spans[2 * texts * rows + row] = at
            while at < end and data[at] != 34:
                if data[at] == 92:
                    escaped[texts] = 1
                    at += 1
                at += 1
            if at >= end:
                return False
            spans[(2 * texts + 1) * rows + row] = at
            texts += 1
            at += 1
        else:
            at = _integer(data, at, end, bits, table[field * 3 + 2] != 0, number)
            if at < 0:
                return False
            values[numbers * rows + row] = number[0]
            numbers += 1
    if count:
        if end - at != 2 or data[at] != 32:
            return False
        at += 1
    return at + 1 == end and data[at] == 125


def parse_fields(
    data: cython.const[cython.uchar][::1],
    table: cython.longlong[::1],
    names: cython.const[cython.uchar][::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    values: cython.ulonglong[::1],
    spans: cython.longlong[::1],
    escaped: cython.uchar[::1],
    ok: cython.uchar[::1],
) -> None:
    """Read the arguments data[begin[i]:stop[i]] of every row of one event.

    ``table`` has three numbers for each argument that is printed: the length of its name, bits (0:
    a text), and whether it is signed; ``names`` are the names end to end. ``values`` (numbers x
    rows) gets 64-bit patterns, ``spans`` (2 x texts x rows) where the texts lie between their
    quotes, ``escaped`` which text columns hold a backslash, ``ok`` which rows could be read.
    """
    text: cython.p_uchar = pointers.to_chars(data)
    plan: cython.p_longlong = pointers.to_longs(table)
    fixed: cython.p_uchar = pointers.to_chars(names)
    out: cython.p_ulonglong = pointers.to_ulongs(values)
    edges: cython.p_longlong = pointers.to_longs(spans)
    marks: cython.p_uchar = pointers.to_chars(escaped)
    count: cython.Py_ssize_t = len(table) // 3
    rows: cython.Py_ssize_t = len(begin)
    number: cython.ulonglong[1] = [0]
    row: cython.Py_ssize_t
    with cython.nogil:
        for row in range(rows):
            ok[row] = _read_row(
                text, plan, count, fixed, begin[row], stop[row], row, rows, number, out, edges,
                marks,
            )  # fmt: skip
