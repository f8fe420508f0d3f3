# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Write rows as lines: numbers in decimal and hex, and texts by their codes.

``records/lines.py`` is the only caller and makes sure that the buffers are large enough.
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import integers, octets, pointers

COMPILED: bool = cython.compiled

# Types of the pieces of a line, as ``records/lines.py`` uses them. A piece is four numbers: its
# type, its column, and two parameters.
LITERAL, SIGNED, UNSIGNED, HEX, SIGNED_HEX, CHOICE, DIGITS, SPAN, IF_NEGATIVE, UNLESS_NEGATIVE = (
    range(10)
)
FIELDS = 4

_TOP = cython.declare(cython.ulonglong, 1 << 63)
_LONG = cython.declare(cython.ulonglong, 1 << 32)
_MICRO = cython.declare(cython.ulonglong, 1000)
_SECOND = cython.declare(cython.ulonglong, 1000000)
_SECOND_NS = cython.declare(cython.ulonglong, 1000000000)
_PAIR_TABLE = "".join(f"{number:02}" for number in range(100)).encode()
_HEX_TABLE = b"0123456789abcdef"
cython.declare(_PAIRS=cython.p_uchar, _HEX=cython.p_uchar)
_PAIRS = _PAIR_TABLE
_HEX = _HEX_TABLE


