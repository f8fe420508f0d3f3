"""The decoder of babeltrace2's text: real text, losses counted once."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.ust.decoder import LttngDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.event_table import EventTable
from qtctl.records.items import Loss
from tests.samples import capture, event_table, running

NOW = 77
DECLARED = """
own_text(void *dev, const char *name, int ret) "%p %s %d"
own_nothing(void) "nothing"
own_byte(uint8_t small, int8_t signed_one, uint64_t big) "%u %d %"PRIu64
"""
TABLE = EventTable.build(None, parse_declarations(DECLARED).by_name)
HEAD = b"[1795391293.015875625] qemu:"
PLACE = b": { 0 }, { 24667, 24668 }, "


def line(name: bytes, arguments: bytes) -> bytes:
    return HEAD + name + PLACE + arguments + b"\n"


def warning(words: str, stream: int = 1) -> bytes:
    return (
        f"WARNING: Tracer {words} between [1795391212.793343257] and [1795391212.956325633] in "
        f'trace "(unknown)" (UUID: bb5417bc) within stream "stream-{stream}" '
        f"(stream class ID: 0, stream ID: {stream}).\n"
    ).encode()


def decoded(
    data: bytes, cuts: list[int] | None = None, table: EventTable = TABLE, thread: int = 1
) -> tuple[list[Record | Loss], LttngDecoder]:
    decoder = LttngDecoder(table, pid=9, thread=thread)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    out: list[Record | Loss] = []
    for low, high in pairwise(edges):
        for item in decoder.feed(data[low:high], Clocks(NOW)):
            out += list(item.records()) if isinstance(item, Batch) else [item]
    for item in decoder.flush(Clocks(NOW)):
        out += list(item.records()) if isinstance(item, Batch) else [item]
    return out, decoder


def live_text() -> bytes:
    """Return the capture in the form that qtctl asks babeltrace2 for."""
    text = capture("qemu-7.2-ust-babeltrace2.txt")
    pattern = (
        rb"\[21:39:(\d\d\.\d{9})\] \(\S+\) vm (qemu:\w+: )\{ cpu_id = (\d+) \}, "
        rb"\{ vpid = (\d+), vtid = (\d+), procname = [^}]*\}, "
    )
    return re.sub(pattern, rb"[17953835\1] \2{ \3 }, { \4, \5 }, ", text)


def test_a_real_trace_is_read_whole() -> None:
    records, _ = decoded(live_text(), table=event_table("7.2"))
    assert len(records) == 1000
    assert all(isinstance(r, Record) and r.name and r.raw is None and r.args for r in records)
    first = records[0]
    assert isinstance(first, Record)
    assert first.name == "memory_region_ops_write"
    assert first.args["mr"] == 0x55E1D3FEE240
    assert first.args["name"] == "apm-io"
    assert first.args["size"] == 1
    assert (first.pid, first.tid, first.backend) == (9, 30573, Backend.UST)
    assert (first.time_ns, first.clock) == (1795383539832592924, Clock.REALTIME)


def test_texts_lose_nothing() -> None:
    said = rb"\x01\a\b\t\n\v\f\r\e !\"#\'\?[\\]\x7f" + b"\xff\xc3\xa9"
    data = line(b"own_text", b'{ dev = 0x0, name = "' + said + b'", ret = -1 }')
    [record], _ = decoded(data)
    assert isinstance(record, Record)
    expected = b"\x01\a\b\t\n\v\f\r\x1b !\"#'?[\\]\x7f\xff\xc3\xa9"
    assert record.args["name"] == expected.decode("utf-8", "surrogateescape")
    assert record.args["ret"] == -1
    assert record.args["dev"] == 0


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (b"{ small = 255, signed_one = -128, big = 18446744073709551615 }", (255, -128, 2**64 - 1)),
        (b"{ small = 0xFF, signed_one = 0x80, big = 0xFFFFFFFFFFFFFFFF }", (255, -128, 2**64 - 1)),
        (b"{ small = 0, signed_one = 0, big = 0x0 }", (0, 0, 0)),
    ],
)
def test_numbers_are_as_declared(arguments: bytes, values: tuple[int, int, int]) -> None:
    [record], _ = decoded(line(b"own_byte", arguments))
    assert isinstance(record, Record)
    assert tuple(record.args.values()) == values


@pytest.mark.parametrize(
    "arguments",
    [
        b"{ small = 1, signed_one = 2, big = 18446744073709551616 }",
        b"{ small = 1, signed_one = 2, big = 07 }",
        b"{ small = 1, signed_one = 2, big = 0x }",
        b"{ small = 1, signed_one = 2, big = 0x00000000000000001 }",
        b"{ small = 1, signed_one = 2, other = 3 }",
        b"{ small = 1, signed_one = 2, big = 3 } ",
        b"{ small = 1, signed_one = 2, big = 3",
        b"{ }",
        b"",
    ],
)
def test_what_cannot_be_read_stays_text(arguments: bytes) -> None:
    good = line(b"own_byte", b"{ small = 1, signed_one = 2, big = 3 }")
    [first, record], _ = decoded(good + line(b"own_byte", arguments))
    assert isinstance(first, Record)
    assert first.raw is None
    assert isinstance(record, Record)
    assert record.raw == arguments.decode()


def test_arguments_that_the_tracepoint_leaves_out_are_left_out() -> None:
    [record], _ = decoded(line(b"own_byte", b"{ small = 1, big = 3 }"))
    assert isinstance(record, Record)
    assert record.args == {"small": 1, "big": 3}
    [nothing], _ = decoded(line(b"own_nothing", b"{ }"))
    assert isinstance(nothing, Record)
    assert (nothing.name, nothing.args, nothing.raw) == ("own_nothing", {}, None)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("discarded 67893 events", 67893),
        ("discarded one event", 1),
        ("may have discarded events", None),
        ("discarded 3 packets", None),
        ("discarded one packet", None),
    ],
)
def test_losses_are_at_their_place(words: str, count: int | None) -> None:
    one = line(b"own_nothing", b"{ }")
    first, loss, last = decoded(one + warning(words) + one)[0]
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert loss == Loss(Backend.UST, count, 1795391212956325633)


def test_a_counter_that_fell_back_is_not_counted_twice() -> None:
    lost = 1_997_766
    data = warning(f"discarded {lost} events") + warning(f"discarded {2**64 - lost} events")
    data += warning("discarded 5 events", stream=2)
    data += warning(f"discarded {lost - 6} events") + warning("discarded 10 events")
    counts = [item.count for item in decoded(data)[0] if isinstance(item, Loss)]
    assert counts == [lost, 5, 4]
    assert decoded(warning(f"discarded {2**64 - 1} packets"))[0] == []


@pytest.mark.parametrize(
    "odd",
    [
        b"WARNING: Tracer discarded many events\n",
        b"11-22 23:44:12.588 9919 9919 E PLUGIN/CTF/META\n",
        b"[1795391293.015875625] other:own_nothing: { 0 }, { 1, 1 }, { }\n",
        b"[1795391293.015875625] qemu:unknown: { 0 }, { 1, 1 }, { }\n",
        b"[1795391293.01587562] qemu:own_nothing: { 0 }, { 1, 1 }, { }\n",
        b"[99999999999.015875625] qemu:own_nothing: { 0 }, { 1, 1 }, { }\n",
        b"[1795391293.015875625] qemu:own_nothing: { 0 }, { 1, 99999999999 }, { }\n",
        b"[1795391293.015875625] qemu:own_nothing: { }, { 1, 1 }, { }\n",
        b"[1795391293.015875625] qemu:own_nothing\n",
        b"\n",
        b"\0\xff\x1b[2J\n",
    ],
)
def test_foreign_lines_are_text(odd: bytes) -> None:
    [record], _ = decoded(odd)
    assert isinstance(record, Record)
    assert record.name == ""
    assert record.line is not None
    assert record.line.encode("utf-8", "surrogateescape") == odd[:-1]


def test_a_truncated_line_is_handed_over_as_text() -> None:
    whole = line(b"own_byte", b"{ small = 1, signed_one = 2, big = 34 }")
    for cut in range(1, len(whole)):
        [record], _ = decoded(whole[:cut])
        assert isinstance(record, Record)
        assert record.line == whole[:cut].decode()


CONTEXTS = st.lists(
    st.integers(-(2**40), 2**40).map(str) | st.sampled_from(['"a, b } {"', '"\\""', '"', "{", "x"]),
    max_size=4,
)


@given(CONTEXTS, st.integers(-1, 4))
def test_the_thread_is_found_at_its_place(contexts: list[str], thread: int) -> None:
    between = f"{{ {', '.join(contexts)} }}, ".encode() if contexts else b""
    data = HEAD + b"own_nothing: { 0 }, " + between + b"{ }\n"
    found, _ = decoded(data, thread=thread)
    with running("interpreted"):
        assert decoded(data, thread=thread)[0] == found
    [record] = found
    assert isinstance(record, Record)
    plain = all(one.lstrip("-").isdigit() or one == '"a, b } {"' for one in contexts)
    if plain and 0 <= thread < len(contexts):
        number = int(contexts[thread]) if contexts[thread][0] != '"' else -1
        if number <= 2**31 - 1:
            assert record.tid == (number if number >= 0 else None)
