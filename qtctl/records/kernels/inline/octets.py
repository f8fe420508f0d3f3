# cython: cdivision=True
"""Find, compare and copy bytes."""

from qtctl.records import shadow as cython

if cython.compiled:
    from cython.cimports.libc.string import memchr, memcmp, memcpy


def find(
    data: cython.p_uchar,
    byte: cython.int,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Return the position of ``byte`` in data[start:end], or -1."""
    if start >= end:
        return -1
    if cython.compiled:
        hit = cython.cast(cython.p_uchar, memchr(data + start, byte, end - start))
        return -1 if hit == cython.NULL else hit - data
    else:
        return data.find(byte, start, end)


def same(
    one: cython.p_uchar,
    at: cython.Py_ssize_t,
    two: cython.p_uchar,
    to: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
) -> cython.bint:
    """Return whether one[at:at+size] equals two[to:to+size]; both ranges must lie inside."""
    if size == 0:
        return True
    if cython.compiled:
        return memcmp(one + at, two + to, size) == 0
    else:
        return one[at : at + size] == two[to : to + size]


def starts(
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    text: cython.p_uchar,
    size: cython.Py_ssize_t,
) -> cython.bint:
    """Return whether data[at:end] starts with the ``size`` bytes of ``text``."""
    return end - at >= size and same(data, at, text, 0, size)


def copy(
    source: cython.p_uchar,
    start: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Copy source[start:start+size] to out[at:]; return the end in ``out``."""
    if cython.compiled:
        memcpy(out + at, source + start, size)
    else:
        out[at : at + size] = source[start : start + size]
    return at + size


def line_end(
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
    final: cython.bint,
) -> cython.Py_ssize_t:
    """Return the end of the line at ``at``, or of its first ``limit`` bytes; -1 if incomplete.

    The data ends at ``size``. An unterminated line there is complete if ``final``.
    """
    is_long: cython.bint = size - at > limit
    end: cython.Py_ssize_t = find(data, 10, at, at + limit + 1 if is_long else size)
    if end < 0 and is_long:
        return at + limit
    return size if end < 0 and final else end
