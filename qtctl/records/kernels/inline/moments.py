# cython: cdivision=True
"""Parse dates and times as Unix time."""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import integers


def days(year: cython.longlong, month: cython.longlong, day: cython.longlong) -> cython.longlong:
    """Return the days since 1970-01-01 in the Gregorian calendar; the year is 1 or later."""
    if month <= 2:
        year -= 1
        month += 12
    return (
        365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - 719469
    )


def clock(data: cython.p_uchar, at: cython.Py_ssize_t) -> cython.longlong:
    """Parse ``HH:MM:SS``, inside ``data``, as seconds of the day; return -1 for others."""
    if data[at + 2] != 58 or data[at + 5] != 58:
        return -1
    hour: cython.longlong = integers.digits(data, at, 2)
    minute: cython.longlong = integers.digits(data, at + 3, 2)
    second: cython.longlong = integers.digits(data, at + 6, 2)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 60:
        return -1
    return (hour * 60 + minute) * 60 + second


def fraction(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_longlong
) -> cython.Py_ssize_t:
    """Add an optional ``.FRACTION`` of a second, at most 9 digits, to out[0]; return its end."""
    if at >= end or data[at] != 46:
        return at
    value: cython.longlong = 0
    at += 1
    stop: cython.Py_ssize_t = at
    while stop < end and stop - at < 9 and data[stop] >= 48 and data[stop] <= 57:
        value = value * 10 + (data[stop] - 48)
        stop += 1
    _place: cython.Py_ssize_t
    for _place in range(stop - at, 9):
        value *= 10
    out[0] += value
    return stop


def iso(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_longlong
) -> cython.Py_ssize_t:
    """Parse ``YYYY-MM-DDTHH:MM:SS`` and a fraction into out[0], in ns; return its end, or -1."""
    if end - at < 19 or data[at + 4] != 45 or data[at + 7] != 45 or data[at + 10] != 84:
        return -1
    year: cython.longlong = integers.digits(data, at, 4)
    month: cython.longlong = integers.digits(data, at + 5, 2)
    day: cython.longlong = integers.digits(data, at + 8, 2)
    second: cython.longlong = clock(data, at + 11)
    # 2262 is where nanoseconds outgrow 64 bits.
    if year < 1970 or year > 2261 or month < 1 or month > 12 or day < 1 or day > 31 or second < 0:
        return -1
    out[0] = (days(year, month, day) * 86400 + second) * 1000000000
    return fraction(data, at + 19, end, out)


def unix(
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    size: cython.int,
    out: cython.p_longlong,
) -> cython.Py_ssize_t:
    """Parse ``SEC.FRACTION`` into out[0], in ns; return its end, or -1.

    The fraction has ``size`` digits; if that is 0, as many as there are.
    """
    at = integers.number(data, at, end, 9223372035, out, 0)
    if at < 0 or at >= end or data[at] != 46:
        return -1
    out[0] *= 1000000000
    stop: cython.Py_ssize_t = fraction(data, at, end, out)
    return stop if size == 0 or stop - at == size + 1 else -1
