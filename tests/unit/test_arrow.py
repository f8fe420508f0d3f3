"""Batches as Arrow tables: the same values as the records, whatever they are."""

from __future__ import annotations

import sys
from typing import Any

import pandas
import pyarrow as pa
import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.simple.decoder import SimpleDecoder
from qtctl.errors import Unsupported
from qtctl.events.declarations import parse_declarations
from qtctl.model import Clock
from qtctl.records.arrow import (
    EVENTS,
    LINES,
    OWN,
    arrow_tables,
    event_rows,
    event_schema,
    events_rows,
    lines_rows,
)
from qtctl.records.batch import Batch
from qtctl.records.columns import readable
from qtctl.records.event_table import EventTable
from qtctl.records.extra import need_analysis
from tests.samples import capture, declarations, event_table, only_batch
from tests.simplefiles import event, header, mapping

DECLARED = """\
odd(uint64_t u, int8_t i, const char *s, void *p, int event) "%lu %d %s %p %d"
none(void) ""
"""
TABLE = EventTable.build(None, parse_declarations(DECLARED).by_name)
BEGIN = header() + mapping(0, "odd") + mapping(1, "none") + mapping(2, "strange")
TEXTS = [
    b"",
    b'say "hi"',
    b"two\nlines\r\tand\x1b[31m",
    b"bad \xff\x80 bytes",
    b"nul \0 in",
    "é".encode(),
]


def simple(*records: bytes, table: EventTable = TABLE) -> Batch:
    decoder = SimpleDecoder(table)
    [batch] = [
        one for one in decoder.feed(BEGIN + b"".join(records), Clocks(0)) if isinstance(one, Batch)
    ]
    return batch


def odd(n: int, text: bytes) -> bytes:
    return event(0, n, 2**64 - 1 - n, -n, text, 2**63 + n, -(2**31))


