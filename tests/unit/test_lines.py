"""Lines of batches are those of their records, written one by one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.simple.decoder import SimpleDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.model import Clock
from qtctl.records import schema
from qtctl.records.batch import Batch, EventTable
from qtctl.records.columns import Record
from qtctl.records.counts import Counts
from qtctl.records.lines import LineBlock, write
from qtctl.text.cells import plain, width_of
from qtctl.text.style import Style, escaped
from qtctl.writers.csv import CsvExport
from qtctl.writers.ndjson import json_lines
from qtctl.writers.rows import RowFormatter
from tests.samples import batches, capture, event_table, forms, running
from tests.simplefiles import event, header, mapping

PIPE, TERMINAL, COLOUR = Style(), Style(80), Style(80, True)
DECLARED = parse_declarations(
    'full(void *p, int8_t few, uint64_t many, int64_t shown, const char *s) "%p %d %lu %lx %s"\n'
    'none(void) ""\n'
    'a_rather_long_name_to_pad_others_with(const char *one, int n) "%s %d"\n'
).by_name
TABLE = EventTable.build([*DECLARED, "unknown"], DECLARED)
HEXES = {"full": frozenset({"p", "shown"})}


class Plainly:
    """Writes one record after the other."""

    def __init__(self, times: str) -> None:
        self.times = times
        self.first_ns: int | None = None
        self.last_ns = 0

    def line(self, one: Record) -> str:
        if one.line is not None:
            return escaped(one.line)
        parts = [] if self.times == "none" else [self.time(one)]
        if one.tid is not None:
            parts.append(str(one.tid))
        parts.append(one.name)
        for key, value in one.args.items():
            if value is None:
                parts.append(f"{key}=(null)")
                continue
            in_hex = key in HEXES.get(one.name, ())
            shown = f"'{escaped(value)}'" if isinstance(value, str) else f"{value:{'#x' * in_hex}}"
            parts.append(f"{key}={shown}")
        if one.raw is not None:
            parts.append(escaped(one.raw))
        found = " ".join(filter(None, parts)).rstrip()
        return f"{found} (perhaps not whole)" if one.cut else found

    def time(self, one: Record) -> str:
        now = one.time_ns
        late = one.clock == Clock.ARRIVAL
        if self.first_ns is None:
            self.first_ns = self.last_ns = now
            self.first_late = self.last_late = late
        other = {"abs": False, "rel": self.first_late, "delta": self.last_late}[self.times]
        self.last_late = late
        about = "~" if late or other else ""
        if self.times == "abs":
            second, rest = divmod(now, 10**9)
            wall = one.clock != Clock.MONOTONIC
            text = datetime.fromtimestamp(second).strftime("%H:%M:%S") if wall else str(second)
            return f"{about}{text}.{rest // 1000:06d}"
        span = now - (self.first_ns if self.times == "rel" else self.last_ns)
        self.last_ns = now
        second, rest = divmod(abs(span), 10**9)
        return f"{about}{'-' if span < 0 else '+'}{second}.{rest // 1000:06d}"


TEXTS = st.binary(max_size=6).filter(lambda text: b"\n" not in text)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
UINT64 = st.integers(0, (1 << 64) - 1)


@st.composite
def log_lines(draw: st.DrawFn) -> bytes:
    """Lines of all kinds, with and without times."""
    kind = draw(st.sampled_from(["full", "full", "none", "padded", "raw", "unknown", "text"]))
    stamp = draw(
        st.sampled_from([b"", b"2026-11-22T21:37:32.295065Z ", b"2026-11-22T21:37:33Z "])
        | st.builds(b"%d@%d.%06d:".__mod__, st.tuples(
            st.integers(0, 1 << 30), st.integers(0, 4_000_000_000), st.integers(0, 999_999)
        ))
    )  # fmt: skip
    if kind == "text":
        return draw(TEXTS)
    text = draw(TEXTS)
    if kind == "full":
        pointer, few, many = draw(UINT64), draw(st.integers(-128, 127)), draw(UINT64)
        shown = draw(INT64) & (1 << 64) - 1
        return stamp + b"full 0x%x %d %d %x %s" % (pointer, few, many, shown, text)
    if kind == "none":
        return stamp + b"none"
    if kind == "padded":
        number = draw(st.integers(-(1 << 31), (1 << 31) - 1))
        return stamp + b"a_rather_long_name_to_pad_others_with %s %d" % (text, number)
    return stamp + (b"full %s" % text if kind == "raw" else b"unknown %s" % text)


CONTENT = st.lists(st.lists(log_lines(), max_size=12), max_size=3)


def decoded(content: list[list[bytes]]) -> list[Batch]:
    decoder = LogDecoder(TABLE, pid=77)
    clocks = Clocks(1_795_000_000_123_456_789)
    return [
        batch
        for part in content
        for batch in batches(decoder.end(b"".join(line + b"\n" for line in part), clocks))
    ]


def shown(batches: list[Batch], formatter: RowFormatter) -> list[str]:
    return [line for batch in batches for line in formatter.lines(batch)]


@given(content=CONTENT, times=st.sampled_from(["abs", "rel", "delta", "none"]))
def test_lines_for_a_pipe(content: list[list[bytes]], times: str) -> None:
    batches = decoded(content)
    plainly = Plainly(times)
    expected = [plainly.line(record) for batch in batches for record in batch.records()]
    for form in forms():
        with running(form):
            assert shown(batches, RowFormatter(PIPE, times, HEXES, TABLE.names)) == expected


@given(
    content=CONTENT,
    times=st.sampled_from(["abs", "rel", "delta", "none"]),
    width=st.integers(30, 130),
    colour=st.booleans(),
)
def test_a_terminal_shows_each_record_on_one_row_or_wraps_it(
    content: list[list[bytes]], times: str, width: int, colour: bool
) -> None:
    batches = decoded(content)
    style = Style(width, colour)
    names = list(TABLE.names)
    rows = shown(batches, RowFormatter(style, times, HEXES, names))
    assert len(rows) == sum(map(len, batches))
    assert all(width_of(row) <= width for row in rows)
    wrapped = shown(batches, RowFormatter(style, times, HEXES, names, wrap=True))
    assert all(width_of(plain(row).rstrip()) <= width for row in wrapped)
    whole = "".join("".join(map(plain, wrapped)).split())
    for batch in batches:
        for record in batch.records():
            for key, value in record.args.items():
                if isinstance(value, str):
                    assert "".join(f"{key}='{escaped(value)}'".split()) in whole


@given(content=CONTENT)
def test_json_lines(content: list[list[bytes]]) -> None:
    batches = decoded(content)
    expected = [json.dumps(schema.record(one)) for batch in batches for one in batch.records()]
    for form in forms():
        with running(form):
            assert [line for batch in batches for line in json_lines(batch)] == expected


def plain_csv(records: list[Record], arguments: list[str]) -> str:
    """Write records with the standard library."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    own = ["type", "time_ns", "clock", "pid", "guest", "run", "thread", "file", "tid", "backend"]
    columns = [*own, "name", "count", "line", "raw", "args"]
    writer.writerow([*columns, *(f"{one}_" if one in columns else one for one in arguments)])
    for one in records:
        told = schema.record(one)
        args = told.pop("args", {})
        if not arguments and one.line is None:
            told["args"] = json.dumps(args)
        writer.writerow([*map(told.get, columns), *map(args.get, arguments)])
    return out.getvalue().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@given(content=CONTENT, own=st.sampled_from([[], ["p", "few", "many", "shown", "s"], ["s", "tid"]]))
