# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Look up event names in a hash table, which ``event_table.py`` owns."""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import pointers, words

COMPILED: bool = cython.compiled


def index_names(
    blob: cython.const[cython.uchar][::1], offsets: cython.longlong[::1], slots: cython.int[::1]
) -> None:
    """Fill ``slots``, an open-addressed hash table, with the indices of names.

    Name i is blob[offsets[i]:offsets[i+1]]; of two equal names the first is found. ``slots`` is all
    -1, its size a power of two.
    """
    text: cython.p_uchar = pointers.to_chars(blob)
    size: cython.ulonglong = len(slots)
    i: cython.Py_ssize_t
    for i in range(len(offsets) - 1):
        slot: cython.ulonglong = words.hash_of(text, offsets[i], offsets[i + 1]) & (size - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        slots[slot] = i


def match_names(
    data: cython.const[cython.uchar][::1],
    blob: cython.const[cython.uchar][::1],
    offsets: cython.longlong[::1],
    slots: cython.int[::1],
    longest: cython.Py_ssize_t,
    start: cython.longlong[::1],
    stop: cython.longlong[::1],
    event: cython.int[::1],
    begin: cython.longlong[::1],
) -> None:
    """Look up the first word of each text data[start[i]:stop[i]] in the table of names.

    ``event[i]`` gets the index of the name, and ``begin[i]`` where its arguments begin; -1 and
    start[i] if it is not a name.
    """
    text: cython.p_uchar = pointers.to_chars(data)
    names: cython.p_uchar = pointers.to_chars(blob)
    edges: cython.p_longlong = pointers.to_longs(offsets)
    table: cython.p_int = pointers.to_ints(slots)
    mask: cython.ulonglong = len(slots) - 1
    row: cython.Py_ssize_t
    rows: cython.Py_ssize_t = len(start)
    with cython.nogil:
        for row in range(rows):
            first: cython.Py_ssize_t = start[row]
            end: cython.Py_ssize_t = stop[row]
            word: cython.Py_ssize_t = words.word_end(text, first, end, longest)
            name: cython.int = -1
            if word > first:
                name = words.lookup(text, first, word, names, edges, table, mask)
            event[row] = name
            begin[row] = first
            if name >= 0:
                begin[row] = word + 1 if word < end else end
