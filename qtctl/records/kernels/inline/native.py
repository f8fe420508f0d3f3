# cython: cdivision=True
"""Read integers in this machine's byte order from anywhere in bytes."""

from sys import byteorder

from qtctl.records import shadow as cython

if cython.compiled:
    from cython.cimports.libc.string import memcpy


def u16(data: cython.p_uchar, at: cython.Py_ssize_t) -> cython.int:
    """Return the 16-bit number at ``at``."""
    if cython.compiled:
        value = cython.declare(cython.ushort)
        memcpy(cython.address(value), data + at, 2)
        return value
    else:
        return int.from_bytes(data[at : at + 2], byteorder)


def u32(data: cython.p_uchar, at: cython.Py_ssize_t) -> cython.uint:
    """Return the 32-bit number at ``at``."""
    if cython.compiled:
        value = cython.declare(cython.uint)
        memcpy(cython.address(value), data + at, 4)
        return value
    else:
        return int.from_bytes(data[at : at + 4], byteorder)


def u64(data: cython.p_uchar, at: cython.Py_ssize_t) -> cython.ulonglong:
    """Return the 64-bit number at ``at``."""
    if cython.compiled:
        value = cython.declare(cython.ulonglong)
        memcpy(cython.address(value), data + at, 8)
        return value
    else:
        return int.from_bytes(data[at : at + 8], byteorder)
