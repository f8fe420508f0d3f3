# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The loops that walk bytes: lines, prefixes, names, arguments, distinct texts.

Cython in pure-Python mode: the same source runs compiled (fast) and interpreted (right, slower),
and ``COMPILED`` tells which. Callers pass ``bytes`` and memoryviews of C-contiguous arrays, which
both forms read alike; ``batch.py`` and ``logtext.py`` are the only ones.

Line forms are those of QEMU 7.2 to 11.1: ``name args``, ``TID@SEC.USEC:name args`` and
``2026-11-22T21:37:32.295065Z name args`` (the fraction is absent on a whole second, as GLib's
g_date_time_format_iso8601 leaves it out).
"""
# ruff: noqa: SIM102, SIM108

import cython

if cython.compiled:
    from cython.cimports.libc.string import memchr, memcmp

COMPILED: bool = cython.compiled

# Literals beyond 32 bits would be Python objects in compiled code: they get C names.
_MASK = cython.declare(cython.ulonglong, 0xFFFFFFFFFFFFFFFF)
_ONE = cython.declare(cython.ulonglong, 1)
_PRIME = cython.declare(cython.ulonglong, 0x100000001B3)
_BASIS = cython.declare(cython.ulonglong, 0xCBF29CE484222325)
# Value of every byte as a digit (255: none): looked up, since which digit comes next cannot be
# predicted, and a wrong guess costs the processor more than the rest of the number.
_LOWER_TABLE = bytes(b"0123456789abcdef".find(byte) & 255 for byte in range(256))
_UPPER_TABLE = bytes(b"0123456789ABCDEF".find(byte) & 255 for byte in range(256))
cython.declare(_LOWER=cython.p_uchar, _UPPER=cython.p_uchar)
_LOWER = _LOWER_TABLE
_UPPER = _UPPER_TABLE
_LAST_SECOND = cython.declare(cython.longlong, 9223372035)

# Columns of a plan's table, one row a step (see ``batch.compile_plan``).
FIELDS = (
    "op",
    "offset",
    "length",
    "column",
    "base",
    "upper",
    "least",
    "most",
    "width",
    "zeros",
    "loose",
    "bits",
    "signed",
    "only",
    "argument_bits",
    "argument_signed",
)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _find(
    data: cython.p_uchar,
    byte: cython.int,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Position of ``byte`` in data[start:end], or -1."""
    if start >= end:
        return -1
    if cython.compiled:
        hit = cython.cast(cython.p_uchar, memchr(data + start, byte, end - start))
        return -1 if hit == cython.NULL else hit - data
    return data.find(byte, start, end)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _same(
    one: cython.p_uchar,
    at: cython.Py_ssize_t,
    two: cython.p_uchar,
    to: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
) -> cython.bint:
    """Tell if one[at:at+size] equals two[to:to+size]; both ranges lie inside."""
    if size == 0:
        return True
    if cython.compiled:
        return memcmp(one + at, two + to, size) == 0
    return one[at : at + size] == two[to : to + size]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _hash(
    data: cython.p_uchar, start: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.ulonglong:
    """Hash data[start:end]. Two lanes, so the processor works on both at once."""
    one: cython.ulonglong = _BASIS
    two: cython.ulonglong = end - start
    i: cython.Py_ssize_t = start
    while i + 1 < end:
        one = ((one ^ data[i]) * _PRIME) & _MASK
        two = ((two ^ data[i + 1]) * _PRIME) & _MASK
        i += 2
    if i < end:
        one = ((one ^ data[i]) * _PRIME) & _MASK
    one ^= (two << 7 & _MASK) ^ (two >> 13)
    return one ^ (one >> 32)


def index_names(
    blob: cython.const[cython.uchar][::1], offsets: cython.longlong[::1], slots: cython.int[::1]
) -> None:
    """Fill an open-addressed table: ``slots`` (a power of two, all -1) gets indices of names.

    Name i is blob[offsets[i]:offsets[i+1]]; of two equal names the first wins.
    """
    text: cython.p_uchar
    if cython.compiled:
        text = cython.cast(cython.p_uchar, cython.address(blob[0]))
    else:
        text = blob
    size: cython.ulonglong = len(slots)
    i: cython.Py_ssize_t
    for i in range(len(offsets) - 1):
        slot: cython.ulonglong = _hash(text, offsets[i], offsets[i + 1]) & (size - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        slots[slot] = i


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _lookup(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    blob: cython.p_uchar,
    offsets: cython.p_longlong,
    slots: cython.p_int,
    mask: cython.ulonglong,
) -> cython.int:
    """Index of the name data[start:end], or -1."""
    slot: cython.ulonglong = _hash(data, start, end) & mask
    name: cython.int = slots[slot]
    while name >= 0:
        if offsets[name + 1] - offsets[name] == end - start:
            if _same(data, start, blob, offsets[name], end - start):
                return name
        slot = (slot + 1) & mask
        name = slots[slot]
    return -1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _digits(
    data: cython.p_uchar, start: cython.Py_ssize_t, size: cython.Py_ssize_t
) -> cython.longlong:
    """Read ``size`` decimal digits (the range lies inside), or -1."""
    value: cython.longlong = 0
    i: cython.Py_ssize_t
    for i in range(start, start + size):
        digit: cython.int = data[i] - 48
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _days(year: cython.longlong, month: cython.longlong, day: cython.longlong) -> cython.longlong:
    """Days from 1970-01-01 in the Gregorian calendar; the year is 1 or later."""
    if month <= 2:
        year -= 1
        month += 12
    return (
        365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day - 719469
    )


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _iso_prefix(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    stamp: cython.p_longlong,
) -> cython.Py_ssize_t:
    """Read an ISO 8601 prefix: where the name starts, or -1. Sets stamp[0]; stamp[2:4] caches."""
    if end - start < 21 or data[start + 4] != 45 or data[start + 7] != 45:
        return -1
    if data[start + 10] != 84 or data[start + 13] != 58 or data[start + 16] != 58:
        return -1
    year: cython.longlong = _digits(data, start, 4)
    month: cython.longlong = _digits(data, start + 5, 2)
    day: cython.longlong = _digits(data, start + 8, 2)
    hour: cython.longlong = _digits(data, start + 11, 2)
    minute: cython.longlong = _digits(data, start + 14, 2)
    second: cython.longlong = _digits(data, start + 17, 2)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 60:
        return -1
    # 2262 is where nanoseconds outgrow 64 bits.
    if year < 1970 or year > 2261 or month < 1 or month > 12 or day < 1 or day > 31:
        return -1
    at: cython.Py_ssize_t = start + 19
    fraction: cython.longlong = 0
    unit: cython.longlong = 1000000000
    if data[at] == 46:
        at += 1
        while at < end and unit > 1 and data[at] >= 48 and data[at] <= 57:
            fraction = fraction * 10 + (data[at] - 48)
            unit //= 10
            at += 1
    if at + 1 >= end or data[at] != 90 or data[at + 1] != 32:
        return -1
    date: cython.longlong = (year * 16 + month) * 32 + day
    if stamp[2] != date:
        stamp[2] = date
        stamp[3] = _days(year, month, day)
    seconds: cython.longlong = ((stamp[3] * 24 + hour) * 60 + minute) * 60 + second
    stamp[0] = seconds * 1000000000 + fraction * unit
    stamp[1] = -1
    return at + 2


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _tid_prefix(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    stamp: cython.p_longlong,
) -> cython.Py_ssize_t:
    """Read a ``TID@SEC.USEC:`` prefix: where the name starts, or -1. Sets stamp[0] and stamp[1]."""
    at: cython.Py_ssize_t = start
    tid: cython.longlong = 0
    while at < end and data[at] >= 48 and data[at] <= 57:
        tid = tid * 10 + (data[at] - 48)
        at += 1
        if tid > 0x7FFFFFFF:
            return -1
    if at == start or at >= end or data[at] != 64:
        return -1
    at += 1
    first: cython.Py_ssize_t = at
    seconds: cython.longlong = 0
    while at < end and data[at] >= 48 and data[at] <= 57:
        seconds = seconds * 10 + (data[at] - 48)
        at += 1
        if seconds > _LAST_SECOND:
            return -1
    if at == first or at + 7 >= end or data[at] != 46 or data[at + 7] != 58:
        return -1
    fraction: cython.longlong = _digits(data, at + 1, 6)
    if fraction < 0:
        return -1
    stamp[0] = seconds * 1000000000 + fraction * 1000
    stamp[1] = tid
    return at + 8


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _prefix(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    stamp: cython.p_longlong,
) -> cython.Py_ssize_t:
    """Skip a line's time prefix if it has one; sets stamp[0] and stamp[1] (-1: unknown)."""
    stamp[0] = -1
    stamp[1] = -1
    if start >= end or data[start] < 48 or data[start] > 57:
        return start
    at: cython.Py_ssize_t = _iso_prefix(data, start, end, stamp)
    if at < 0:
        at = _tid_prefix(data, start, end, stamp)
    return start if at < 0 else at


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _name_end(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    longest: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Where the word at ``start`` ends (a blank or the line's end), or -1 if it is too long."""
    limit: cython.Py_ssize_t = end
    if limit - start > longest + 1:
        limit = start + longest + 1
    at: cython.Py_ssize_t = start
    while at < limit and data[at] != 32:
        at += 1
    return -1 if at - start > longest else at


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _line_end(
    data: cython.p_uchar,
    at: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
    final: cython.bint,
) -> cython.Py_ssize_t:
    """Where the line at ``at`` ends; -1 if more bytes are needed, -2 if it is beyond ``limit``."""
    bound: cython.Py_ssize_t = size if size - at <= limit else at + limit + 1
    end: cython.Py_ssize_t = _find(data, 10, at, bound)
    if end >= 0:
        return end
    if size - at > limit:
        return -2
    return size if final else -1


def split_lines(
    data: cython.const[cython.uchar][::1],
    blob: cython.const[cython.uchar][::1],
    offsets: cython.longlong[::1],
    slots: cython.int[::1],
    extra: cython.int[::1],
    longest: cython.Py_ssize_t,
    stamp: cython.longlong[::1],
    final: cython.bint,
    event: cython.int[::1],
    time_ns: cython.longlong[::1],
    tid: cython.int[::1],
    start: cython.longlong[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    at: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
) -> tuple:
    """Split data[at:] into records; returns (rows written, offset reached).

    ``extra[i]`` is how many further lines event i spans. ``stamp`` is scratch of five, the last
    three kept between calls and started at -1. Rows get: event index or -1 for text, time in ns or
    -1, tid or -1, and the offsets of the line, of its arguments (of the text after a prefix for
    text rows) and of its end without the newline. Stops when the output columns are full. Without
    ``final`` an unfinished record at the end is left unconsumed. A line of more than ``limit``
    bytes becomes text rows of that size, wherever the chunks were cut.
    """
    text: cython.p_uchar
    names: cython.p_uchar
    edges: cython.p_longlong
    table: cython.p_int
    clock: cython.p_longlong
    if cython.compiled:
        text = cython.cast(cython.p_uchar, cython.address(data[0]))
        names = cython.cast(cython.p_uchar, cython.address(blob[0]))
        edges = cython.cast(cython.p_longlong, cython.address(offsets[0]))
        table = cython.cast(cython.p_int, cython.address(slots[0]))
        clock = cython.cast(cython.p_longlong, cython.address(stamp[0]))
    else:
        text, names, edges, table, clock = data, blob, offsets, slots, stamp
    size: cython.Py_ssize_t = len(data)
    mask: cython.ulonglong = len(slots) - 1
    room: cython.Py_ssize_t = len(event)
    row: cython.Py_ssize_t = 0
    with cython.nogil:
        while at < size and row < room:
            end: cython.Py_ssize_t = _line_end(text, at, size, limit, final)
            if end == -1:
                break
            name: cython.int = -1
            first: cython.Py_ssize_t = at
            clock[0] = -1
            clock[1] = -1
            if end >= 0 and clock[4] < 0:
                first = _prefix(text, at, end, clock)
                word: cython.Py_ssize_t = _name_end(text, first, end, longest)
                if word > first:
                    name = _lookup(text, first, word, names, edges, table, mask)
                if name >= 0:
                    first = word + 1 if word < end else end
            time_ns[row] = clock[0]
            tid[row] = cython.cast(cython.int, clock[1])
            if name >= 0 and extra[name] > 0:
                end = _more_lines(
                    text,
                    end,
                    size,
                    extra[name],
                    names,
                    edges,
                    table,
                    longest,
                    clock,
                    final,
                    limit,
                    mask,
                )
                if end < 0:
                    break
            event[row] = name
            start[row] = at
            begin[row] = first
            stop[row] = at + limit if end == -2 else end
            clock[4] = 1 if end == -2 else -1
            row += 1
            at = stop[row - 1] + (0 if end == -2 else 1)
    return row, at if at < size else size


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _more_lines(
    data: cython.p_uchar,
    end: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    count: cython.int,
    blob: cython.p_uchar,
    offsets: cython.p_longlong,
    slots: cython.p_int,
    longest: cython.Py_ssize_t,
    stamp: cython.p_longlong,
    final: cython.bint,
    limit: cython.Py_ssize_t,
    mask: cython.ulonglong,
) -> cython.Py_ssize_t:
    """End of a record with ``count`` further lines; -1 where more bytes are needed to tell.

    Stops short of a line that is an event itself, or beyond ``limit``.
    """
    _line: cython.int
    for _line in range(count):
        at: cython.Py_ssize_t = end + 1
        if at >= size and final:
            return end
        stop: cython.Py_ssize_t = _line_end(data, at, size, limit, final)
        if stop < 0:
            return -1 if stop == -1 else end
        first: cython.Py_ssize_t = _prefix(data, at, stop, stamp)
        word: cython.Py_ssize_t = _name_end(data, first, stop, longest)
        if word > first:
            if _lookup(data, first, word, blob, offsets, slots, mask) >= 0:
                return end
        end = stop
    return end


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
    """Look up the first word of each text data[start[i]:stop[i]] among the names.

    ``event[i]`` gets the index of the name, or -1; ``begin[i]`` where its arguments begin, or
    start[i].
    """
    text: cython.p_uchar
    names: cython.p_uchar
    edges: cython.p_longlong
    table: cython.p_int
    if cython.compiled:
        text = cython.cast(cython.p_uchar, cython.address(data[0]))
        names = cython.cast(cython.p_uchar, cython.address(blob[0]))
        edges = cython.cast(cython.p_longlong, cython.address(offsets[0]))
        table = cython.cast(cython.p_int, cython.address(slots[0]))
    else:
        text, names, edges, table = data, blob, offsets, slots
    mask: cython.ulonglong = len(slots) - 1
    row: cython.Py_ssize_t
    rows: cython.Py_ssize_t = len(start)
    with cython.nogil:
        for row in range(rows):
            first: cython.Py_ssize_t = start[row]
            end: cython.Py_ssize_t = stop[row]
            word: cython.Py_ssize_t = _name_end(text, first, end, longest)
            name: cython.int = -1
            if word > first:
                name = _lookup(text, first, word, names, edges, table, mask)
            event[row] = name
            begin[row] = first
            if name >= 0:
                begin[row] = word + 1 if word < end else end


def group_rows(
    event: cython.int[::1], heads: cython.longlong[::1], order: cython.longlong[::1]
) -> None:
    """Sort row numbers by event, in order within each.

    ``heads[i + 1]`` is where the rows of event i begin in ``order`` (text rows are event -1); it is
    moved on to where they end.
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
    """Give numbers to distinct texts data[starts[i]:stops[i]] as they appear; returns how many.

    ``slots`` is a power of two above the number of rows, all -1. ``codes[i]`` gets the number of
    row i's text, ``firsts[code]`` the first row that has it.
    """
    text: cython.p_uchar
    heads: cython.p_longlong
    tails: cython.p_longlong
    if cython.compiled:
        text = cython.cast(cython.p_uchar, cython.address(data[0]))
        heads = cython.cast(cython.p_longlong, cython.address(starts[0]))
        tails = cython.cast(cython.p_longlong, cython.address(stops[0]))
    else:
        text, heads, tails = data, starts, stops
    rows: cython.Py_ssize_t = len(starts)
    mask: cython.ulonglong = len(slots) - 1
    count: cython.int = 0
    last: cython.int = -1
    row: cython.Py_ssize_t
    with cython.nogil:
        for row in range(rows):
            start: cython.Py_ssize_t = starts[row]
            size: cython.Py_ssize_t = stops[row] - start
            # Neighbours mostly have the same text.
            if last >= 0 and _is_text(text, start, size, heads, tails, firsts[last]):
                codes[row] = last
                continue
            slot: cython.ulonglong = _hash(text, start, start + size) & mask
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


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _is_text(
    data: cython.p_uchar,
    start: cython.Py_ssize_t,
    size: cython.Py_ssize_t,
    starts: cython.p_longlong,
    stops: cython.p_longlong,
    row: cython.longlong,
) -> cython.bint:
    """Tell if data[start:start+size] is the text of ``row``."""
    if stops[row] - starts[row] != size:
        return False
    return _same(data, start, data, starts[row], size)


# Arguments. A plan is a table of FIELDS, one row a step; the literals of its steps lie in
# ``literals``. Most steps can end in one place only; the others are choices, tried in turn until
# every way to read the row is known or a second one is found.


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _narrow(
    plan: cython.p_longlong,
    step: cython.Py_ssize_t,
    size: cython.ulonglong,
    negative: cython.bint,
    numbers: cython.p_ulonglong,
) -> cython.bint:
    """Turn a printed number into the argument's 64-bit pattern; False if C could not print it."""
    bits: cython.longlong = plan[step * 16 + 11]
    printed: cython.ulonglong = _MASK >> (64 - bits)
    top: cython.ulonglong = _ONE << (bits - 1)
    value: cython.ulonglong = size
    if negative:
        if size > top or size == 0:
            return False
        value = (_MASK - size + 1) & _MASK
    elif plan[step * 16 + 12]:
        if size >= top:
            return False
    elif size > printed:
        return False
    own: cython.longlong = plan[step * 16 + 14]
    if own < 64 and own <= bits:
        # What C passes to printf is the argument, extended: undo that, and see that it was so.
        shown: cython.ulonglong = value & printed
        low: cython.ulonglong = _MASK >> (64 - own)
        value &= low
        if plan[step * 16 + 15] and value >> (own - 1):
            value |= _MASK ^ low
        if (value & printed) != shown:
            return False
    numbers[step] = value
    return True


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _integer(
    data: cython.p_uchar,
    plan: cython.p_longlong,
    step: cython.Py_ssize_t,
    pos: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
    numbers: cython.p_ulonglong,
) -> cython.Py_ssize_t:
    """Read the longest number at ``pos`` that ends at ``limit`` or before: its end, or -1."""
    base: cython.int = cython.cast(cython.int, plan[step * 16 + 4])
    digits: cython.p_uchar = _UPPER if plan[step * 16 + 5] else _LOWER
    width: cython.longlong = plan[step * 16 + 8]
    zeros: cython.longlong = plan[step * 16 + 9]
    loose: cython.longlong = plan[step * 16 + 10]
    at: cython.Py_ssize_t = pos
    if loose or (width and not zeros):
        while at < limit and data[at] == 32 and (loose or at - pos < width):
            at += 1
    pads: cython.Py_ssize_t = at - pos
    negative: cython.bint = False
    if plan[step * 16 + 12] and at < limit and data[at] == 45:
        negative = True
        at += 1
    first: cython.Py_ssize_t = at
    size: cython.ulonglong = 0
    while at < limit and at - first < plan[step * 16 + 7]:
        digit: cython.int = digits[data[at]]
        if digit >= base:
            break
        if at - first >= 16 and size > (_MASK - digit) // base:
            return -1
        size = size * base + digit
        at += 1
    count: cython.longlong = at - first
    if count == 0:
        return -1
    if not loose:
        least: cython.longlong = plan[step * 16 + 6]
        if zeros and width - negative > least:
            least = width - negative
        if count < least or (count > least and data[first] == 48):
            return -1
        if not zeros and (at - pos < width or (pads > 0 and at - pos > width)):
            return -1
    return at if _narrow(plan, step, size, negative, numbers) else -1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _pointer(
    data: cython.p_uchar,
    step: cython.Py_ssize_t,
    pos: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
    numbers: cython.p_ulonglong,
) -> cython.Py_ssize_t:
    """Read ``0x...`` or ``(nil)`` at ``pos``: its end, or -1."""
    if limit - pos < 3:
        return -1
    value: cython.ulonglong = 0
    at: cython.Py_ssize_t = pos + 2
    if data[pos] == 48 and data[pos + 1] == 120:
        while at < limit and at - pos < 18:
            digit: cython.int = _LOWER[data[at]]
            if digit > 15:
                break
            value = (value << 4) | digit
            at += 1
        if at == pos + 2:
            return -1
        numbers[step] = value
        return at
    if limit - pos < 5 or data[pos] != 40 or data[pos + 1] != 110 or data[pos + 2] != 105:
        return -1
    if data[pos + 3] != 108 or data[pos + 4] != 41:
        return -1
    numbers[step] = 0
    return pos + 5


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _text_end(
    data: cython.p_uchar,
    plan: cython.p_longlong,
    steps: cython.Py_ssize_t,
    literals: cython.p_uchar,
    step: cython.Py_ssize_t,
    pos: cython.Py_ssize_t,
    last: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    work: cython.p_longlong,
) -> cython.Py_ssize_t:
    """Next place after ``last`` (-1: the first) where the text at ``pos`` may end, or -1."""
    least: cython.Py_ssize_t = pos + plan[step * 16 + 8]
    following: cython.Py_ssize_t = step + 1
    if following == steps:
        return end if end >= least else -1
    at: cython.Py_ssize_t = last + 1 if last >= least else least
    if plan[following * 16 + 0] != 0:
        return at if at <= end else -1
    offset: cython.Py_ssize_t = plan[following * 16 + 1]
    size: cython.Py_ssize_t = plan[following * 16 + 2]
    if plan[step * 16 + 13]:
        return end - size if end - size >= at else -1
    while at + size <= end:
        hit: cython.Py_ssize_t = _find(data, literals[offset], at, end - size + 1)
        work[0] -= 1 + (end - at if hit < 0 else hit - at)
        if hit < 0 or work[0] < 0:
            return -1
        if _same(data, hit, literals, offset, size):
            return hit
        at = hit + 1
    return -1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _candidate(
    data: cython.p_uchar,
    plan: cython.p_longlong,
    steps: cython.Py_ssize_t,
    literals: cython.p_uchar,
    step: cython.Py_ssize_t,
    pos: cython.Py_ssize_t,
    last: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    work: cython.p_longlong,
    numbers: cython.p_ulonglong,
) -> cython.Py_ssize_t:
    """Where the step at ``pos`` ends: its first way, or the one after ``last``; -1 if none."""
    op: cython.longlong = plan[step * 16 + 0]
    size: cython.Py_ssize_t
    if op == 0:
        size = plan[step * 16 + 2]
        if end - pos < size or not _same(data, pos, literals, plan[step * 16 + 1], size):
            return -1
        return pos + size
    if op == 4:
        return _text_end(data, plan, steps, literals, step, pos, last, end, work)
    if op == 3:
        if pos >= end:
            return -1
        numbers[step] = data[pos]
        if plan[step * 16 + 15] and plan[step * 16 + 14] == 8 and data[pos] >= 128:
            numbers[step] = _MASK - 255 + data[pos]
        return pos + 1
    # Numbers are tried from the longest down.
    limit: cython.Py_ssize_t = end if last < 0 else last - 1
    at: cython.Py_ssize_t
    while limit > pos:
        if op == 1:
            at = _integer(data, plan, step, pos, limit, numbers)
        else:
            at = _pointer(data, step, pos, limit, numbers)
        if at >= 0 or plan[step * 16 + 13]:
            return at
        if limit > pos + 96:
            limit = pos + 96
        limit -= 1
        work[0] -= 8
        if work[0] < 0:
            return -1
    return -1


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _store(
    data: cython.p_uchar,
    plan: cython.p_longlong,
    steps: cython.Py_ssize_t,
    begin: cython.Py_ssize_t,
    row: cython.Py_ssize_t,
    rows: cython.Py_ssize_t,
    work: cython.p_longlong,
    numbers: cython.p_ulonglong,
    values: cython.p_ulonglong,
    spans: cython.p_longlong,
) -> cython.void:
    """Copy what the steps found to the row's place in the columns."""
    step: cython.Py_ssize_t
    at: cython.Py_ssize_t = begin
    for step in range(steps):
        column: cython.Py_ssize_t = plan[step * 16 + 3]
        end: cython.Py_ssize_t = work[1 + step]
        if plan[step * 16 + 0] == 4:
            # A text as wide as its field may have been padded.
            if plan[step * 16 + 8] and end - at == plan[step * 16 + 8]:
                while at < end and data[at] == 32:
                    at += 1
            spans[2 * column * rows + row] = at
            spans[(2 * column + 1) * rows + row] = end
        elif column >= 0:
            values[column * rows + row] = numbers[step]
        at = end


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _read_row(
    data: cython.p_uchar,
    plan: cython.p_longlong,
    steps: cython.Py_ssize_t,
    literals: cython.p_uchar,
    begin: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    row: cython.Py_ssize_t,
    rows: cython.Py_ssize_t,
    work: cython.p_longlong,
    numbers: cython.p_ulonglong,
    values: cython.p_ulonglong,
    spans: cython.p_longlong,
) -> cython.bint:
    """Read one row; True if there is exactly one way to. work: effort left, ends, choices."""
    step: cython.Py_ssize_t = 0
    choices: cython.Py_ssize_t = 0
    found: cython.int = 0
    last: cython.Py_ssize_t = -1
    work[0] = 64 * (end - begin) + 1024
    while True:
        pos: cython.Py_ssize_t = begin if step == 0 else work[step]
        if step == steps:
            if pos == end:
                if found:
                    return False
                found = 1
                _store(data, plan, steps, begin, row, rows, work, numbers, values, spans)
            at: cython.Py_ssize_t = -1
        else:
            at = _candidate(data, plan, steps, literals, step, pos, last, end, work, numbers)
            if at >= 0:
                if last < 0 and not plan[step * 16 + 13]:
                    work[1 + steps + choices] = step
                    choices += 1
                work[1 + step] = at
                step += 1
                last = -1
                continue
            if last >= 0:
                choices -= 1
        if work[0] < 0:
            return False
        if choices == 0:
            return found == 1
        step = work[steps + choices]
        last = work[1 + step]


def parse_arguments(
    data: cython.const[cython.uchar][::1],
    plan: cython.longlong[::1],
    literals: cython.const[cython.uchar][::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    values: cython.ulonglong[::1],
    spans: cython.longlong[::1],
    ok: cython.uchar[::1],
    work: cython.longlong[::1],
    numbers: cython.ulonglong[::1],
) -> None:
    """Read the arguments data[begin[i]:stop[i]] of every row of one event.

    ``values`` (integer columns x rows) gets 64-bit patterns, ``spans`` (2 x text columns x rows)
    the offsets where each text starts and ends, both flat; ``ok[i]`` is 1 if there is exactly one
    way to read row i, else its values mean nothing. Work per row is bounded by its length.
    ``work`` (1 + 2 x steps) and ``numbers`` (steps) are scratch.
    """
    text: cython.p_uchar
    table: cython.p_longlong
    fixed: cython.p_uchar
    places: cython.p_longlong
    found: cython.p_ulonglong
    out: cython.p_ulonglong
    edges: cython.p_longlong
    if cython.compiled:
        text = cython.cast(cython.p_uchar, cython.address(data[0]))
        table = cython.cast(cython.p_longlong, cython.address(plan[0]))
        fixed = cython.cast(cython.p_uchar, cython.address(literals[0]))
        places = cython.cast(cython.p_longlong, cython.address(work[0]))
        found = cython.cast(cython.p_ulonglong, cython.address(numbers[0]))
        out = cython.cast(cython.p_ulonglong, cython.address(values[0]))
        edges = cython.cast(cython.p_longlong, cython.address(spans[0]))
    else:
        text, table, fixed, places, found, out, edges = (
            data,
            plan,
            literals,
            work,
            numbers,
            values,
            spans,
        )
    steps: cython.Py_ssize_t = len(plan) // 16
    rows: cython.Py_ssize_t = len(begin)
    row: cython.Py_ssize_t
    with cython.nogil:
        for row in range(rows):
            ok[row] = _read_row(
                text, table, steps, fixed, begin[row], stop[row], row, rows, places, found, out,
                edges,
            )  # fmt: skip
