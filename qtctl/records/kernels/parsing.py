# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Parse printed arguments: invert a printf format over many rows.

A plan is a table with one row per step and the columns FIELDS; ``literals`` holds the literals of
all steps. The end of most steps is unique. The other steps are choices: the kernel backtracks over
them until it has tried all parses of the row or found a second one. ``event_table.py`` is the only
caller.
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import integers, octets, pointers

COMPILED: bool = cython.compiled

# Literals beyond 32 bits would be Python objects in compiled code; these are C variables.
_MASK = cython.declare(cython.ulonglong, 0xFFFFFFFFFFFFFFFF)
_ONE = cython.declare(cython.ulonglong, 1)
# Value of every byte as a digit (255: none). A table avoids branches, which the processor cannot
# predict here: one misprediction costs more than the rest of the number.
_LOWER_TABLE = bytes(b"0123456789abcdef".find(byte) & 255 for byte in range(256))
_UPPER_TABLE = bytes(b"0123456789ABCDEF".find(byte) & 255 for byte in range(256))
cython.declare(_LOWER=cython.p_uchar, _UPPER=cython.p_uchar)
_LOWER = _LOWER_TABLE
_UPPER = _UPPER_TABLE

# Columns of a plan, which has one row per step; ``event_table.py`` fills it. ``flags``: 1 upper
# case, 2 a prefix "0x", 4 a sign before all numbers, 8 padded at the right.
FIELDS = (
    "op", "offset", "length", "column", "base", "flags", "least", "most", "width", "zeros", "loose",
    "bits", "signed", "only", "argument_bits", "argument_signed",
)  # fmt: skip


def _narrow(
    plan: cython.p_longlong,
    step: cython.Py_ssize_t,
    size: cython.ulonglong,
    negative: cython.bint,
    numbers: cython.p_ulonglong,
) -> cython.bint:
    """Convert a printed number to the argument's 64-bit pattern; False if C cannot print it."""
    bits: cython.longlong = plan[step * 16 + 11]
    printed: cython.ulonglong = _MASK >> (64 - bits)
    top: cython.ulonglong = _ONE << (bits - 1)
    value: cython.ulonglong = size
    if negative:
        if size > top or size == 0:
            return False
        value = integers.negated(size)
    elif plan[step * 16 + 12]:
        if size >= top:
            return False
    elif size > printed:
        return False
    own: cython.longlong = plan[step * 16 + 14]
    if own < 64 and own <= bits:
        # C passes the argument extended to the conversion's size: undo and verify that.
        shown: cython.ulonglong = value & printed
        value = integers.extended(value, own, plan[step * 16 + 15] != 0)
        if (value & printed) != shown:
            return False
    numbers[step] = value
    return True


def _integer(
    data: cython.p_uchar,
    plan: cython.p_longlong,
    step: cython.Py_ssize_t,
    pos: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
    numbers: cython.p_ulonglong,
) -> cython.Py_ssize_t:
    """Parse the longest number at ``pos`` that ends by ``limit``; return its end or -1."""
    base: cython.int = cython.cast(cython.int, plan[step * 16 + 4])
    flags: cython.longlong = plan[step * 16 + 5]
    digits: cython.p_uchar = _UPPER if flags & 1 else _LOWER
    width: cython.longlong = plan[step * 16 + 8]
    zeros: cython.longlong = plan[step * 16 + 9]
    loose: cython.longlong = plan[step * 16 + 10]
    at: cython.Py_ssize_t = pos
    if loose or (width and not zeros and not flags & 8):
        while at < limit and data[at] == 32 and (loose or at - pos < width):
            at += 1
    pads: cython.Py_ssize_t = at - pos
    negative: cython.bint = False
    if plan[step * 16 + 12] and at < limit and data[at] == 45:
        negative = True
        at += 1
    elif flags & 4:
        if at == limit or data[at] != 43:
            return -1
        at += 1
    prefixed: cython.bint = False
    if flags & 2 and limit - at >= 2 and data[at] == 48:
        prefixed = data[at + 1] == (88 if flags & 1 else 120)
        at += 2 * prefixed
    signs: cython.longlong = at - pos - pads
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
    if count == 0 or (flags & 2 and prefixed != (size != 0)):
        return -1
    if not loose:
        least: cython.longlong = plan[step * 16 + 6]
        if zeros and width - signs > least:
            least = width - signs
        if count < least or (count > least and data[first] == 48):
            return -1
        while flags & 8 and at < limit and data[at] == 32 and at - pos < width:
            at += 1
        if not zeros and (at - pos < width or (pads > 0 and at - pos > width)):
            return -1
    return at if _narrow(plan, step, size, negative, numbers) else -1


