# cython: cdivision=True
"""Read decimal numbers, count days, and fit numbers into 64 bits."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import cython
else:
    from qtctl.records import shadow as cython


def digits(
    data: cython.p_uchar, start: cython.Py_ssize_t, size: cython.Py_ssize_t
) -> cython.longlong:
    """Read ``size`` decimal digits, at most 18 (the range lies inside), or -1."""
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
    """Read a decimal number into out[slot]: its end, or -1.

    It is at most ``limit`` (10^18 or less), and has at most 19 digits.
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


def seconds(
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    out: cython.p_longlong,
    slot: cython.int,
) -> cython.Py_ssize_t:
    """Read seconds, as many as 64 bits hold in ns, into out[slot]: where they end, or -1."""
    return number(data, at, end, 9223372035, out, slot)


def days(year: cython.longlong, month: cython.longlong, day: cython.longlong) -> cython.longlong:
    """Days from 1970-01-01 in the Gregorian calendar; the year is 1 or later."""
    if month <= 2:
        year -= 1
        month += 12
    return (
        365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - 719469
    )


def negated(value: cython.ulonglong) -> cython.ulonglong:
    """Two's complement of a 64-bit pattern."""
    ones: cython.ulonglong = 0xFFFFFFFFFFFFFFFF
    return (ones - value + 1) & ones


def extended(
    value: cython.ulonglong, bits: cython.longlong, is_signed: cython.bint
) -> cython.ulonglong:
    """Extend the low ``bits`` (1 to 64) of a number to a 64-bit pattern."""
    ones: cython.ulonglong = 0xFFFFFFFFFFFFFFFF
    low: cython.ulonglong = ones >> (64 - bits)
    value &= low
    if is_signed and value >> (bits - 1):
        value |= ones ^ low
    return value
