# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Split packets of a CTF trace into records by the steps of ``program.py``, and read arguments.

Source: The Common Trace Format 1.8.3, section 4. Positions in packets are in bits. A step is five
numbers: its kind, and

- END;
- FIXED: align - 1, bits to pass over;
- READ, TICK: align - 1, bits, register, flags; TICK sets the clock by its low bits;
- TEXT: pass over bytes up to a NUL;
- RUN: align - 1, bits of an element, register with their number;
- LOOP: register with the number of turns, or -1 and the number, step behind the loop, level;
- NEXT: (unused), (unused), first step of the loop, level;
- SWITCH: register, how many steps CASE follow;
- CASE: first, last number, step;
- JUMP: (unused), (unused), step.
"""

from qtctl.records import shadow as cython
from qtctl.records.kernels.inline import integers, native, octets, pointers

COMPILED: bool = cython.compiled

END = 0
FIXED = 1
READ = 2
TICK = 3
TEXT = 4
RUN = 5
LOOP = 6
NEXT = 7
SWITCH = 8
CASE = 9
JUMP = 10

SIGNED = 1
BIG = 2
#: The number is of whole bytes in this machine's order.
WHOLE = 4
#: It lies in 8 bytes that are in this machine's order, and that is little endian.
NEAR = 8

#: Levels of loops.
LOOPS = 8

#: What ended a call of :func:`split_packet`.
DONE = 0
FULL = 1
BAD = 2
UNKNOWN = 3

_END = cython.declare(cython.longlong, 0)
_FIXED = cython.declare(cython.longlong, 1)
_READ = cython.declare(cython.longlong, 2)
_TICK = cython.declare(cython.longlong, 3)
_TEXT = cython.declare(cython.longlong, 4)
_RUN = cython.declare(cython.longlong, 5)
_LOOP = cython.declare(cython.longlong, 6)
_NEXT = cython.declare(cython.longlong, 7)
_SWITCH = cython.declare(cython.longlong, 8)
_JUMP = cython.declare(cython.longlong, 10)
_CLOCK = cython.declare(cython.int, 1)
_MOST_TURNS = cython.declare(cython.longlong, 1 << 20)
_LATEST = cython.declare(cython.ulonglong, 1 << 62)
_LARGEST = cython.declare(cython.ulonglong, 0x7FFFFFFFFFFFFFFF)
_LEVELS = cython.declare(cython.int, 8)
_MASK = cython.declare(cython.ulonglong, 0xFFFFFFFFFFFFFFFF)
_ONE = cython.declare(cython.ulonglong, 1)


def _bits(
    data: cython.p_uchar, at: cython.longlong, bits: cython.longlong, big: cython.bint
) -> cython.ulonglong:
    """Return the number of 1 to 64 bits that begins at a bit."""
    value: cython.ulonglong = 0
    done: cython.longlong = 0
    part: cython.ulonglong
    inside: cython.longlong
    size: cython.longlong
    while done < bits:
        part = data[at >> 3]
        inside = at & 7
        size = 8 - inside
        if size > bits - done:
            size = bits - done
        if big:
            value = (value << size) | ((part >> (8 - inside - size)) & ((_ONE << size) - 1))
        else:
            value |= ((part >> inside) & ((_ONE << size) - 1)) << done
        done += size
        at += size
    return value


def _whole(data: cython.p_uchar, at: cython.Py_ssize_t, bits: cython.longlong) -> cython.ulonglong:
    """Return the number of 8, 16, 32 or 64 bits at a byte, in this machine's order."""
    if bits == 32:
        return native.u32(data, at)
    if bits == 64:
        return native.u64(data, at)
    if bits == 16:
        return cython.cast(cython.ulonglong, native.u16(data, at))
    return data[at]


def _signed(value: cython.ulonglong) -> cython.longlong:
    """Return a 64-bit pattern as a signed number."""
    if value > _LARGEST:
        return -cython.cast(cython.longlong, _MASK - value) - 1
    return cython.cast(cython.longlong, value)


