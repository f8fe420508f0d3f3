"""Arguments in recordings of qtctl 0.1, as babeltrace2 printed them."""

from __future__ import annotations

import pytest

from qtctl.events.declarations import parse_declarations
from qtctl.records.columns import Record
from qtctl.records.event_table import EventTable
from tests.printedfields import captured, rows

DECLARED = """
own_text(void *dev, const char *name, int ret) "%p %s %d"
own_nothing(void) "nothing"
own_byte(uint8_t small, int8_t signed_one, uint64_t big) "%u %d %"PRIu64
"""
TABLE = EventTable.build(None, parse_declarations(DECLARED).by_name)
GOOD = b"{ small = 1, signed_one = 2, big = 3 }"


def read(*printed: tuple[str, bytes]) -> list[Record]:
    return list(rows(TABLE, printed).records())


def test_a_real_trace_is_read_whole() -> None:
    records = list(captured().records())
    assert all(record.raw is None and record.args for record in records)
    assert records[0].args["mr"] == 0x55E1D3FEE240
    assert records[0].args["name"] == "apm-io"


def test_texts_lose_nothing() -> None:
    said = rb"\x01\a\b\t\n\v\f\r\e !\"#'\?[\\]\x7f" + b"\xff\xc3\xa9"
    [record] = read(("own_text", b'{ dev = 0x0, name = "' + said + b'", ret = -1 }'))
    expected = b"\x01\a\b\t\n\v\f\r\x1b !\"#'?[\\]\x7f\xff\xc3\xa9"
    assert record.args["name"] == expected.decode("utf-8", "surrogateescape")
    assert (record.args["dev"], record.args["ret"]) == (0, -1)


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (b"{ small = 255, signed_one = -128, big = 18446744073709551615 }", (255, -128, 2**64 - 1)),
        (b"{ small = 0xFF, signed_one = 0x80, big = 0xFFFFFFFFFFFFFFFF }", (255, -128, 2**64 - 1)),
        (b"{ small = 0, signed_one = 0, big = 0x0 }", (0, 0, 0)),
    ],
)
def test_numbers_are_as_declared(arguments: bytes, values: tuple[int, int, int]) -> None:
    [record] = read(("own_byte", arguments))
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
    first, record = read(("own_byte", GOOD), ("own_byte", arguments))
    assert first.raw is None
    assert record.raw == arguments.decode()


def test_arguments_that_the_tracepoint_leaves_out_are_left_out() -> None:
    [record] = read(("own_byte", b"{ small = 1, big = 3 }"))
    assert record.args == {"small": 1, "big": 3}
    [nothing] = read(("own_nothing", b"{ }"))
    assert (nothing.name, nothing.args, nothing.raw) == ("own_nothing", {}, None)


def test_null() -> None:
    [record] = read(("own_text", b'{ dev = 0x0, name = "(null)", ret = 1 }'))
    assert record.args["name"] is None
