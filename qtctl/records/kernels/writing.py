# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Write rows as lines: numbers in decimal and hex, and texts by their codes.

``writers/lines.py`` is the only caller and makes sure that the buffers are large enough.
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import integers, octets, pointers

COMPILED: bool = cython.compiled

# Types of the pieces of a line, as ``writers/lines.py`` uses them. A piece is four numbers: its
# type, its column, and two parameters.
LITERAL, SIGNED, UNSIGNED, HEX, SIGNED_HEX, CHOICE, SIX, SPAN, IF_NEGATIVE, UNLESS_NEGATIVE = range(
    10
)
FIELDS = 4

_TOP = cython.declare(cython.ulonglong, 1 << 63)
_MICRO = cython.declare(cython.ulonglong, 1000)
_SECOND = cython.declare(cython.ulonglong, 1000000)


def _number(
    value: cython.ulonglong, base: cython.ulonglong, out: cython.p_uchar, at: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a number in base 10 or 16; return its end."""
    size: cython.int = 1
    rest: cython.ulonglong = value // base
    while rest:
        size += 1
        rest = rest // base
    end: cython.Py_ssize_t = at + size
    place: cython.Py_ssize_t = end
    digit: cython.int
    while place > at:
        place -= 1
        digit = cython.cast(cython.int, value % base)
        value = value // base
        out[place] = digit + 48 if digit < 10 else digit + 87
    return end


def _hex(value: cython.ulonglong, out: cython.p_uchar, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    out[at] = 48
    out[at + 1] = 120
    return _number(value, 16, out, at + 2)


def _six(value: cython.ulonglong, out: cython.p_uchar, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Write a number below a million as six digits; return its end."""
    place: cython.Py_ssize_t = at + 6
    while place > at:
        place -= 1
        out[place] = cython.cast(cython.int, value % 10) + 48
        value = value // 10
    return at + 6


def write_rows(
    plan: cython.longlong[::1],
    texts: cython.const[cython.uchar][::1],
    edges: cython.longlong[::1],
    values: cython.ulonglong[::1],
    rows: cython.longlong[::1],
    out: cython.uchar[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    at: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Write a line for each of ``rows`` to out[at:]; return the end of the last one.

    ``plan`` has FIELDS numbers per piece: type, column c, a and b. The value of line i is
    values[c * len(rows) + i], 64 bits. LITERAL writes texts[a:b]. CHOICE writes text number
    a + value; text n is texts[edges[n]:edges[n + 1]]. SIX writes a number as six digits, SPAN a
    signed time in ns as seconds. IF_NEGATIVE skips the next ``a`` pieces unless the value is
    negative, UNLESS_NEGATIVE if it is. begin[rows[i]] and stop[rows[i]] get line i's offsets.
    """
    source: cython.p_uchar = pointers.to_chars(texts)
    target: cython.p_uchar = pointers.to_chars(out)
    pieces: cython.Py_ssize_t = len(plan) // 4
    count: cython.Py_ssize_t = len(rows)
    i: cython.Py_ssize_t
    piece: cython.Py_ssize_t
    kind: cython.longlong
    first: cython.longlong
    size: cython.Py_ssize_t
    value: cython.ulonglong
    with cython.nogil:
        for i in range(count):
            begin[rows[i]] = at
            piece = 0
            while piece < pieces:
                kind = plan[4 * piece]
                first = plan[4 * piece + 2]
                if kind == 0:
                    at = octets.copy(source, first, plan[4 * piece + 3] - first, target, at)
                    piece += 1
                    continue
                value = values[plan[4 * piece + 1] * count + i]
                if kind == 5:
                    first += cython.cast(cython.longlong, value)
                    size = edges[first + 1] - edges[first]
                    at = octets.copy(source, edges[first], size, target, at)
                elif kind == 2:
                    at = _number(value, 10, target, at)
                elif kind == 3:
                    at = _hex(value, target, at)
                elif kind == 6:
                    at = _six(value, target, at)
                elif kind >= 8:
                    if (value >= _TOP) != (kind == 8):
                        piece += first
                else:
                    # Signed: write the sign, then the absolute value.
                    if value >= _TOP:
                        value = integers.negated(value)
                        target[at] = 45
                        at += 1
                    elif kind == 7:
                        target[at] = 43
                        at += 1
                    if kind == 1:
                        at = _number(value, 10, target, at)
                    elif kind == 4:
                        at = _hex(value, target, at)
                    else:
                        value = value // _MICRO
                        at = _number(value // _SECOND, 10, target, at)
                        target[at] = 46
                        at = _six(value % _SECOND, target, at + 1)
                piece += 1
            stop[rows[i]] = at
    return at


def gather(
    source: cython.uchar[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    out: cython.uchar[::1],
) -> cython.Py_ssize_t:
    """Copy the ranges source[begin[i]:stop[i]] to ``out``, in order; return the end."""
    text: cython.p_uchar = pointers.to_chars(source)
    target: cython.p_uchar = pointers.to_chars(out)
    at: cython.Py_ssize_t = 0
    i: cython.Py_ssize_t
    rows: cython.Py_ssize_t = len(begin)
    with cython.nogil:
        for i in range(rows):
            at = octets.copy(text, begin[i], stop[i] - begin[i], target, at)
    return at