def _run(
    data: cython.p_uchar,
    size: cython.longlong,
    base: cython.longlong,
    program: cython.p_longlong,
    step: cython.longlong,
    at: cython.longlong,
    end: cython.longlong,
    registers: cython.p_longlong,
    loops: cython.p_longlong,
) -> cython.longlong:
    """Take steps from ``step`` to END; return the bit behind, or -1 for what is not as described.

    ``at`` and ``end`` are bits of data, which has ``size``, and whose packet begins at ``base``.
    """
    turns: cython.longlong = 0
    place: cython.longlong
    kind: cython.longlong
    bits: cython.longlong
    count: cython.longlong
    flags: cython.longlong
    i: cython.longlong
    _case: cython.longlong
    value: cython.ulonglong
    low: cython.ulonglong
    while True:
        place = step * 5
        kind = program[place]
        step += 1
        if kind == _END:
            return at
        if kind <= _TICK:
            at = base + ((at - base + program[place + 1]) & ~program[place + 1])
            bits = program[place + 2]
            if bits > end - at:
                return -1
            if kind == _FIXED:
                at += bits
                continue
            flags = program[place + 4]
            if flags & 4:
                value = _whole(data, at >> 3, bits)
            elif flags & 8 and (at | 7) + 57 <= size:
                value = (native.u64(data, at >> 3) >> (at & 7)) & ((_ONE << bits) - 1)
            else:
                value = _bits(data, at, bits, flags & 2)
            at += bits
            if kind == _READ:
                if flags & 1:
                    value = integers.extended(value, bits, True)
                    registers[program[place + 3]] = _signed(value)
                else:
                    if value > _LARGEST:
                        value = _LARGEST
                    registers[program[place + 3]] = cython.cast(cython.longlong, value)
                continue
            if bits < 64:
                low = (_ONE << bits) - 1
                value += cython.cast(cython.ulonglong, registers[_CLOCK]) & ~low & _MASK
                if value < cython.cast(cython.ulonglong, registers[_CLOCK]):
                    value += low + 1
            if value >= _LATEST:
                return -1
            registers[_CLOCK] = cython.cast(cython.longlong, value)
        elif kind == _TEXT:
            at = base + ((at - base + 7) & ~7)
            i = octets.find(data, 0, at >> 3, end >> 3)
            if i < 0:
                return -1
            at = (i + 1) * 8
        elif kind == _RUN:
            at = base + ((at - base + program[place + 1]) & ~program[place + 1])
            bits = program[place + 2]
            count = registers[program[place + 3]]
            if count < 0 or at > end or count > (end - at) // bits:
                return -1
            at += count * bits
        elif kind == _LOOP:
            count = program[place + 2]
            if program[place + 1] >= 0:
                count = registers[program[place + 1]]
            if count < 0:
                return -1
            loops[program[place + 4]] = count
            if count == 0:
                step = program[place + 3]
        elif kind == _NEXT:
            turns += 1
            if turns > _MOST_TURNS:
                return -1
            loops[program[place + 4]] -= 1
            if loops[program[place + 4]] > 0:
                step = program[place + 3]
        elif kind == _SWITCH:
            count = registers[program[place + 1]]
            bits = -1
            for _case in range(program[place + 2]):
                place += 5
                if program[place + 1] <= count and count <= program[place + 2]:
                    bits = program[place + 3]
                    break
            if bits < 0:
                return -1
            step = bits
        else:
            step = program[place + 3]


def read_registers(
    data: cython.const[cython.uchar][::1],
    base: cython.longlong,
    program: cython.longlong[::1],
    step: cython.longlong,
    at: cython.longlong,
    registers: cython.longlong[::1],
) -> int:
    """Take steps over data from bit ``at``; return the bit behind, or -1 if data ends before it.

    The packet begins at bit ``base``.
    """
    if len(data) == 0:
        return -1
    levels = cython.declare(cython.longlong[8], [0] * 8)
    return _run(
        pointers.to_chars(data), len(data) * 8, base, pointers.to_longs(program), step, at,
        len(data) * 8, pointers.to_longs(registers), levels,
    )  # fmt: skip


