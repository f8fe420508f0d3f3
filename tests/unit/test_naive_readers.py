"""Every kernel, compiled and not, against a reader as naive as can be: captures and made-up input.

The readers here are regular expressions, ``struct`` and so on, a record at a time. That of log
text is in ``test_log_decoder.py``; for pairs see ``test_pairs.py``, for lines ``test_lines.py``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.dtrace.decoder import ProbeDecoder
from qtctl.backends.ftrace.decoder import TraceDecoder
from qtctl.backends.ring.layout import Layout
from qtctl.backends.simple.decoder import SimpleDecoder
from qtctl.backends.syslog.decoder import SyslogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.model import Declaration, Kind
from qtctl.records.batch import Batch, EventTable
from tests import ringpages as ring
from tests.rendering import render
from tests.samples import FORMS, capture, declarations, event_table, running
from tests.simplefiles import event, header, mapping, plainly
from tests.unit.test_log_decoder import naive_args

Row = tuple[str, int, int | None, dict[str, int | str | None]]
"""Name, time in ns, thread and arguments."""
DECLARED = parse_declarations(
    'many(void *p, int8_t few, uint64_t big, const char *s, int64_t wide) "%p %d %lu %s %ld"\n'
    'none(void) ""\n'
).by_name
TABLE = EventTable.build(None, DECLARED)
PID = 4711
LAYOUT = Layout(4096, 0, 8, 16)


@pytest.fixture(params=FORMS, autouse=True)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    with running(request.param):
        yield


def rows(items: Iterable[Any]) -> list[Row]:
    """Return what a decoder found, without losses and lines of text."""
    records = [one for item in items if isinstance(item, Batch) for one in item.records()]
    assert all(one.raw is None for one in records)
    return [(one.name, one.time_ns, one.tid, one.args) for one in records if one.name]


def bits(value: int, declared_bits: int, signed: bool) -> int:
    value %= 1 << declared_bits
    return value - (1 << declared_bits) if signed and value >> (declared_bits - 1) else value


def simple_args(declaration: Declaration, data: bytes) -> dict[str, int | str | None]:
    args: dict[str, int | str | None] = {}
    at = 0
    for one in declaration.arguments:
        if one.kind is Kind.STRING:
            (size,) = struct.unpack_from("=I", data, at)
            args[one.name] = data[at + 4 : at + 4 + size].decode("utf-8", "surrogateescape")
            at += 4 + size
        else:
            (value,) = struct.unpack_from("=Q", data, at)
            args[one.name] = bits(value, one.bits, one.signed)
            at += 8
    assert at == len(data)
    return args


def simple_naively(data: bytes, known: dict[str, Declaration]) -> list[Row]:
    found = (row for row in plainly(data) if row[0] != "dropped")
    return [(name, time, None, simple_args(known[name], rest)) for name, time, _, rest in found]


@pytest.mark.parametrize("version", ["7.2", "10.2"])
def test_simple_captures(version: str) -> None:
    data = capture(f"qemu-{version}-simple-v4.bin")
    found = rows(SimpleDecoder(event_table(version)).feed(data, Clocks(0)))
    assert found == simple_naively(data, dict(declarations(version).by_name))


VALUES = st.tuples(
    st.integers(0, (1 << 64) - 1),
    st.integers(-128, 127),
    st.integers(0, (1 << 64) - 1),
    st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=5),
    st.integers(-(1 << 63), (1 << 63) - 1),
)
RUNS = st.lists(st.none() | VALUES, max_size=8)
"""Records of ``many`` with these values, or of ``none``."""


def given_rows(run: list[Any], step_ns: int = 1, tid: int | None = None) -> list[Row]:
    names = [one.name for one in DECLARED["many"].arguments]
    return [
        ("none", step_ns * (number + 1), tid, {})
        if values is None
        else ("many", step_ns * (number + 1), tid, dict(zip(names, values, strict=True)))
        for number, values in enumerate(run)
    ]


@given(run=RUNS)
def test_simple_records(run: list[Any]) -> None:
    data = header() + mapping(0, "many") + mapping(1, "none")
    for number, values in enumerate(run, 1):
        if values is None:
            data += event(1, number)
        else:
            data += event(0, number, *(v.encode() if isinstance(v, str) else v for v in values))
    found = rows(SimpleDecoder(TABLE).feed(data, Clocks(0)))
    assert found == simple_naively(data, dict(DECLARED)) == given_rows(run)


def trace_naively(data: bytes, known: dict[str, Declaration]) -> list[Row]:
    pattern = rb"^.{16}-(\d+) .* (\d+)\.(\d{6}): tracing_mark_write: (\w+)(?: (.*))?$"
    found: list[Row] = []
    for tid, second, micro, name, text in re.findall(pattern, data, re.M):
        args: dict[str, int | str | None] = {**naive_args(known[name.decode()], text.decode())}
        found.append((name.decode(), int(second) * 10**9 + int(micro) * 1000, int(tid), args))
    return found


def test_a_trace_pipe_capture() -> None:
    data = capture("qemu-7.2-ftrace-trace_pipe-with-kvm.txt")
    decoder = TraceDecoder(event_table("7.2"))
    found = rows(decoder.feed(data, Clocks(0)))
    assert found == trace_naively(data, dict(declarations("7.2").by_name))
    assert len(found) == 230


@given(run=RUNS)
def test_trace_pipe_lines(run: list[Any]) -> None:
    expected = given_rows(run, step_ns=1_000_000, tid=77)
    data = ""
    for name, time_ns, _, args in expected:
        stamp = f"{time_ns // 10**9}.{time_ns // 1000 % 10**6:06d}"
        words = f"{name} {render(DECLARED[name], args)}"
        data += f" qemu-system-x86-77      [001] ...1.  {stamp}: tracing_mark_write: {words}\n"
    decoder = TraceDecoder(TABLE)
    items = decoder.feed(data.encode(), Clocks(0))
    assert rows([*items, *decoder.flush(Clocks(0))]) == expected


def test_a_syslog_capture() -> None:
    data = capture("qemu-7.2-syslog-datagrams.txt")
    known = declarations("7.2").by_name
    decoder = SyslogDecoder(event_table("7.2"), pid=30513, unit="")
    found = [(name, args) for name, _, _, args in rows(decoder.end(data, Clocks(0)))]
    pattern = rb"^<30>.{15} qemu-system-x86_64\[30513\]: (\w+)(?: (.*))?$"
    lines = re.findall(pattern, data, re.M)
    assert len(lines) == data.count(b"\n")
    assert found == [(n.decode(), naive_args(known[n.decode()], t.decode())) for n, t in lines]


@given(run=RUNS)
def test_pages_of_probes(run: list[Any]) -> None:
    data, expected = b"", []
    for name, time_ns, _, args in given_rows(run):
        texts = [v.encode("utf-8", "surrogateescape") for v in args.values() if isinstance(v, str)]
        numbers = [v for v in args.values() if isinstance(v, int)]
        one = ring.probe(TABLE.names.index(name), *numbers, texts=tuple(texts), tid=77)
        data += ring.page(ring.entry(one, 0), stamp=time_ns, layout=LAYOUT)
        expected.append((name, time_ns, 77, args))
    decoder = ProbeDecoder(TABLE, LAYOUT, ring.sites(len(TABLE)), pid=PID)
    assert rows(decoder.feed(data, Clocks(0))) == expected
