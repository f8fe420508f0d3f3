# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Arrange the bytes of many records for compression, and restore them."""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import octets, pointers

COMPILED: bool = cython.compiled


def lay_out(
    data: cython.const[cython.uchar][::1],
    begin: cython.longlong[::1],
    size: cython.longlong[::1],
    order: cython.longlong[::1],
    bounds: cython.longlong[::1],
    longest: cython.Py_ssize_t,
    out: cython.uchar[::1],
) -> None:
    """Copy the rows' bytes to ``out``, group by group.

    Row i is data[begin[i] : begin[i] + size[i]]; group g has the rows order[bounds[g] :
    bounds[g + 1]]. Rows below ``longest`` bytes must have the same size within a group; they are
    transposed (all first bytes, then all second ones, ...). Longer rows are concatenated.
    """
    text: cython.p_uchar = pointers.to_chars(data)
    target: cython.p_uchar = pointers.to_chars(out)
    group: cython.Py_ssize_t
    row: cython.Py_ssize_t
    at: cython.Py_ssize_t = 0
    column: cython.Py_ssize_t
    with cython.nogil:
        for group in range(len(bounds) - 1):
            first: cython.Py_ssize_t = bounds[group]
            rows: cython.Py_ssize_t = bounds[group + 1] - first
            width: cython.Py_ssize_t = size[order[first]]
            if width < longest:
                for row in range(rows):
                    source: cython.Py_ssize_t = begin[order[first + row]]
                    for column in range(width):
                        out[at + column * rows + row] = data[source + column]
                at += rows * width
                continue
            for row in range(rows):
                width = size[order[first + row]]
                at = octets.copy(text, begin[order[first + row]], width, target, at)


def put_back(
    laid: cython.const[cython.uchar][::1],
    size: cython.longlong[::1],
    order: cython.longlong[::1],
    bounds: cython.longlong[::1],
    longest: cython.Py_ssize_t,
    begin: cython.longlong[::1],
    out: cython.uchar[::1],
) -> None:
    """Invert :func:`lay_out`: concatenate the rows in ``out``, group by group.

    ``begin[i]`` gets the offset of row i. The sizes must add up to those of ``laid`` and ``out``.
    """
    text: cython.p_uchar = pointers.to_chars(laid)
    target: cython.p_uchar = pointers.to_chars(out)
    group: cython.Py_ssize_t
    row: cython.Py_ssize_t
    at: cython.Py_ssize_t = 0
    column: cython.Py_ssize_t
    with cython.nogil:
        for group in range(len(bounds) - 1):
            first: cython.Py_ssize_t = bounds[group]
            rows: cython.Py_ssize_t = bounds[group + 1] - first
            width: cython.Py_ssize_t = size[order[first]]
            if width < longest:
                for row in range(rows):
                    begin[order[first + row]] = at + row * width
                    for column in range(width):
                        out[at + row * width + column] = laid[at + column * rows + row]
                at += rows * width
                continue
            for row in range(rows):
                begin[order[first + row]] = at
                width = size[order[first + row]]
                at = octets.copy(text, at, width, target, at)