def split_packet(
    data: cython.const[cython.uchar][::1],
    base: cython.longlong,
    end: cython.longlong,
    program: cython.longlong[::1],
    header: cython.longlong,
    classes: cython.longlong[::1],
    registers: cython.longlong[::1],
    state: cython.longlong[::1],
    event: cython.int[::1],
    time: cython.longlong[::1],
    tid: cython.int[::1],
    pid: cython.int[::1],
    start: cython.longlong[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    row: cython.Py_ssize_t,
) -> tuple[int, int]:
    """Put the records of one packet into the columns, from ``row`` on.

    ``base`` and ``end`` are bits of data; state[0] is the bit of the next record, state[1] is added
    to times. ``header`` is the step of what all records begin with. classes[5 * NUMBER:] has the
    event, -1 for one that is passed over, -2 for none; the step of its context or -1; align - 1,
    bits (-1: take steps) and step of its fields. Returns the next row, and why it ended.
    """
    if len(data) == 0:
        return row, DONE
    text: cython.p_uchar = pointers.to_chars(data)
    steps: cython.p_longlong = pointers.to_longs(program)
    known: cython.p_longlong = pointers.to_longs(registers)
    levels = cython.declare(cython.longlong[8], [0] * 8)
    room: cython.Py_ssize_t = len(event)
    most: cython.longlong = len(classes) // 5
    at: cython.longlong = state[0]
    first: cython.longlong
    fields: cython.longlong
    place: cython.longlong
    clock: cython.longlong
    reason: cython.int = DONE
    size: cython.longlong = len(data) * 8
    shift: cython.longlong = state[1]
    while at < end:
        if row == room:
            reason = FULL
            break
        reason = BAD
        clock = known[1]
        first = at
        at = _run(text, size, base, steps, header, at, end, known, levels)
        if at < 0:
            break
        if known[0] < 0 or known[0] >= most or classes[known[0] * 5] == -2:
            reason = UNKNOWN
            known[1] = clock
            break
        place = known[0] * 5
        if classes[place + 1] >= 0:
            at = _run(text, size, base, steps, classes[place + 1], at, end, known, levels)
            if at < 0:
                break
        at = base + ((at - base + classes[place + 2]) & ~classes[place + 2])
        fields = at
        if classes[place + 3] >= 0:
            at += classes[place + 3]
            if at > end:
                break
        else:
            at = _run(text, size, base, steps, classes[place + 4], at, end, known, levels)
            if at < 0:
                break
        if classes[place] >= 0:
            event[row] = cython.cast(cython.int, classes[place])
            time[row] = known[1] + shift
            tid[row] = -1
            if known[2] >= 0 and known[2] <= 0x7FFFFFFF:
                tid[row] = cython.cast(cython.int, known[2])
            pid[row] = -1
            if known[3] >= 0 and known[3] <= 0x7FFFFFFF:
                pid[row] = cython.cast(cython.int, known[3])
            start[row] = first >> 3
            begin[row] = fields >> 3
            stop[row] = (at + 7) >> 3
            row += 1
        reason = DONE
        state[0] = at
    return row, reason


def read_values(
    data: cython.const[cython.uchar][::1],
    fields: cython.longlong[::1],
    begin: cython.longlong[::1],
    stop: cython.longlong[::1],
    values: cython.ulonglong[::1],
    spans: cython.longlong[::1],
    ok: cython.uchar[::1],
) -> None:
    """Read rows data[begin[i]:stop[i]] of ``fields``: bits (0: a text), signed, align, big.

    values[n * rows + row] gets number n; data[spans[2 * n * rows + row]: ...] is text n. ok[row]
    is 1 for what is of that form.
    """
    if len(data) == 0:
        return
    text: cython.p_uchar = pointers.to_chars(data)
    rows: cython.Py_ssize_t = len(ok)
    count: cython.Py_ssize_t = len(fields) // 4
    row: cython.Py_ssize_t
    i: cython.Py_ssize_t
    number: cython.Py_ssize_t
    span: cython.Py_ssize_t
    at: cython.longlong
    end: cython.longlong
    bits: cython.longlong
    value: cython.ulonglong
    for row in range(rows):
        ok[row] = 0
        at = begin[row]
        end = stop[row]
        number = row
        span = row
        for i in range(count):
            bits = fields[4 * i]
            if bits == 0:
                spans[span] = at
                at = octets.find(text, 0, at, end)
                if at < 0:
                    break
                spans[span + rows] = at
                at += 1
                span += 2 * rows
                continue
            at = begin[row] + ((at - begin[row] + fields[4 * i + 2] - 1) & ~(fields[4 * i + 2] - 1))
            if end - at < bits >> 3:
                break
            if fields[4 * i + 3]:
                value = _bits(text, at << 3, bits, fields[4 * i + 3] == 1)
            else:
                value = _whole(text, at, bits)
            if fields[4 * i + 1] and bits < 64:
                value = integers.extended(value, bits, True)
            values[number] = value
            number += rows
            at += bits >> 3
        else:
            ok[row] = at == end
