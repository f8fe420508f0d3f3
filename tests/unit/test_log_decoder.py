"""Log text to batches: real captures against a reader of its own, any chunking, odd bytes."""

from __future__ import annotations

import datetime
import json
import re
from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend, Clock, Control, Declaration, Kind
from qtctl.records import schema
from qtctl.records.batch import Batch, EventTable, Record
from qtctl.records.counts import Counts
from qtctl.records.items import Loss
from tests.samples import (
    batches,
    capture,
    declarations,
    event_table,
    only_batch,
)

NOW = 1_800_000_000_000_000_000
CAPTURES = [
    ("7.2", "qemu-7.2-log-timestamp.txt"),
    ("10.2", "qemu-10.2-log-timestamp.txt"),
    ("11.1", "qemu-11.1-log-timestamp.txt"),
    ("7.2", "qemu-7.2-log-plain-mixed-with-d-output.txt"),
]
SMALL = parse_declarations(
    'one(int a, const char *s) "a=%d s=%s"\n'
    "none(void) \n"
    'two(int a, int b) "first %d\\nsecond %d"\n'
    'split(char *a, char *b) "%s %s"\n'
).by_name
TABLE = EventTable.build([*SMALL, "undeclared"], SMALL)


def decode(
    data: bytes,
    cuts: list[int] | None = None,
    *,
    table: EventTable = TABLE,
    limit: int = 1 << 20,
    pid: int | None = None,
) -> list[Record]:
    decoder = LogDecoder(table, line_limit=limit, pid=pid)
    edges = [0, *sorted(cuts or []), len(data)]
    records: list[Record] = []
    for start, stop in pairwise(edges):
        for batch in batches(decoder.feed(data[start:stop], Clocks(NOW))):
            records += batch.records()
    for batch in batches(decoder.flush(Clocks(NOW))):
        records += batch.records()
    assert decoder.pending_bytes == 0
    return records


@cache
def naive_pattern(declaration: Declaration) -> re.Pattern[str]:
    pieces = re.split(r"%([-0 .\d]*)(?:l|ll|z)?([a-zA-Z])", declaration.format)
    groups = {"s": "(.*)", "p": r"(0x[0-9a-f]+|\(nil\))", "d": r"(-?\d+)", "i": r"(-?\d+)"}
    text = re.escape(pieces[0])
    for letter, literal in zip(pieces[2::3], pieces[3::3], strict=True):
        text += groups.get(letter, "([0-9a-fA-F]+)" if letter in "xX" else r"(\d+)")
        text += re.escape(literal)
    return re.compile(text)


def naive_args(declaration: Declaration, text: str) -> dict[str, int | str]:
    """Read arguments with one regular expression a format, and int()."""
    match = naive_pattern(declaration).fullmatch(text)
    assert match, (declaration.name, text)
    letters = re.findall(r"%[-0 .\d]*(?:l|ll|z)?([a-zA-Z])", declaration.format)
    args: dict[str, int | str] = {}
    for argument, letter, value in zip(declaration.arguments, letters, match.groups(), strict=True):
        if argument.kind is Kind.STRING:
            args[argument.name] = value
        else:
            number = 0 if value == "(nil)" else int(value, 16 if letter in "pxX" else 10)
            number %= 1 << argument.bits
            signed = argument.signed and number >= 1 << (argument.bits - 1)
            args[argument.name] = number - (1 << argument.bits) if signed else number
    return args


def naive_prefix(line: str) -> tuple[int, int | None, str]:
    if match := re.match(r"(\d+)@(\d+)\.(\d{6}):", line):
        time_ns = int(match[2]) * 10**9 + int(match[3]) * 1000
        return time_ns, int(match[1]), line[match.end() :]
    if match := re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z ", line):
        moment = datetime.datetime.fromisoformat(match[0].strip())
        delta = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        return delta // datetime.timedelta(microseconds=1) * 1000, None, line[match.end() :]
    return NOW, None, line


@pytest.mark.parametrize(("version", "name"), CAPTURES)
def test_captures_decode_whole(version: str, name: str) -> None:
    data = capture(name)
    known = declarations(version).by_name
    records = decode(data, table=event_table(version))
    lines = data.decode().splitlines()
    assert len(records) == len(lines) == 4000
    for record, line in zip(records, lines, strict=True):
        time_ns, tid, rest = naive_prefix(line)
        word, _, text = rest.partition(" ")
        assert (record.time_ns, record.tid) == (time_ns, tid)
        if word in known:
            assert record.name == word
            assert record.raw is None
            assert record.args == naive_args(known[word], text)
        else:
            assert (record.name, record.line) == ("", line)
    events = sum(record.name != "" for record in records)
    assert events == (11 if "mixed" in name else 4000)


