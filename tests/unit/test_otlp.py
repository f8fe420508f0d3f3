"""OTLP: the bytes of records and spans are those of OpenTelemetry's own classes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from qtctl.analysis.latency import Latency, Question
from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.errors import UsageError
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend, Clock, Mark
from qtctl.records.batch import Batch, EventTable
from qtctl.records.columns import readable
from qtctl.records.items import Loss
from qtctl.records.origins import Origin
from qtctl.records.schema import to_object
from qtctl.writers.otlp.fields import MessageBlock, written
from qtctl.writers.otlp.records import log_records, note_record, spans
from qtctl.writers.otlp.sender import Endpoint
from tests.otlp import attributes, plain
from tests.samples import forms, only_batch, running

DECLARED = parse_declarations(
    'io_read(void *req, int size, uint64_t wide, const char *s) "%p %d %" PRIu64 " <%s>"\n'
    'io_done(void *req, const char *s) "%p %s"\n'
    'bare(void) ""\n'
    f'long_{"n" * 200}(int {"a" * 120}) "%d"\n'
).by_name
TABLE = EventTable.build([*DECLARED, "undeclared"], DECLARED)
LONG = next(name for name in DECLARED if name.startswith("long_"))
NOW = 1_700_000_000_123_456_789

texts = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=40)
wide = st.sampled_from([0, 127, 128, (1 << 63) - 1, 1 << 63, 10**19 - 1, 10**19, (1 << 64) - 1])
lines = st.one_of(
    st.builds(
        "io_read {:#x} {} {} <{}>".format,
        st.integers(0, (1 << 64) - 1),
        st.integers(-(1 << 31), (1 << 31) - 1),
        wide | st.integers(0, (1 << 64) - 1),
        texts | st.just("(null)"),
    ),
    st.builds("io_done {:#x} {}".format, st.integers(1, 99), texts),
    st.builds(f"{LONG} {{}}".format, st.integers(-1, 1)),
    st.sampled_from(["bare", "io_read of another form", "undeclared 1", "no event", "no \udcff"]),
)


def batch_of(found: list[str]) -> Batch:
    text = "".join(f"{line}\n" for line in found).encode("utf-8", "surrogateescape")
    return only_batch(LogDecoder(TABLE).end(text, Clocks(5)))


def value(one: int | str | None) -> AnyValue:
    if one is None:
        return AnyValue()
    if isinstance(one, str):
        return AnyValue(string_value=readable(one))
    if one is True:
        return AnyValue(bool_value=True)
    return AnyValue(int_value=one) if one < 1 << 63 else AnyValue(string_value=str(one))


def pairs(found: dict[str, Any]) -> list[KeyValue]:
    made = [KeyValue(key=key) if one is None else KeyValue(key=key, value=value(one))
            for key, one in found.items()]  # fmt: skip
    return made


def expected(batch: Batch) -> list[LogRecord]:
    """Return the log records of a batch, made one by one."""
    found = []
    for record in batch.records():
        late, boot = record.clock is Clock.ARRIVAL, record.clock is Clock.MONOTONIC
        known: dict[str, Any] = {} if record.tid is None else {"thread.id": record.tid}
        if record.origin.thread:
            known["thread.name"] = record.origin.thread
        if boot:
            known["qtctl.since_boot_ns"] = record.time_ns
        known |= record.args
        if record.raw is not None:
            known["qtctl.raw"] = record.raw
        if record.cut:
            known["qtctl.cut"] = True
        body = record.line if record.line is not None else record.name
        found.append(
            LogRecord(
                time_unix_nano=0 if late or boot else record.time_ns,
                observed_time_unix_nano=record.time_ns if late else NOW,
                body=AnyValue(string_value=readable(body)),
                attributes=pairs(known),
                event_name=record.name,
            )
        )
    return found


def encoded(blocks: list[MessageBlock], most: int = 1 << 20) -> bytes:
    return b"".join(data.tobytes() for data, _ in written(blocks, 2, most))


@pytest.mark.parametrize("form", forms())
@settings(max_examples=30)
@given(
    found=st.lists(st.tuples(st.sampled_from(["", "7@1700000000.000001:"]), lines), min_size=1),
    clock=st.sampled_from([Clock.REALTIME, Clock.MONOTONIC]),
    thread=st.sampled_from([None, "CPU 0/KVM", "\udcff"]),
)
def test_records_are_the_bytes_of_opentelemetry(
    form: str, found: list[tuple[str, str]], clock: Clock, thread: str | None
) -> None:
    with running(form):
        batch = replace(batch_of([head + line for head, line in found]), clock=clock)
        batch = replace(batch, origins=[one._replace(thread=thread) for one in batch.origins])
        wanted = expected(batch)
        made = encoded(log_records(batch, NOW))
    assert ScopeLogs.FromString(made).log_records == wanted
    assert made == ScopeLogs(log_records=wanted).SerializeToString()


def test_parts_hold_all_records_in_order() -> None:
    batch = batch_of([f"io_done {n:#x} {'x' * (n % 50)}" for n in range(1000)] + ["bare"] * 5)
    parts = written(log_records(batch, NOW), 2, 4000)
    assert len(parts) > 10
    assert all(len(data) <= 4000 for data, _ in parts)
    found = [one for data, _ in parts for one in ScopeLogs.FromString(data.tobytes()).log_records]
    assert found == expected(batch)
    assert sum(count for _, count in parts) == len(batch)
    assert [count for _, count in written(log_records(batch, NOW), 2, 1)] == [1] * len(batch)
    assert written([], 2, 10) == []


def test_records_that_are_cut() -> None:
    batch = batch_of(["io_done 0x1 x", "io_done 0x2 y"])
    batch = replace(batch, cut=np.array([True, False]))
    first, second = ScopeLogs.FromString(encoded(log_records(batch, NOW))).log_records
    assert attributes(first.attributes) == {"qtctl.raw": "0x1 x", "qtctl.cut": True}
    assert attributes(second.attributes) == {"req": 2, "s": "y"}


def test_notes() -> None:
    loss = to_object(Loss(Backend.LOG, 5, 9))
    [record] = ScopeLogs.FromString(note_record(loss, NOW)).log_records
    assert (record.event_name, record.time_unix_nano, record.severity_number) == (
        "qtctl.loss",
        9,
        13,
    )
    assert attributes(record.attributes) == {"qtctl.backend": "log", "qtctl.count": 5}
    assert json.loads(record.body.string_value) == loss
    unknown = to_object(Loss(Backend.LOG, None, 9))
    [record] = ScopeLogs.FromString(note_record(unknown, NOW)).log_records
    assert json.loads(record.body.string_value)["count"] is None
    [record] = ScopeLogs.FromString(note_record(to_object(Mark("\udcff", 9)), NOW)).log_records
    assert plain(record.attributes[0].value) == "\\xff"


@pytest.mark.parametrize("form", forms())
def test_spans_of_pairs(form: str) -> None:
    with running(form):
        question = Question.ask("io_read", "io_done", TABLE.names, DECLARED, "here", key=["req"])
        made: list[MessageBlock] = []
        latency = Latency(
            question,
            on_spans=lambda found: made.extend(spans("io_read", found, np.random.default_rng(1))),
        )
        heads = [f"7@1700000000.{n:06}:" for n in range(6)]
        events = ["io_read 0x1 8 0 <a>", "bare", "io_done 0x1 fine", "io_read 0x2 8 0 <b>",
                  "io_done 0x2 bad", "io_read 0x3 8 0 <c>"]  # fmt: skip
        batch = batch_of([head + event for head, event in zip(heads, events, strict=True)])
        latency.take(batch)
        latency.settle()
        found = ScopeSpans.FromString(encoded(made)).spans
    assert [(one.end_time_unix_nano - one.start_time_unix_nano) for one in found] == [2000, 1000]
    assert [attributes(one.attributes) for one in found] == [
        {"qtctl.end": "io_done", "thread.id": 7, "req": 1, "s": "fine"},
        {"qtctl.end": "io_done", "thread.id": 7, "req": 2, "s": "bad"},
    ]
    assert {(one.name, one.kind) for one in found} == {("io_read", Span.SPAN_KIND_INTERNAL)}
    ids = {one.trace_id for one in found} | {one.span_id for one in found}
    assert sorted(map(len, ids)) == [8, 8, 16, 16]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
        ("http:/127.0.0.1:4318", "http://127.0.0.1:4318"),
        ("collector:4318", "http://collector:4318"),
        ("collector", "http://collector:4318"),
        ("https://c.example/otlp/v1/logs", "https://c.example:4318/otlp"),
        ("https://[::1]:1/", "https://[::1]:1"),
        ("ftp://x", None),
        ("http://user@x", None),
        ("http://x:port", None),
        ("", None),
        ("http://", None),
    ],
)
def test_endpoints(text: str, read: str | None) -> None:
    if read is None:
        with pytest.raises(UsageError, match="no endpoint"):
            Endpoint.parse(text)
    else:
        assert str(Endpoint.parse(text)) == read
        assert Endpoint.parse(read) == Endpoint.parse(text)


def test_an_origin_is_a_resource() -> None:
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    from qtctl.writers.otlp.writer import GuestFacts, resource

    guest = GuestFacts("vm1", 4711, {"service.version": "7.2"})
    for origin, name, pid in ((Origin(), "vm1", 4711), (Origin(7, "vm2", "h1", 3), "vm2", 7)):
        field = resource(origin, guest)
        assert field[0] == 0x0A
        size = 2 if field[1] < 128 else 3
        found = attributes(Resource.FromString(field[size:]).attributes)
        assert (found["vm.name"], found["process.pid"]) == (name, pid)
        assert (found["service.name"], found["service.version"]) == ("qemu", "7.2")
        assert found.get("qtctl.run") == origin.run
        assert found["host.name"]
