# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Parse arguments as babeltrace2 2.0.4 printed them for qtctl 0.1: ``{ name = value, ... }``."""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import integers, octets, pointers, words

COMPILED: bool = cython.compiled

_MASK = cython.declare(cython.ulonglong, 0xFFFFFFFFFFFFFFFF)
_ONE = cython.declare(cython.ulonglong, 1)


def _word_end(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Where the run of letters, digits and underscores at ``at`` ends."""
    while at < end and words.of_name(data[at]):
        at += 1
    return at


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