def expected(batch: Batch) -> dict[str, list[dict[str, Any]]]:
    """Rows of every event, from its records."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in batch.records():
        if record.line is None:
            args = {
                f"{name}_" if name in OWN.names else name: readable(value)
                if isinstance(value, str)
                else value
                for name, value in record.args.items()
            }
            since_boot = record.clock is Clock.MONOTONIC
            own = {
                "time_ns": record.time_ns,
                "time": None if since_boot else pandas.Timestamp(record.time_ns),
                "clock": str(record.clock),
                "event": record.name,
                "tid": record.tid,
                "pid": record.pid,
                "backend": str(record.backend),
            }
            raw = None if record.raw is None else readable(record.raw)
            found.setdefault(record.name, []).append({**own, **args, "raw": raw})
    return found


def same(batch: Batch) -> None:
    tables = arrow_tables(batch)
    wanted = expected(batch)
    assert set(tables) == set(wanted)
    for name, table in tables.items():
        table.validate(full=True)
        for row, want in zip(table.to_pylist(), wanted[name], strict=True):
            assert {key: row.get(key) for key in want} == want
            assert all(value is None for key, value in row.items() if key not in want)


def test_extreme_values_are_whole() -> None:
    batch = simple(*(odd(n, text) for n, text in enumerate(TEXTS)), event(1, 9))
    same(batch)
    odds = arrow_tables(batch, file="x")["odd"]
    assert odds.schema.field("u").type == pa.uint64()
    assert odds.schema.field("p").type == pa.uint64()
    assert odds.schema.field("i").type == pa.int64()
    assert pa.types.is_dictionary(odds.schema.field("s").type)
    assert odds.column("u").to_pylist() == [2**64 - 1 - n for n in range(len(TEXTS))]
    assert odds.column("event_").to_pylist() == [-(2**31)] * len(TEXTS)
    assert odds.column("file").to_pylist() == ["x"] * len(TEXTS)
    assert odds.column("s").to_pylist()[3:] == ["bad \\xff\\x80 bytes", "nul \0 in", "é"]


def test_rows_that_cannot_be_read_keep_their_text() -> None:
    batch = simple(odd(1, b"fine"), event(0, 2, 1), event(2, 3, 7), odd(4, b"fine"))
    same(batch)
    rows = arrow_tables(batch)["odd"].to_pylist()
    assert [row["u"] for row in rows] == [2**64 - 2, None, 2**64 - 5]
    assert [row["raw"] for row in rows] == [None, "0100000000000000", None]


def test_events_of_unknown_declaration_have_raw_only() -> None:
    table = EventTable.build(["strange"], {})
    rows = arrow_tables(simple(event(2, 3, 7), table=table))["strange"]
    assert rows.column_names == [*OWN.names, "raw"]
    assert rows.column("raw").to_pylist() == ["0700000000000000"]


def test_all_events_in_order_with_json() -> None:
    batch = simple(odd(1, b'"\n\xff'), event(1, 2), event(0, 3, 1), odd(4, b"x"))
    rows = events_rows(batch, EVENTS).to_pylist()
    assert [row["event"] for row in rows] == ["odd", "none", "odd", "odd"]
    assert [row["time_ns"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["args"] == (
        '{"u": 18446744073709551614, "i": -1, "s": "\\"\\n\\\\xff", "p": 9223372036854775809, '
        '"event": -2147483648}'
    )
    assert [row["args"] for row in rows[1:3]] == ["{}", None]
    assert rows[2]["raw"] == "0100000000000000"


def test_only_what_is_asked_for() -> None:
    batch = simple(odd(1, b"x"))
    schema = pa.schema([event_schema(TABLE, "odd").field(name) for name in ("s", "time_ns")])
    assert event_rows(batch, "odd", schema).to_pylist() == [{"s": "x", "time_ns": 1}]
    assert len(event_rows(batch, "none", event_schema(TABLE, "none"))) == 0


def test_lines_that_are_no_events() -> None:
    text = b"IN: \xff\n1@2.000003:odd 5 -5 five 0x5 7\n1@2.000004:odd what\n"
    batch = only_batch(LogDecoder(TABLE, clock=Clock.REALTIME).end(text, Clocks(99)))
    same(batch)
    assert lines_rows(batch, LINES).to_pylist() == [
        {
            "time_ns": 99,
            "time": pandas.Timestamp(99),
            "clock": "arrival",
            "tid": None,
            "pid": None,
            "guest": None,
            "run": None,
            "thread": None,
            "backend": "log",
            "file": None,
            "line": "IN: \\xff",
        }
    ]
    rows = arrow_tables(batch)["odd"].to_pylist()
    assert [(row["time_ns"], row["clock"], row["tid"]) for row in rows] == [
        (2_000_003_000, "realtime", 1),
        (2_000_004_000, "realtime", 1),
    ]
    assert [row["raw"] for row in rows] == [None, "what"]


@pytest.mark.parametrize("version", ["7.2", "10.2"])
def test_captures_of_the_simple_backend(version: str) -> None:
    decoder = SimpleDecoder(event_table(version))
    items = decoder.feed(capture(f"qemu-{version}-simple-v4.bin"), Clocks(0))
    batches = [item for item in items if isinstance(item, Batch)]
    assert batches
    for batch in batches:
        same(batch)


@pytest.mark.parametrize("version", ["7.2", "10.2", "11.1"])
def test_captures_of_logs(version: str) -> None:
    decoder = LogDecoder(EventTable.build(None, declarations(version).by_name))
    batch = only_batch(decoder.feed(capture(f"qemu-{version}-log-timestamp.txt"), Clocks(1)))
    assert len(batch) > 100
    same(batch)


def test_an_empty_batch_has_no_tables() -> None:
    batch = only_batch(LogDecoder(TABLE).end(b"a line\n", Clocks(0))).first(0)
    assert arrow_tables(batch) == {}
    assert len(events_rows(batch, EVENTS)) == len(lines_rows(batch, LINES)) == 0


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(Unsupported) as caught:
        need_analysis("query", "pyarrow", "duckdb")
    assert "query needs duckdb" in caught.value.message
    assert caught.value.hint == "pip install 'qtctl[analysis]'"
