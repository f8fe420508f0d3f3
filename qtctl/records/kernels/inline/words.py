# cython: cdivision=True
"""Split words, hash them, and look up names in the hash table of ``naming.index_names``."""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import octets


def of_name(byte: cython.int) -> cython.bint:
    """Return whether a byte may occur in a name: a letter, a digit or an underscore."""
    folded: cython.int = byte | 32
    return byte == 95 or (byte >= 48 and byte <= 57) or (folded >= 97 and folded <= 122)


def hash_of(
    data: cython.p_uchar, start: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.ulonglong:
    """Return a hash of data[start:end], computed in two lanes that the processor runs at once."""
    # Literals beyond 32 bits would be Python objects in compiled code; variables are C.
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
    """Return the index of the name data[start:end], or -1."""
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
    """Return the end of the word at ``start`` (a blank or ``end``), -1 if above ``longest``."""
    limit: cython.Py_ssize_t = end
    if limit - start > longest + 1:
        limit = start + longest + 1
    at: cython.Py_ssize_t = start
    while at < limit and data[at] != 32:
        at += 1
    return -1 if at - start > longest else at
