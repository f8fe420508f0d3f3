# cython: cdivision=True
"""Tell words, hash them, and look names up in a table (open-addressed: ``naming.index_names``)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import cython
else:
    from qtctl.records import shadow as cython

if cython.compiled:
    import cython.cimports.qtctl.records.kernels.inline.octets as octets
else:
    from qtctl.records.kernels.inline import octets


def of_name(byte: cython.int) -> cython.bint:
    """Tell if a name may have this byte: a letter, a digit or an underscore."""
    folded: cython.int = byte | 32
    return byte == 95 or (byte >= 48 and byte <= 57) or (folded >= 97 and folded <= 122)


def hash_of(
    data: cython.p_uchar, start: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.ulonglong:
    """Hash data[start:end]. Two lanes, so the processor works on both at once."""
    # In C, a number beyond 32 bits has to be a variable's, or it would be a Python object.
    mask: cython.ulonglong = 0xFFFFFFFFFFFFFFFF
    prime: cython.ulonglong = 0x100000001B3
    one: cython.ulonglong = 0xCBF29CE484222325
    two: cython.ulonglong = end - start
    i: cython.Py_ssize_t = start
    while i + 1 < end:
        one = ((one ^ data[i]) * prime) & mask
        two = ((two ^ data[i + 1]) * prime) & mask
        i += 2
    if i < end:
        one = ((one ^ data[i]) * prime) & mask
    one ^= (two << 7 & mask) ^ (two >> 13)
    return one ^ (one >> 32)


def lookup(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    blob: cython.p_uchar,
    offsets: cython.p_longlong,
    slots: cython.p_int,
    mask: cython.ulonglong,
) -> cython.int:
    """Index of the name data[start:end], or -1."""
    slot: cython.ulonglong = hash_of(data, start, end) & mask
    name: cython.int = slots[slot]
    while name >= 0:
        if offsets[name + 1] - offsets[name] == end - start:  # noqa: SIM102
            if octets.same(data, start, blob, offsets[name], end - start):
                return name
        slot = (slot + 1) & mask
        name = slots[slot]
    return -1


def word_end(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    longest: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Where the word at ``start`` ends (a blank or the line's end), or -1 if it is too long."""
    limit: cython.Py_ssize_t = end
    if limit - start > longest + 1:
        limit = start + longest + 1
    at: cython.Py_ssize_t = start
    while at < limit and data[at] != 32:
        at += 1
    return -1 if at - start > longest else at
