# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Find the START of each END in a table of open starts, by key, for ``pairs.py``.

The table is open-addressed with linear probing. Removing a start moves later ones up, so that a
long run leaves no tombstones.
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import pointers

COMPILED: bool = cython.compiled

# The roles of a row, shared with ``pairs.py``. A row may have both. WHOLE: nothing came before the
# stream in its run, so an END without a START has none.
START, END, WHOLE = 1, 2, 4

_MASK = cython.declare(cython.ulonglong, 0xFFFFFFFFFFFFFFFF)
_GOLDEN = cython.declare(cython.ulonglong, 0x9E3779B97F4A7C15)
_ONE = cython.declare(cython.ulonglong, 1)

# Words of ``met``: a Bloom filter, of which a key has four bits in one word.
MET_WORDS = 1 << 13


def _spread(key: cython.ulonglong) -> cython.ulonglong:
    """Return a hash of a key whose upper bits depend on all bits of the key."""
    return (key * _GOLDEN) & _MASK


def _bits(spread: cython.ulonglong) -> cython.ulonglong:
    """Return the bits of a key in its word of ``met``."""
    pair: cython.ulonglong = _ONE << (spread >> 45 & 63) | _ONE << (spread >> 39 & 63)
    return pair | _ONE << (spread >> 33 & 63) | _ONE << (spread >> 27 & 63)


def _home(key: cython.ulonglong, mask: cython.ulonglong) -> cython.ulonglong:
    """Return the slot where the search for a key begins; pointers differ in their middle bits."""
    return (_spread(key) >> 32) & mask


def _find(
    key: cython.ulonglong, used: cython.p_uchar, keys: cython.p_ulonglong, mask: cython.ulonglong
) -> cython.ulonglong:
    """Return the slot that holds the key, or the free slot where it belongs."""
    slot: cython.ulonglong = _home(key, mask)
    while used[slot] and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


def _free(
    slot: cython.ulonglong,
    used: cython.p_uchar,
    keys: cython.p_ulonglong,
    times: cython.p_longlong,
    tags: cython.p_int,
    mask: cython.ulonglong,
) -> cython.void:
    """Empty a slot, and move up the entries that could no longer be found."""
    hole: cython.ulonglong = slot
    probe: cython.ulonglong = (slot + 1) & mask
    while used[probe]:
        if ((probe - _home(keys[probe], mask)) & mask) >= ((probe - hole) & mask):
            keys[hole] = keys[probe]
            times[hole] = times[probe]
            tags[hole] = tags[probe]
            hole = probe
        probe = (probe + 1) & mask
    used[hole] = 0


def match(
    role: cython.uchar[::1],
    key: cython.ulonglong[::1],
    time_ns: cython.longlong[::1],
    tag: cython.int[::1],
    used: cython.uchar[::1],
    keys: cython.ulonglong[::1],
    times: cython.longlong[::1],
    tags: cython.int[::1],
    tally: cython.longlong[::1],
    begins: cython.longlong[::1],
    marks: cython.int[::1],
    ends: cython.longlong[::1],
    at: cython.Py_ssize_t,
    room: cython.longlong,
    met: cython.ulonglong[::1],
) -> cython.Py_ssize_t:
    """Process rows from ``at`` on until ``room`` starts are open; return the row reached.

    ``used``, ``keys``, ``times`` and ``tags`` are the table of open starts (a power of two above
    ``room``). ``tally`` counts: starts that are open, pairs found since row 0, starts whose key was
    used anew before they ended, ends without a start, ends that are the first of their key. Pair i
    gets the start's time and tag in begins[i] and marks[i], and the end's row in ends[i]. A row
    that is both ends what is open and starts anew; it is no end without a start. ``met`` holds
    which keys have come; another key counts as met if they set all its bits.
    """
    full: cython.p_uchar = pointers.to_chars(used)
    known: cython.p_ulonglong = pointers.to_ulongs(keys)
    clocks: cython.p_longlong = pointers.to_longs(times)
    notes: cython.p_int = pointers.to_ints(tags)
    words: cython.p_ulonglong = pointers.to_ulongs(met)
    mask: cython.ulonglong = len(used) - 1
    rows: cython.Py_ssize_t = len(role)
    open_: cython.longlong = tally[0]
    found: cython.longlong = tally[1]
    kind: cython.int
    whole: cython.bint
    slot: cython.ulonglong
    spread: cython.ulonglong
    word: cython.ulonglong
    bits: cython.ulonglong
    with cython.nogil:
        while at < rows and open_ < room:
            whole = role[at] & 4 != 0
            kind = role[at] & 3
            if kind == 0:
                at += 1
                continue
            slot = _find(key[at], full, known, mask)
            spread = _spread(key[at])
            word = spread >> 51
            bits = _bits(spread)
            if kind & 2:
                if full[slot]:
                    begins[found] = clocks[slot]
                    marks[found] = notes[slot]
                    ends[found] = at
                    found += 1
                    if kind == 2:
                        _free(slot, full, known, clocks, notes, mask)
                        open_ -= 1
                elif kind == 2:
                    tally[3 if whole or words[word] & bits == bits else 4] += 1
            elif full[slot]:
                tally[2] += 1
            if kind & 1:
                if full[slot] == 0:
                    full[slot] = 1
                    known[slot] = key[at]
                    open_ += 1
                clocks[slot] = time_ns[at]
                notes[slot] = tag[at]
            words[word] |= bits
            at += 1
    tally[0] = open_
    tally[1] = found
    return at
