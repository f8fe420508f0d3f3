# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""Return the address of the first element of an array; interpreted, the array itself.

The address of an empty array must not be read.
"""

from qtctl.records import shadow as cython


def to_chars(array: cython.const[cython.uchar][::1]) -> cython.p_uchar:  # type: ignore[valid-type]
    """Return the address of bytes."""
    if cython.compiled:
        return cython.cast(cython.p_uchar, cython.address(array[0]))
    else:
        return array


def to_ints(array: cython.int[::1]) -> cython.p_int:
    """Return the address of 32-bit integers."""
    if cython.compiled:
        return cython.cast(cython.p_int, cython.address(array[0]))
    else:
        return array


def to_longs(array: cython.longlong[::1]) -> cython.p_longlong:
    """Return the address of 64-bit integers."""
    if cython.compiled:
        return cython.cast(cython.p_longlong, cython.address(array[0]))
    else:
        return array


def to_ulongs(array: cython.ulonglong[::1]) -> cython.p_ulonglong:
    """Return the address of unsigned 64-bit integers."""
    if cython.compiled:
        return cython.cast(cython.p_ulonglong, cython.address(array[0]))
    else:
        return array
