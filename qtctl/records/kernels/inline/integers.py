# cython: cdivision=True
"""Parse decimal numbers, and do 64-bit arithmetic."""

from qtctl.records import shadow as cython


def digits(
    data: cython.p_uchar, start: cython.Py_ssize_t, size: cython.Py_ssize_t
) -> cython.longlong:
    """Parse exactly ``size`` decimal digits (at most 18, inside ``data``); return -1 for others."""
    value: cython.longlong = 0
    i: cython.Py_ssize_t
    for i in range(start, start + size):
        digit: cython.int = data[i] - 48
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value


def number(
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    limit: cython.ulonglong,
    out: cython.p_longlong,
    slot: cython.int,
) -> cython.Py_ssize_t:
    """Parse a decimal number into out[slot]; return its end, or -1.

    A number greater than ``limit`` (10^18 or less), or of more than 19 digits, is refused.
    """
    value: cython.ulonglong = 0
    first: cython.Py_ssize_t = at
    if end - at > 20:
        end = at + 20
    while at < end and data[at] >= 48 and data[at] <= 57:
        value = value * 10 + (data[at] - 48)
        at += 1
    out[slot] = value
    return -1 if at == first or at - first > 19 or value > limit else at


def negated(value: cython.ulonglong) -> cython.ulonglong:
    """Return the two's complement of a 64-bit pattern."""
    ones: cython.ulonglong = 0xFFFFFFFFFFFFFFFF
    return (ones - value + 1) & ones


def extended(
    value: cython.ulonglong, bits: cython.longlong, is_signed: cython.bint
) -> cython.ulonglong:
    """Return the low ``bits`` (1 to 64) of a number, zero- or sign-extended to 64 bits."""
    ones: cython.ulonglong = 0xFFFFFFFFFFFFFFFF
    low: cython.ulonglong = ones >> (64 - bits)
    value &= low
    if is_signed and value >> (bits - 1):
        value |= ones ^ low
    return value
