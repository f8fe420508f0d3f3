# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Write rows as protobuf messages: constants, 64-bit fields, and attributes of whole numbers.

Sources: the encoding of protobuf (protobuf.dev), and ``common/v1/common.proto`` of OTLP 1.10: a
``KeyValue`` is a key and an ``AnyValue``, whose field 1 is a text and whose field 3 an int64.
``messages.py`` is the only caller and makes sure that ``out`` is large enough.
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import octets, pointers

COMPILED: bool = cython.compiled

# Types of the pieces of a message. A piece is four numbers: its type, its column, and two
# parameters.
LITERAL, FIXED, SIGNED, UNSIGNED, CHOICE = range(5)
FIELDS = 4

# The longest attribute of a number, without tag and key: its length, and that of the value, with
# tags; and a number of 10 bytes, or a text of 20 digits.
LONGEST_SIGNED, LONGEST_UNSIGNED = 18, 29

_TOP = cython.declare(cython.ulonglong, 1 << 63)
_TWENTY_DIGITS = cython.declare(cython.ulonglong, 10000000000000000000)


def _varint_size(value: cython.ulonglong) -> cython.Py_ssize_t:
    size: cython.Py_ssize_t = 1
    while value >= 128:
        value = value >> 7
        size += 1
    return size


def _varint(
    value: cython.ulonglong, out: cython.p_uchar, at: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write a number, seven bits a byte; return its end."""
    while value >= 128:
        out[at] = cython.cast(cython.int, value & 127) | 128
        value = value >> 7
        at += 1
    out[at] = cython.cast(cython.int, value)
    return at + 1


def _fixed(
    value: cython.ulonglong, out: cython.p_uchar, at: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Write the 8 bytes of a number; return its end."""
    place: cython.Py_ssize_t
    for place in range(at, at + 8):
        out[place] = cython.cast(cython.int, value & 255)
        value = value >> 8
    return at + 8


def _digits_of(value: cython.ulonglong) -> cython.Py_ssize_t:
    """Return how many digits a number of at least 2**63 has."""
    return 20 if value >= _TWENTY_DIGITS else 19


def _value_size(value: cython.ulonglong, as_text: cython.bint) -> cython.Py_ssize_t:
    """Return the size of an ``AnyValue``; ``as_text``: a number that no int64 holds."""
    return 2 + _digits_of(value) if as_text else 1 + _varint_size(value)


def _attribute_size(
    value: cython.ulonglong, as_text: cython.bint, key: cython.Py_ssize_t
) -> cython.Py_ssize_t:
    """Return the size of a ``KeyValue`` whose key, as a field, has ``key`` bytes."""
    return key + 2 + _value_size(value, as_text)


def _attribute(
    value: cython.ulonglong,
    as_text: cython.bint,
    text: cython.p_uchar,
    begin: cython.Py_ssize_t,
    key: cython.Py_ssize_t,
    out: cython.p_uchar,
    at: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Write a field's tag text[begin], and a ``KeyValue`` with the key behind; return its end."""
    out[at] = text[begin]
    at = _varint(_attribute_size(value, as_text, key), out, at + 1)
    at = octets.copy(text, begin + 1, key, out, at)
    out[at] = 0x12
    out[at + 1] = _value_size(value, as_text)
    at += 2
    if not as_text:
        out[at] = 0x18
        return _varint(value, out, at + 1)
    count: cython.Py_ssize_t = _digits_of(value)
    out[at] = 0x0A
    out[at + 1] = count
    at += 2 + count
    place: cython.Py_ssize_t
    for place in range(count):
        out[at - 1 - place] = 48 + cython.cast(cython.int, value % 10)
        value = value // 10
    return at


def write_messages(
    plan: cython.longlong[::1],
    texts: cython.const[cython.uchar][::1],
    edges: cython.longlong[::1],
    values: cython.ulonglong[::1],
    rows: cython.longlong[::1],
    tag: cython.int,
    out: cython.uchar[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    at: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Write a message, with its tag and length, for each of ``rows`` to out[at:]; return the end.

    ``plan`` has FIELDS numbers per piece: type, column c, a and b. The value of message i is
    values[c * len(rows) + i], 64 bits. LITERAL writes texts[a:b], FIXED the bytes of the value.
    CHOICE writes text number a + value; text n is texts[edges[n]:edges[n + 1]]. SIGNED and
    UNSIGNED write an attribute: the tag is texts[a], the key, as a field, texts[a + 1:b].
    begin[rows[i]] and stop[rows[i]] get the offsets of message i.
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
    total: cython.Py_ssize_t
    value: cython.ulonglong
    as_text: cython.bint
    with cython.nogil:
        for i in range(count):
            total = 0
            for piece in range(pieces):
                kind = plan[4 * piece]
                first = plan[4 * piece + 2]
                size = plan[4 * piece + 3] - first
                if kind == 0:
                    total += size
                elif kind == 1:
                    total += 8
                else:
                    value = values[plan[4 * piece + 1] * count + i]
                    if kind == 4:
                        first += cython.cast(cython.longlong, value)
                        total += edges[first + 1] - edges[first]
                    else:
                        as_text = kind == 3 and value >= _TOP
                        size = _attribute_size(value, as_text, size - 1)
                        total += 1 + _varint_size(size) + size
            begin[rows[i]] = at
            target[at] = tag
            at = _varint(total, target, at + 1)
            for piece in range(pieces):
                kind = plan[4 * piece]
                first = plan[4 * piece + 2]
                size = plan[4 * piece + 3] - first
                if kind == 0:
                    at = octets.copy(source, first, size, target, at)
                    continue
                value = values[plan[4 * piece + 1] * count + i]
                if kind == 1:
                    at = _fixed(value, target, at)
                elif kind == 4:
                    first += cython.cast(cython.longlong, value)
                    size = edges[first + 1] - edges[first]
                    at = octets.copy(source, edges[first], size, target, at)
                else:
                    as_text = kind == 3 and value >= _TOP
                    at = _attribute(value, as_text, source, first, size - 1, target, at)
            stop[rows[i]] = at
    return at
