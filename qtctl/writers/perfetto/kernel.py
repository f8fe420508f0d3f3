# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Write Perfetto packets of track events, make times unique, and assign lanes to slices.

``packets.py`` is the only caller and makes sure that the buffers are large enough.
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import octets, pointers

COMPILED: bool = cython.compiled

# Types of the pieces of an event, as ``packets.py`` uses them. A piece is four numbers: its type,
# the offset of its column, and two parameters.
LITERAL, TEXT, NUMBER = range(3)
FIELDS = 4

_TOP = cython.declare(cython.ulonglong, 1 << 63)


def _copy(
    source: cython.p_uchar,
    start: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Copy source[start:start+size] in front of ``at``; return its start."""
    octets.copy(source, start, size, out, at - size)
    return at - size


def _field(
    tag: cython.uchar, value: cython.ulonglong, out: cython.p_uchar, at: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a tag and a varint in front of ``at``; return their start."""
    at = _varint(value, out, at) - 1
    out[at] = tag
    return at


def _varint(
    value: cython.ulonglong, out: cython.p_uchar, at: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    rest: cython.ulonglong = value >> 7
    while rest:
        at -= 1
        rest >>= 7
    at -= 1
    place: cython.Py_ssize_t = at
    while value > 127:
        out[place] = cython.cast(cython.uchar, value & 127 | 128)
        value >>= 7
        place += 1
    out[place] = cython.cast(cython.uchar, value)
    return at


def write_events(
    plan: cython.longlong[::1],
    bounds: cython.longlong[::1],
    texts: cython.const[cython.uchar][::1],
    edges: cython.longlong[::1],
    values: cython.ulonglong[::1],
    kind: cython.int[::1],
    place: cython.longlong[::1],
    time_ns: cython.ulonglong[::1],
    track: cython.ulonglong[::1],
    out: cython.uchar[::1],
) -> cython.Py_ssize_t:
    """Write a packet for each row, in order, at the end of ``out``; return where they begin.

    Row i is an event of kind[i], whose pieces are bounds[kind] to bounds[kind + 1] of ``plan``. A
    piece has FIELDS numbers: type, c, a and b; its value is values[c + place[i]]. LITERAL writes
    texts[a:b]. TEXT writes text number a + value; text n is texts[edges[n]:edges[n + 1]]. NUMBER
    writes a debug annotation: the first half of texts[a:b] (the second one if bit 63 of the value
    is set), then the value.

    Messages are written backwards, as a message's size stands before its fields.
    """
    source: cython.p_uchar = pointers.to_chars(texts)
    target: cython.p_uchar = pointers.to_chars(out)
    at: cython.Py_ssize_t = len(out)
    row: cython.Py_ssize_t = len(kind)
    piece: cython.Py_ssize_t
    first: cython.Py_ssize_t
    end: cython.Py_ssize_t
    inner: cython.Py_ssize_t
    size: cython.Py_ssize_t
    what: cython.longlong
    value: cython.ulonglong
    with cython.nogil:
        while row:
            row -= 1
            end = at
            piece = bounds[kind[row] + 1]
            while piece > bounds[kind[row]]:
                piece -= 1
                what = plan[4 * piece]
                first = plan[4 * piece + 2]
                if what == 0:
                    at = _copy(source, first, plan[4 * piece + 3] - first, target, at)
                    continue
                value = values[plan[4 * piece + 1] + place[row]]
                if what == 1:
                    first += cython.cast(cython.Py_ssize_t, value)
                    at = _copy(source, edges[first], edges[first + 1] - edges[first], target, at)
                    continue
                size = (plan[4 * piece + 3] - first) // 2
                if value >= _TOP:
                    first += size
                inner = at
                at = _copy(source, first, size, target, _varint(value, target, at))
                at = _field(0x22, inner - at, target, at)  # debug_annotations
            at = _field(0x58, track[row], target, at)  # track_uuid
            at = _field(0x5A, end - at, target, at)  # TracePacket.track_event
            at = _field(0x68, 2, target, at)  # sequence_flags: needs the names before it
            at = _field(0x40, time_ns[row], target, at)  # timestamp
            at = _field(0x50, 1, target, at)  # trusted_packet_sequence_id
            at = _field(0x0A, end - at, target, at)  # Trace.packet
    return at


def spread(
    track: cython.longlong[::1],
    time_ns: cython.longlong[::1],
    last: cython.longlong[::1],
    shown: cython.longlong[::1],
    out: cython.longlong[::1],
) -> None:
    """Copy times to ``out``; one that repeats on its track becomes 1 ns later than the one before.

    last[track] is the previous time of the track, shown[track] the previous output. A time that
    goes back is copied unchanged.
    """
    row: cython.Py_ssize_t
    place: cython.longlong
    now: cython.longlong
    with cython.nogil:
        for row in range(len(track)):
            place = track[row]
            now = time_ns[row]
            out[row] = now
            if last[place] <= now <= shown[place]:
                out[row] = shown[place] + 1
            last[place] = now
            shown[place] = out[row]


def lay_lanes(
    group: cython.longlong[::1],
    start: cython.longlong[::1],
    end: cython.longlong[::1],
    width: cython.Py_ssize_t,
    ended: cython.longlong[::1],
    lane: cython.longlong[::1],
    at: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Assign the first free lane of its group to each slice from ``at`` on.

    Returns the number of slices that have one: fewer than all if none of the ``width`` lanes of a
    group is free. A lane is free from ended[group * width + lane] on. No slice may end before it
    starts.
    """
    rows: cython.Py_ssize_t = len(group)
    base: cython.Py_ssize_t
    place: cython.Py_ssize_t
    with cython.nogil:
        while at < rows:
            base = group[at] * width
            place = 0
            while place < width and ended[base + place] > start[at]:
                place += 1
            if place == width:
                break
            ended[base + place] = end[at]
            lane[at] = place
            at += 1
    return at
