# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
r"""Find the events of uprobe records, and read their arguments.

Arguments are 8 bytes a number, 8 bytes the pointer to each text, and 4 bytes where the text is in
the record (``__data_loc``): ``uprobes.py`` defines them so.

Recordings of qtctl 0.1 have arguments as bpftrace 0.17 printed them: numbers in hex, then texts,
control bytes escaped as ``\u0001``, bytes that are not ASCII as ``\uffffffc3`` (a char that was
sign-extended).
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import native, octets, pointers

COMPILED: bool = cython.compiled


def find_sites(
    data: cython.const[cython.uchar][::1],
    kind: cython.int[::1],
    start: cython.longlong[::1],
    stop: cython.longlong[::1],
    address_at: cython.Py_ssize_t,
    least: cython.Py_ssize_t,
    addresses: cython.longlong[::1],
    events: cython.int[::1],
    kinds: cython.int[::1],
    event: cython.int[::1],
) -> None:
    """Put the event of each record into ``event``, -1 for one that no probe of these makes.

    A record data[start[i]:stop[i]] has its probe's address at ``address_at``, and at least
    ``least`` bytes. ``events`` and ``kinds`` belong to ``addresses``, which are in order.
    """
    if len(data) == 0:
        return
    text: cython.p_uchar = pointers.to_chars(data)
    rows: cython.Py_ssize_t = len(kind)
    count: cython.Py_ssize_t = len(addresses)
    row: cython.Py_ssize_t
    low: cython.Py_ssize_t
    high: cython.Py_ssize_t
    middle: cython.Py_ssize_t
    place: cython.longlong
    wide: cython.ulonglong
    for row in range(rows):
        event[row] = -1
        if kind[row] < 0 or stop[row] - start[row] < least:
            continue
        wide = native.u64(text, start[row] + address_at)
        if wide >> 63:
            continue
        place = cython.cast(cython.longlong, wide)
        low = 0
        high = count
        while low < high:
            middle = (low + high) // 2
            if addresses[middle] < place:
                low = middle + 1
            else:
                high = middle
        while low < count and addresses[low] == place:
            if kinds[low] == kind[row]:
                event[row] = events[low]
                break
            low += 1


def read_fetched(
    data: cython.const[cython.uchar][::1],
    numbers: cython.Py_ssize_t,
    texts: cython.Py_ssize_t,
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    values: cython.ulonglong[::1],
    spans: cython.longlong[::1],
    ok: cython.uchar[::1],
) -> None:
    """Read rows data[begin[i]:stop[i]] of ``numbers`` numbers and ``texts`` texts.

    values[i * rows + row] gets number i; data[spans[2 * i * rows + row]: ...] is text i, a single
    NUL for NULL. ok[row] is 1, 2 where a text could not be fetched whole, 0 where a row is in no
    such form.
    """
    if len(data) == 0:
        return
    text: cython.p_uchar = pointers.to_chars(data)
    rows: cython.Py_ssize_t = len(ok)
    fixed: cython.Py_ssize_t = 8 * numbers + 12 * texts
    row: cython.Py_ssize_t
    i: cython.Py_ssize_t
    at: cython.longlong
    place: cython.longlong
    first: cython.longlong
    size: cython.longlong
    where: cython.uint
    for row in range(rows):
        ok[row] = 0
        at = begin[row]
        if stop[row] - at < fixed:
            continue
        for i in range(numbers):
            values[i * rows + row] = native.u64(text, at + 8 * i)
        ok[row] = 1
        first = 0
        for i in range(texts):
            where = native.u32(text, at + 8 * (numbers + texts) + 4 * i)
            # The kernel counts from the beginning of the record, of which this is the end.
            if i == 0:
                first = where & 0xFFFF
            place = at + fixed + (where & 0xFFFF) - first
            size = where >> 16
            if native.u64(text, at + 8 * (numbers + i)) == 0:
                place = at + 8 * (numbers + i)
                size = 2
            elif size == 0:
                ok[row] = 2
                break
            elif place < at + fixed or size > stop[row] - place or text[place + size - 1] != 0:
                ok[row] = 0
                break
            spans[2 * i * rows + row] = place
            spans[(2 * i + 1) * rows + row] = place + size - 1


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