def test_mixed_output_keeps_its_text() -> None:
    records = decode(capture(CAPTURES[3][1]), table=event_table("7.2"))
    assert Counter(record.name for record in records if record.name) == {
        "virtio_set_status": 9,
        "virtio_queue_notify": 1,
        "virtio_blk_data_plane_start": 1,
    }
    assert any(record.line == "----------------" for record in records)


def test_records_one_by_one() -> None:
    data = b"12@1795383449.486844:one a=-1 s=x y\n2026-11-22T21:37:32Z none \n"
    unstamped = b"some text\none a=bad\nundeclared 1 2\ntwo first 1\nsecond 2\n"
    one, none, text, bad, undeclared, two = [*decode(data), *decode(unstamped)]
    assert (one.args, one.tid, one.time_ns) == ({"a": -1, "s": "x y"}, 12, 1795383449486844000)
    assert one.clock is Clock.REALTIME
    assert (none.args, none.raw, none.time_ns) == ({}, None, 1795383452000000000)
    assert (bad.args, bad.raw, bad.clock, bad.time_ns) == ({}, "a=bad", Clock.ARRIVAL, NOW)
    assert (undeclared.name, undeclared.raw) == ("undeclared", "1 2")
    assert (text.name, text.line, text.raw) == ("", "some text", None)
    assert two.args == {"a": 1, "b": 2}


def test_an_event_inside_a_two_line_record_is_not_swallowed() -> None:
    records = decode(b"two first 1\n3@1.000000:none\nmore\n")
    assert [(r.name, r.raw, r.line) for r in records] == [
        ("two", "first 1", None),
        ("none", None, None),
        ("", None, "more"),
    ]


@pytest.mark.parametrize("size", [0, 1, 1 << 16])
def test_long_lines_are_text_in_pieces(size: int) -> None:
    line = b"one a=1 s=" + b"z" * ((10 << 20) + size)
    records = decode(line + b"\nnone\n", list(range(0, len(line), 1 << 16)))
    assert [record.name for record in records] == [""] * (len(records) - 1) + ["none"]
    assert "".join(record.line or "" for record in records) == line.decode()
    assert max(len(record.line or "") for record in records) == 1 << 20


def feed(data: bytes) -> Batch:
    return only_batch(LogDecoder(TABLE, pid=77).end(data, Clocks(NOW)))


def test_batch_selects_and_decodes_per_event() -> None:
    batch = feed(
        b"one a=1 s=x\nnone\none a=2 s=y\nnone\none a=z s=x\none a=3 s=x\nnone\ntext\n"
        b"2026-11-22T21:37:32Z none\n"
    )
    columns = batch.arguments(TABLE.indices["one"])
    assert columns is batch.arguments(TABLE.indices["one"])
    assert columns.rows.tolist() == [0, 2, 4, 5]
    assert columns.ok.tolist() == [True, True, False, True]
    assert columns.values["a"].tolist() == [1, 2, 0, 3]
    assert columns.values["s"].tolist() == ["x", "y", "", "x"]
    assert len(batch.arguments(TABLE.indices["split"])) == 0
    assert [r.args for r in batch.records(np.array([5, 0]))] == [
        {"a": 3, "s": "x"},
        {"a": 1, "s": "x"},
    ]
    picked = batch.select(batch.event < 0)
    assert [record.line for record in picked.records()] == ["text"]
    assert list(picked.first(0).records()) == []


def test_schema() -> None:
    [event] = decode(b"5@1.000002:one a=1 s=\xff\x1b\n", pid=77)
    text, raw = decode(b"IN:\xfe\none x\n", pid=77)
    [_, cut] = decode(b"none\none a=1 s=cut\nrest\n")[:2]
    assert schema.record(cut)["cut"] is True
    assert json.dumps(schema.record(event)) == (
        '{"type": "event", "time_ns": 1000002000, "clock": "realtime", "pid": 77, "tid": 5, '
        '"backend": "log", "name": "one", "args": {"a": 1, "s": "\\udcff\\u001b"}}'
    )
    assert schema.record(text) == {"type": "text", "backend": "log", "line": "IN:\udcfe"}
    assert schema.record(raw) == {
        "type": "event",
        "time_ns": NOW,
        "clock": "arrival",
        "pid": 77,
        "tid": None,
        "backend": "log",
        "name": "one",
        "args": {},
        "raw": "x",
    }
    assert list(schema.to_object(Loss(Backend.SIMPLE, 26323, 5))) == [
        "type",
        "backend",
        "count",
        "time_ns",
    ]
    assert schema.to_object(Control("enable", ("virtio_*",), 61, 5)) == {
        "type": "control",
        "action": "enable",
        "patterns": ["virtio_*"],
        "changed": 61,
        "time_ns": 5,
    }
    assert schema.summary(Counts(3, 1, 2, unknown_losses=1)) == {
        "type": "summary",
        "read": 3,
        "shown": 1,
        "filtered": 2,
        "unread": 0,
        "lost": 0,
        "unknown_losses": 1,
    }
