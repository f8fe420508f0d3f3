# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Group rows by event, and factorize texts (number the distinct ones)."""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import octets, pointers, words

COMPILED: bool = cython.compiled


def group_rows(
    event: cython.int[::1], heads: cython.longlong[::1], order: cython.longlong[::1]
) -> None:
    """Write the row numbers to ``order``, sorted by event; the sort is stable.

    ``heads[i + 1]`` is where the rows of event i begin in ``order`` (text rows are event -1); it is
    advanced to where they end.
    """
    row: cython.Py_ssize_t
    size: cython.Py_ssize_t = len(event)
    with cython.nogil:
        for row in range(size):
            group: cython.int = event[row] + 1
            order[heads[group]] = row
            heads[group] += 1


def factorize(
    data: cython.const[cython.uchar][::1],
    starts: cython.longlong[::1],
    stops: cython.longlong[::1],
    slots: cython.int[::1],
    codes: cython.int[::1],
    firsts: cython.longlong[::1],
) -> cython.Py_ssize_t:
    """Give the distinct texts data[starts[i]:stops[i]] numbers, as they appear; return the count.

    ``slots`` is the hash table: all -1, its size a power of two greater than the number of rows.
    ``codes[i]`` gets the number of row i's text, ``firsts[code]`` the first row that has it.
    """
    text: cython.p_uchar = pointers.to_chars(data)
    heads: cython.p_longlong = pointers.to_longs(starts)
    tails: cython.p_longlong = pointers.to_longs(stops)
    rows: cython.Py_ssize_t = len(starts)
    mask: cython.ulonglong = len(slots) - 1
    count: cython.int = 0
    last: cython.int = -1
    row: cython.Py_ssize_t
    with cython.nogil:
        for row in range(rows):
            start: cython.Py_ssize_t = starts[row]
            size: cython.Py_ssize_t = stops[row] - start
            # Adjacent rows mostly have the same text.
            if last >= 0 and _is_text(text, start, size, heads, tails, firsts[last]):
                codes[row] = last
                continue
            slot: cython.ulonglong = words.hash_of(text, start, start + size) & mask
            code: cython.int = slots[slot]
            while code >= 0 and not _is_text(text, start, size, heads, tails, firsts[code]):
                slot = (slot + 1) & mask
                code = slots[slot]
            if code < 0:
                code = count
                slots[slot] = code
                firsts[code] = row
                count += 1
            codes[row] = code
            last = code
    return count


def _is_text(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    starts: cython.p_longlong,
    stops: cython.p_longlong,
    row: cython.longlong,
) -> cython.bint:
    """Return whether data[start:start+size] is the text of ``row``."""
    if stops[row] - starts[row] != size:
        return False
    return octets.same(data, start, data, starts[row], size)