def test_csv_lines(content: list[list[bytes]], own: list[str]) -> None:
    batches = decoded(content)
    expected = plain_csv([one for batch in batches for one in batch.records()], own)
    for form in forms():
        with running(form):
            made = CsvExport(own)
            got = [line for batch in batches for line in made.lines(batch, len(batch))]
            got += made.ended(Counts())
        assert "\n".join(got) + "\n" == expected


@pytest.mark.parametrize("version", ["7.2", "10.2"])
def test_a_whole_capture(version: str) -> None:
    table = event_table(version)
    decoder = SimpleDecoder(table)
    items = [
        *decoder.feed(capture(f"qemu-{version}-simple-v4.bin"), Clocks(0)),
        *decoder.flush(Clocks(0)),
    ]
    batches = [item for item in items if isinstance(item, Batch)]
    in_hex: Mapping[str, frozenset[str]] = {}
    formatter = RowFormatter(PIPE, "abs", in_hex, table.names)
    got = [line for batch in batches for line in formatter.lines(batch)]
    records = [one for batch in batches for one in batch.records()]
    plainly = Plainly("abs")
    assert len(got) == len(records) > 1000
    assert got == [plainly.line(one) for one in records]
    got = [line for batch in batches for line in json_lines(batch)]
    assert got == [json.dumps(schema.record(one)) for one in records]


