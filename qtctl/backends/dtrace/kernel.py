# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
r"""Split the JSON lines of bpftrace into records, and parse their arguments.

A record is ``{"type": "printf", "data": "EVENT NSECS TID ARGS\n"}``, all numbers in hex, as the
program of ``bpftrace.py`` prints it; ``~`` for EVENT is a CPU's sign of life, with the
CPU for TID. Texts are escaped as bpftrace 0.17 does: control bytes ``\u0001``, bytes that are
not ASCII ``\uffffffc3`` (a char that was sign-extended); newer ones leave those as they are.
"""
# ruff: noqa: SIM102

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import integers, octets, pointers

COMPILED: bool = cython.compiled

#: What a row is, where it is no event; 0 to n-1 are events.
TEXT = -1
ALIVE = -2
LOST = -3

_LAST = cython.declare(cython.longlong, 0x7FFFFFFFFFFFFFFF)
_LAST_COUNT = cython.declare(cython.ulonglong, 999999999999999999)


def _nibble(byte: cython.int) -> cython.int:
    """Value of a lower-case hex digit, or -1."""
    if byte >= 48 and byte <= 57:
        return byte - 48
    if byte >= 97 and byte <= 102:
        return byte - 87
    return -1


def _hex(
    data: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t, out: cython.p_ulonglong
) -> cython.Py_ssize_t:
    """Read the hex digits at ``at`` into out[0]: their end; ``at`` for none or more than 16."""
    value: cython.ulonglong = 0
    first: cython.Py_ssize_t = at
    while at < end and at - first < 17 and _nibble(data[at]) >= 0:
        value = (value << 4) | cython.cast(cython.ulonglong, _nibble(data[at]))
        at += 1
    out[0] = value
    return at if at - first <= 16 else first


def _head(
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    events: cython.longlong,
    out: cython.p_longlong,
) -> cython.bint:
    """Read ``EVENT NSECS TID`` into out[0:3] and where the arguments begin into out[3]."""
    after: cython.Py_ssize_t
    value: cython.ulonglong[1] = [0]
    field: cython.int
    for field in range(3):
        if field == 0 and at < end and data[at] == 126:
            out[0] = -2
            after = at + 1
        else:
            after = _hex(data, at, end, value)
            if after == at or value[0] > cython.cast(cython.ulonglong, _LAST):
                return False
            out[field] = cython.cast(cython.longlong, value[0])
        if after < end and data[after] != 32:
            return False
        if after == end and field < 2:
            return False
        at = after + 1
    out[3] = at if at < end else end
    return out[0] < events and out[2] <= 0x7FFFFFFF