def _pointer(
    data: cython.p_uchar,
    step: cython.Py_ssize_t,
    pos: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
    numbers: cython.p_ulonglong,
) -> cython.Py_ssize_t:
    """Parse ``0x...`` or ``(nil)`` at ``pos``; return its end or -1."""
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
    """Return the next possible end after ``last`` (-1: the first) of the text at ``pos``, or -1."""
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
        hit: cython.Py_ssize_t = octets.find(data, literals[offset], at, end - size + 1)
        work[0] -= 1 + (end - at if hit < 0 else hit - at)
        if hit < 0 or work[0] < 0:
            return -1
        if octets.same(data, hit, literals, offset, size):
            return hit
        at = hit + 1
    return -1


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
    """Return the first possible end of the step at ``pos``, or the one after ``last``; or -1."""
    op: cython.longlong = plan[step * 16 + 0]
    size: cython.Py_ssize_t
    if op == 0:
        size = plan[step * 16 + 2]
        if end - pos < size or not octets.same(data, pos, literals, plan[step * 16 + 1], size):
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
    # Try the longest number first.
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
) -> cython.bint:
    """Copy the values of the steps to the columns; False if blanks may be padding or not."""
    step: cython.Py_ssize_t
    at: cython.Py_ssize_t = begin
    for step in range(steps):
        column: cython.Py_ssize_t = plan[step * 16 + 3]
        end: cython.Py_ssize_t = work[1 + step]
        if plan[step * 16 + 0] == 4:
            if plan[step * 16 + 8] and end - at == plan[step * 16 + 8] and data[at] == 32:
                return False
            spans[2 * column * rows + row] = at
            spans[(2 * column + 1) * rows + row] = end
        elif column >= 0:
            values[column * rows + row] = numbers[step]
        at = end
    return True


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
    """Parse a row; return whether it has exactly one parse. ``work``: budget, ends, choices."""
    step: cython.Py_ssize_t = 0
    choices: cython.Py_ssize_t = 0
    found: cython.int = 0
    last: cython.Py_ssize_t = -1
    work[0] = 64 * (end - begin) + 1024
    while True:
        pos: cython.Py_ssize_t = begin if step == 0 else work[step]
        if step == steps:
            if pos == end:
                if found or not _store(
                    data, plan, steps, begin, row, rows, work, numbers, values, spans
                ):
                    return False
                found = 1
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
    """Parse the arguments data[begin[i]:stop[i]] of all rows of one event.

    ``values`` (integer columns x rows) gets 64-bit patterns, ``spans`` (2 x text columns x rows)
    the start and end offsets of each text, both flat. ``ok[i]`` is 1 if row i has exactly one
    parse, else its values are undefined. The work per row is bounded by its length. ``work``
    (1 + 2 x steps) and ``numbers`` (steps) are scratch.
    """
    text: cython.p_uchar = pointers.to_chars(data)
    table: cython.p_longlong = pointers.to_longs(plan)
    fixed: cython.p_uchar = pointers.to_chars(literals)
    places: cython.p_longlong = pointers.to_longs(work)
    found: cython.p_ulonglong = pointers.to_ulongs(numbers)
    out: cython.p_ulonglong = pointers.to_ulongs(values)
    edges: cython.p_longlong = pointers.to_longs(spans)
    steps: cython.Py_ssize_t = len(plan) // 16
    rows: cython.Py_ssize_t = len(begin)
    row: cython.Py_ssize_t
    with cython.nogil:
        for row in range(rows):
            ok[row] = _read_row(
                text, table, steps, fixed, begin[row], stop[row], row, rows, places, found, out,
                edges,
            )  # fmt: skip