def test_binary_data_that_cannot_be_read_is_shown_in_hex() -> None:
    decoder = SimpleDecoder(TABLE)
    data = header() + mapping(0, "full") + mapping(1, "none")
    [batch] = decoder.feed(data + event(0, 1, 255) + event(1, 2), Clocks(0))
    assert isinstance(batch, Batch)
    formatter = RowFormatter(PIPE, "none", HEXES, [])
    assert formatter.rows(batch) == ["full ff00000000000000", "none"]
    raw = [json.loads(line).get("raw") for line in json_lines(batch)]
    assert raw == ["ff00000000000000", None]


def test_a_row_names_its_arguments_and_hides_control_bytes() -> None:
    first, second = decoded(
        [
            [b"7@1.5:none", b"\x1b[1m"],
            [b"8@1.000001:none", b"8@1.000002:full 0x55a1 -1 2 ff rtc\x1b[2J\xff"],
        ]
    )
    formatter = RowFormatter(PIPE, "none", HEXES, [])
    assert formatter.rows(first) == ["7@1.5:none", "\\x1b[1m"]
    assert formatter.rows(second) == [
        "8 none",
        "8 full p=0x55a1 few=-1 many=2 shown=0xff s='rtc\\x1b[2J\\xff'",
    ]
    assert formatter.note("odd\x07") == "odd\\x07"


def test_a_thread_is_shown_by_its_name_where_it_has_one() -> None:
    batches = decoded([[b"7@1.000000:none", b"8@1.000000:none", b"none"]])
    rows = RowFormatter(PIPE, "none", {}, [], lambda tid: "vCPU 0\x1b" * (tid == 7))
    assert shown(batches, rows) == ["vCPU 0\\x1b none", "8 none", "none"]


def test_colour_wraps_and_does_not_replace() -> None:
    batches = decoded([[b"full 0x1 2 3 4 x", b"none", b"text"]])
    bare, coloured = (
        shown(batches, RowFormatter(style, "abs", HEXES, ["full"])) for style in (TERMINAL, COLOUR)
    )
    assert all("\x1b[" in line for line in coloured)
    assert list(map(plain, coloured)) == bare


@given(st.lists(INT64, min_size=1), st.lists(UINT64, min_size=1), st.booleans())
def test_numbers_are_written_as_c_does(
    signed: list[int], unsigned: list[int], in_hex: bool
) -> None:
    spec = "#x" if in_hex else "d"
    for form in forms():
        with running(form):
            for numbers, kind in ((signed, np.int64), (unsigned, np.uint64)):
                block = LineBlock(np.arange(len(numbers)))
                block.number(np.array(numbers, kind), in_hex=in_hex)
                assert [*write([block])] == [format(number, spec) for number in numbers]


def test_nothing_is_no_line() -> None:
    assert [*write([])] == []
    batch = decoded([[b"some text"]])[0].first(0)
    assert [*json_lines(batch), *RowFormatter(PIPE, "abs", {}, []).lines(batch)] == []