def _decimal(
    value: cython.ulonglong, out: cython.p_uchar, at: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a number in decimal; return its end."""
    end: cython.Py_ssize_t = at + 1
    rest: cython.ulonglong = value
    while rest >= 10000:
        rest = rest // 10000
        end += 4
    if rest >= 10:
        end += 1 if rest < 100 else 2 if rest < 1000 else 3
    place: cython.Py_ssize_t = end
    pair: cython.Py_ssize_t
    while value >= 100:
        pair = 2 * cython.cast(cython.Py_ssize_t, value % 100)
        value = value // 100
        place -= 2
        out[place] = _PAIRS[pair]
        out[place + 1] = _PAIRS[pair + 1]
    if value >= 10:
        out[at] = _PAIRS[2 * value]
        at += 1
    out[at] = _PAIRS[2 * value + 1]
    return end


def _hex(value: cython.ulonglong, out: cython.p_uchar, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Write a number in hex behind ``0x``; return its end."""
    out[at] = 48
    out[at + 1] = 120
    at += 2
    end: cython.Py_ssize_t = at + 1
    rest: cython.ulonglong = value >> 4
    while rest:
        rest >>= 4
        end += 1
    return _hex_digits(value, out, at, end)


def _hex_digits(
    value: cython.ulonglong, out: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write the last digits of a number to out[at:end]; return ``end``."""
    place: cython.Py_ssize_t = end
    while place > at:
        place -= 1
        out[place] = _HEX[value & 15]
        value >>= 4
    return end


def _hex_end(
    value: cython.ulonglong,
    count: cython.longlong,
    mark: cython.p_uchar,
    begin: cython.longlong,
    size: cython.Py_ssize_t,
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Write a mark and the last ``count`` hex digits of a number; return its end."""
    at = octets.copy(mark, begin, size, out, at)
    return _hex_digits(value, out, at, at + count)


def _digits(
    value: cython.ulonglong, count: cython.longlong, out: cython.p_uchar, at: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write the last ``count`` digits of a number; return its end."""
    place: cython.Py_ssize_t = at + count
    while place > at:
        place -= 1
        out[place] = cython.cast(cython.int, value % 10) + 48
        value = value // 10
    return at + count


def _fraction(time_ns: cython.ulonglong) -> cython.ulonglong:
    """Return the ns since the second of a signed time began."""
    if time_ns < _TOP:
        return time_ns % _SECOND_NS
    rest: cython.ulonglong = integers.negated(time_ns) % _SECOND_NS
    return _SECOND_NS - rest if rest else 0


def write_rows(
    plan: cython.longlong[::1],
    texts: cython.const[cython.uchar][::1],
    edges: cython.longlong[::1],
    values: cython.ulonglong[::1],
    rows: cython.longlong[::1],
    out: cython.uchar[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    at: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Write a line for each of ``rows`` to out[at:]; return the end of the last one.

    ``plan`` has FIELDS numbers per piece: type, column c, a and b. The value of line i is
    values[c * len(rows) + i], 64 bits. LITERAL writes texts[a:b]. CHOICE writes text number
    a + value; text n is texts[edges[n]:edges[n + 1]]. HEX writes of a number from 2**32 on
    text number b and the last ``a`` digits, unless ``a`` is 0. DIGITS writes of a time in ns the
    first ``a`` of the nine digits below the second, with b = 10 ** (9 - a); SPAN writes it as
    seconds with a sign. IF_NEGATIVE skips the next ``a`` pieces unless the value is negative,
    UNLESS_NEGATIVE if it is. begin[rows[i]] and stop[rows[i]] get line i's offsets.
    """
    source: cython.p_uchar = pointers.to_chars(texts)
    target: cython.p_uchar = pointers.to_chars(out)
    pieces: cython.Py_ssize_t = len(plan) // 4
    count: cython.Py_ssize_t = len(rows)
    i: cython.Py_ssize_t
    piece: cython.Py_ssize_t
    kind: cython.longlong
    first: cython.longlong
    size: cython.Py_ssize_t
    last: cython.Py_ssize_t
    value: cython.ulonglong
    with cython.nogil:
        for i in range(count):
            begin[rows[i]] = at
            piece = 0
            while piece < pieces:
                kind = plan[4 * piece]
                first = plan[4 * piece + 2]
                if kind == 0:
                    at = octets.copy(source, first, plan[4 * piece + 3] - first, target, at)
                    piece += 1
                    continue
                value = values[plan[4 * piece + 1] * count + i]
                if kind == 5:
                    first += cython.cast(cython.longlong, value)
                    size = edges[first + 1] - edges[first]
                    at = octets.copy(source, edges[first], size, target, at)
                elif kind == 2:
                    at = _decimal(value, target, at)
                elif kind == 3:
                    if first and value >= _LONG:
                        size = edges[plan[4 * piece + 3]]
                        last = edges[plan[4 * piece + 3] + 1] - size
                        at = _hex_end(value, first, source, size, last, target, at)
                    else:
                        at = _hex(value, target, at)
                elif kind == 6:
                    value = _fraction(value) // cython.cast(cython.ulonglong, plan[4 * piece + 3])
                    at = _digits(value, first, target, at)
                elif kind >= 8:
                    if (value >= _TOP) != (kind == 8):
                        piece += first
                else:
                    # Signed: write the sign, then the absolute value.
                    if value >= _TOP:
                        value = integers.negated(value)
                        target[at] = 45
                        at += 1
                    elif kind == 7:
                        target[at] = 43
                        at += 1
                    if kind == 1:
                        at = _decimal(value, target, at)
                    elif kind == 4:
                        at = _hex(value, target, at)
                    else:
                        value = value // _MICRO
                        at = _decimal(value // _SECOND, target, at)
                        target[at] = 46
                        at = _digits(value % _SECOND, 6, target, at + 1)
                piece += 1
            stop[rows[i]] = at
    return at


def gather(
    source: cython.uchar[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    out: cython.uchar[::1],
) -> cython.Py_ssize_t:
    """Copy the ranges source[begin[i]:stop[i]] to ``out``, in order; return the end."""
    text: cython.p_uchar = pointers.to_chars(source)
    target: cython.p_uchar = pointers.to_chars(out)
    at: cython.Py_ssize_t = 0
    i: cython.Py_ssize_t
    rows: cython.Py_ssize_t = len(begin)
    with cython.nogil:
        for i in range(rows):
            at = octets.copy(text, begin[i], stop[i] - begin[i], target, at)
    return at


def _escape_end(
    text: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Return the end of the SGR sequence at ``at``."""
    while at < end and text[at] != 109:
        at += 1
    return at + 1


def _columns(
    text: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Return how many columns a line takes; -1 if it has other characters than ASCII and `...`."""
    total: cython.Py_ssize_t = 0
    while at < end:
        if text[at] == 27:
            at = _escape_end(text, at, end)
            continue
        size: cython.Py_ssize_t = _character(text, at, end)
        if size == 0:
            return -1
        at += size
        total += 1
    return total


def _character(
    text: cython.p_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Return the size of an ASCII character, or of an ellipsis (E2 80 A6); 0 for others."""
    if text[at] < 128:
        return 1
    if end - at > 2 and text[at] == 0xE2 and text[at + 1] == 0x80 and text[at + 2] == 0xA6:
        return 3
    return 0


def _crop(
    text: cython.p_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    first: cython.Py_ssize_t,
    begin: cython.Py_ssize_t,
    limit: cython.Py_ssize_t,
    mark: cython.p_uchar,
    mark_size: cython.Py_ssize_t,
    out: cython.p_uchar,
    to: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Copy the columns below ``first``, a mark, and those of begin:limit; return the end.

    Without columns to leave out, ``first`` and ``begin`` are 0, and no mark is written.
    """
    place: cython.Py_ssize_t = 0
    coloured: cython.bint = False
    size: cython.Py_ssize_t
    while at < end:
        if text[at] == 27:
            size = _escape_end(text, at, end) - at
            if place < limit or coloured:
                to = octets.copy(text, at, size, out, to)
                coloured = not (size == 4 and text[at + 2] == 48)
        else:
            size = _character(text, at, end)
            if place < first or begin <= place < limit:
                to = octets.copy(text, at, size, out, to)
            elif place == first and begin:
                to = octets.copy(mark, 0, mark_size, out, to)
            place += 1
        at += size
    if coloured:
        out[to] = 27
        out[to + 1] = 91
        out[to + 2] = 48
        out[to + 3] = 109
        to += 4
    return to


def crop(
    source: cython.uchar[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    heads: cython.longlong[::1],
    left: cython.Py_ssize_t,
    width: cython.Py_ssize_t,
    mark: cython.const[cython.uchar][::1],
    out: cython.uchar[::1],
    odd: cython.uchar[::1],
) -> cython.Py_ssize_t:
    """Copy the lines source[begin[i]:stop[i]] to ``out``, cropped to ``width`` columns.

    They are scrolled ``left`` columns, but for the first heads[i]; see ``text.cells.crop``. Lines
    that have other characters than ASCII and the ellipsis are copied whole, and odd[i] is 1. Each
    line ends with a newline. Returns the end; a line grows by at most two marks and 4 bytes.
    """
    text: cython.p_uchar = pointers.to_chars(source)
    target: cython.p_uchar = pointers.to_chars(out)
    sign: cython.p_uchar = pointers.to_chars(mark)
    size: cython.Py_ssize_t = len(mark)
    at: cython.Py_ssize_t = 0
    i: cython.Py_ssize_t
    total: cython.Py_ssize_t
    last: cython.Py_ssize_t
    cut: cython.bint
    rows: cython.Py_ssize_t = len(begin)
    with cython.nogil:
        for i in range(rows):
            last = stop[i] - 1
            total = _columns(text, begin[i], last)
            odd[i] = total < 0
            if total < 0 or (total <= width and (left == 0 or total <= heads[i])):
                at = octets.copy(text, begin[i], last - begin[i], target, at)
            elif left == 0 or total <= heads[i]:
                at = _crop(text, begin[i], last, 0, 0, width - 1, sign, size, target, at)
                at = octets.copy(sign, 0, size, target, at)
            else:
                cut = total > left + width
                at = _crop(
                    text, begin[i], last, heads[i], heads[i] + left + 1, left + width - cut,
                    sign, size, target, at,
                )  # fmt: skip
                if cut:
                    at = octets.copy(sign, 0, size, target, at)
            target[at] = 10
            at += 1
    return at