def split_lines(
    data: cython.const[cython.uchar][::1],
    events: cython.longlong,
    event: cython.int[::1],
    time_ns: cython.longlong[::1],
    tid: cython.int[::1],
    start: cython.longlong[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    at: cython.Py_ssize_t,
) -> tuple[int, int]:
    """Split data[at:] at its newlines into rows, as many as the columns hold.

    A row LOST has the count in ``time_ns``; a line in no known form is a row TEXT; empty lines and
    ``attached_probes`` are none. Returns the rows and where the first line not taken begins.
    """
    size: cython.Py_ssize_t = len(data)
    room: cython.Py_ssize_t = len(event)
    row: cython.Py_ssize_t = 0
    end: cython.Py_ssize_t
    last: cython.Py_ssize_t
    scratch: cython.longlong[4] = [0, 0, 0, 0]
    text: cython.p_uchar = pointers.to_chars(data)
    printf: cython.p_uchar = b'{"type": "printf", "data": "'
    loss: cython.p_uchar = b'{"type": "lost_events", "data": {"events": '
    skipped: cython.p_uchar = b'{"type": "attached_probes", '
    tail: cython.p_uchar = b'\\n"}'
    while row < room:
        end = octets.find(text, 10, at, size)
        if end < 0:
            break
        if end == at or octets.starts(text, at, end, skipped, 28):
            at = end + 1
            continue
        event[row] = -1
        time_ns[row] = -1
        tid[row] = -1
        start[row] = at
        begin[row] = at
        stop[row] = end
        if octets.starts(text, at, end, printf, 28):
            last = end - 4
            if last >= at + 28 and octets.starts(text, last, end, tail, 4):
                if _head(text, at + 28, last, events, scratch):
                    event[row] = cython.cast(cython.int, scratch[0])
                    time_ns[row] = scratch[1]
                    tid[row] = cython.cast(cython.int, scratch[2])
                    begin[row] = scratch[3]
                    stop[row] = last
        elif octets.starts(text, at, end, loss, 43):
            last = integers.number(text, at + 43, end, _LAST_COUNT, scratch, 0)
            if last == end - 2 and octets.starts(text, last, end, b"}}", 2):
                event[row] = -3
                time_ns[row] = scratch[0]
        row += 1
        at = end + 1
    return row, at


def _unescaped(
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    out: cython.p_uchar,
    to: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Copy data[at:end] to ``out`` without its escapes; where it ends there, or -1."""
    letters: cython.p_uchar = b'nrtbf"\\/'
    meant: cython.p_uchar = b'\n\r\t\b\f"\\/'
    letter: cython.Py_ssize_t
    byte: cython.int
    skip: cython.Py_ssize_t
    while at < end:
        byte = data[at]
        at += 1
        if byte == 92:
            if at == end:
                return -1
            byte = data[at]
            at += 1
            letter = octets.find(letters, byte, 0, 8)
            if letter >= 0:
                byte = meant[letter]
            elif byte == 117:
                skip = 0
                while skip < 6 and at + skip < end and data[at + skip] == 102:
                    skip += 1
                if skip != 6:
                    skip = 2
                    if end - at < 2 or data[at] != 48 or data[at + 1] != 48:
                        return -1
                if end - at < skip + 2:
                    return -1
                if _nibble(data[at + skip]) < 0 or _nibble(data[at + skip + 1]) < 0:
                    return -1
                byte = (_nibble(data[at + skip]) << 4) | _nibble(data[at + skip + 1])
                at += skip + 2
            else:
                return -1
        out[to] = byte
        to += 1
    return to


def read_arguments(
    data: cython.const[cython.uchar][::1],
    numbers: cython.Py_ssize_t,
    texts: cython.Py_ssize_t,
    mark: bytes,
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    values: cython.ulonglong[::1],
    spans: cython.longlong[::1],
    out: cython.uchar[::1],
    ok: cython.uchar[::1],
) -> None:
    """Read rows of ``numbers`` hex numbers, then ``texts`` texts with ``mark`` between them.

    values[i * rows + row] gets number i; out[spans[2 * i * rows + row]: ...] text i, unescaped;
    ``out`` holds as many bytes as all rows. ok[row] is 0 where a row is in no such form.
    """
    rows: cython.Py_ssize_t = len(ok)
    place: cython.Py_ssize_t = 0
    row: cython.Py_ssize_t
    i: cython.Py_ssize_t
    at: cython.Py_ssize_t
    after: cython.Py_ssize_t
    end: cython.Py_ssize_t
    value: cython.ulonglong[1] = [0]
    divide: cython.p_uchar = mark
    divided: cython.Py_ssize_t = len(mark)
    text: cython.p_uchar = pointers.to_chars(data)
    made: cython.p_uchar = pointers.to_chars(out)
    for row in range(rows):
        ok[row] = 0
        at = begin[row]
        end = stop[row]
        for i in range(numbers):
            after = _hex(text, at, end, value)
            if after == at:
                break
            values[i * rows + row] = value[0]
            # A space ends every number but the last of all.
            if i + 1 < numbers or texts:
                if after == end or text[after] != 32:
                    break
                after += 1
            at = after
        else:
            i = 0
            while i < texts:
                after = end
                if i + 1 < texts:
                    after = at
                    while after < end and not octets.starts(text, after, end, divide, divided):
                        after += 1
                    if after == end:
                        break
                spans[2 * i * rows + row] = place
                place = _unescaped(text, at, after, made, place)
                if place < 0:
                    place = spans[2 * i * rows + row]
                    break
                spans[(2 * i + 1) * rows + row] = place
                at = after + divided if i + 1 < texts else after
                i += 1
            if i == texts and at == end:
                ok[row] = 1
