"""Packets of Perfetto are what a plain encoder makes; a trace of them says what records do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as perfetto

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.records.batch import Batch, EventTable
from qtctl.records.columns import Record
from qtctl.writers.perfetto.packets import EventPackets, Lanes
from qtctl.writers.perfetto.protobuf import message, number, text
from qtctl.writers.perfetto.tracks import RATE_NS, PerfettoTrace, SlicePair
from tests.perfettofile import Perfetto, annotated
from tests.samples import batches, forms, running

UINT64 = st.integers(0, 2**64 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)


# Packets


class Row:
    """An event, as a plain encoder writes it."""

    def __init__(self, time_ns: int, track: int, *fields: bytes) -> None:
        event = message(11, number(11, track), *fields)
        self.packet = message(1, number(10, 1), number(8, max(0, time_ns)), number(13, 2), event)


@given(data=st.data(), rows=st.integers(0, 12))
def test_packets_are_those_of_a_plain_encoder(data: st.DataObject, rows: int) -> None:
    times = data.draw(st.lists(INT64, min_size=rows, max_size=rows))
    tracks = data.draw(st.lists(st.integers(1, 2**63 - 1), min_size=rows, max_size=rows))
    kind_of = data.draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))
    fields: list[list[bytes]] = [[] for _ in range(rows)]
    events = EventPackets(rows)
    for kind in range(3):
        places = [row for row in range(rows) if kind_of[row] == kind]
        events.begin(np.array(places, np.int64))
        for piece in data.draw(st.lists(st.sampled_from(["literal", "choice", "u", "i"]))):
            if piece == "literal":
                literal = text(3, data.draw(st.text(max_size=200)))
                events.literal(literal)
                made = [literal] * len(places)
            elif piece == "choice":
                texts = data.draw(st.lists(st.binary(max_size=300), min_size=1, max_size=3))
                codes = [data.draw(st.integers(0, len(texts) - 1)) for _ in places]
                events.choice(np.array(codes, np.int32), texts)
                made = [texts[code] for code in codes]
            else:
                values = [data.draw(UINT64 if piece == "u" else INT64) for _ in places]
                name = number(1, data.draw(st.integers(1, 2**32)))
                signed, dtype = (3, np.uint64) if piece == "u" else (4, np.int64)
                events.numbers(np.array(values, dtype), name + b"\x18", name + bytes([8 * signed]))
                made = [
                    message(4, name, number(signed if one >= 2**63 or one < 0 else 3, one))
                    for one in values
                ]
            for place, one in zip(places, made, strict=True):
                fields[place].append(one)
    wanted = b"".join(
        Row(*row[:2], *row[2]).packet for row in zip(times, tracks, fields, strict=True)
    )
    for form in forms():
        with running(form):
            written = events.encode(np.array(times, np.int64), np.array(tracks, np.int64))
        assert written == wanted


SPANS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(0, 20)))


@given(parts=st.lists(SPANS, max_size=3))
def test_slices_of_a_lane_do_not_overlap(parts: list[list[tuple[int, int, int]]]) -> None:
    for form in forms():
        busy: dict[tuple[int, int], list[tuple[int, int]]] = {}
        with running(form):
            lanes = Lanes()
            for part in parts:
                group, start, size = np.array(part, np.int64).reshape(-1, 3).T.copy()
                found = lanes.assign(group, start, start + size)
                for one, lane, begin, long in zip(
                    *(column.tolist() for column in (group, found, start, size)), strict=True
                ):
                    # The first that is free from then on.
                    ends = [
                        max((end for _, end in busy.get((one, n), [])), default=0)
                        for n in range(lane + 1)
                    ]
                    assert [end <= begin for end in ends] == [False] * lane + [True]
                    busy.setdefault((one, lane), []).append((begin, begin + long))


# Traces

TABLE_OF = parse_declarations(
    'full(void *dev, int8_t few, uint64_t many, int64_t shown, const char *s) "%p %d %lu %lx %s"\n'
    'none(void) ""\n'
    'begin(void *dev, uint32_t tag) "dev %p tag %u"\n'
    'end(void *dev, uint32_t tag, int ret) "dev %p tag %u ret %d"\n'
).by_name
TABLE = EventTable.build([*TABLE_OF, "unknown"], TABLE_OF)
HEX = {("full", "dev"), ("full", "shown"), ("begin", "dev"), ("end", "dev")}
PAIR = SlicePair("begin", "end", ("dev", "tag"))
TEXTS = st.binary(max_size=6).filter(lambda one: b"\n" not in one)


@st.composite
def log_lines(draw: st.DrawFn) -> bytes:
    """Lines of all kinds, with a time and a thread, or without."""
    kind = draw(st.sampled_from(["full", "none", "begin", "end", "begin", "end", "raw", "text"]))
    seconds = st.integers(0, 9)
    stamp = draw(
        st.just(b"")
        | st.builds(b"%d@%d.%06d:".__mod__, st.tuples(st.integers(1, 3), seconds, seconds))
    )
    if kind in ("begin", "end"):
        line = b"%s dev 0x%x tag %d" % (kind.encode(), *draw(st.tuples(seconds, st.integers(0, 2))))
        return (
            stamp
            + line
            + (b" ret %d" % draw(INT64.map(lambda n: n >> 32)) if kind == "end" else b"")
        )
    said = draw(TEXTS)
    if kind == "full":
        numbers = draw(st.tuples(UINT64, st.integers(-128, 127), UINT64, UINT64))
        return stamp + b"full 0x%x %d %d %x %s" % (*numbers, said)
    return {"none": stamp + b"none", "raw": stamp + b"full " + said, "text": said}[kind]


LEFT_OUT = "pairs left out"
CONTENT = st.lists(st.tuples(st.sampled_from([None, 7, 8]), st.lists(log_lines())), max_size=3)


def decoded(content: list[tuple[int | None, list[bytes]]]) -> Iterator[Batch]:
    for pid, lines in content:
        decoder = LogDecoder(TABLE, pid=pid)
        text = b"".join(line + b"\n" for line in lines)
        yield from batches(decoder.feed(text, Clocks(RATE_NS * 50 + 1)))


def place_of(one: Record) -> tuple[int | None, str]:
    """Return guest and track of a record, in words."""
    if one.tid is not None:
        return one.pid, f"thread {one.tid}"
    device = one.args.get("dev", 0)
    if device:
        return one.pid, f"device {device:#x}"
    return one.pid, "events" if one.line is None else "log"


def apart(records: list[Record]) -> Iterator[int]:
    """Yield the times of records, 1 ns more than the one before where that was as late."""
    before: dict[Any, tuple[int, int]] = {}
    for one in records:
        last, shown = before.get(place_of(one), (one.time_ns + 1, 0))
        time_ns = shown + 1 if last <= one.time_ns <= shown else one.time_ns
        before[place_of(one)] = one.time_ns, time_ns
        yield time_ns


def shown_at(trace: Perfetto, uuid: int) -> tuple[int | None, str]:
    track = trace.tracks[uuid]
    name = f"thread {track.thread.tid}" if track.HasField("thread") else track.name
    parent = trace.tracks[track.parent_uuid]
    pid = parent.process.pid if parent.HasField("process") else None
    assert not track.HasField("thread") or track.thread.pid == pid
    return pid, name


def details(one: Record) -> dict[str, tuple[str, Any]]:
    """Return the annotations of a record, each with its field."""
    found: dict[str, tuple[str, Any]] = {}
    args: dict[str, Any] = dict(one.args)
    args |= {key: value for key in ("line", "raw") if (value := getattr(one, key)) is not None}
    for key, value in args.items():
        if isinstance(value, str):
            found[key] = "string_value", annotated(value)
        elif value < 0:
            found[key] = "int_value", value
        else:
            found[key] = "pointer_value" if (one.name, key) in HEX else "uint_value", value
    return found


def told(trace: Perfetto, event: Any) -> dict[str, tuple[str, Any]]:
    kinds = [annotation.WhichOneof("value") for annotation in event.debug_annotations]
    return {
        key: (kind, value)
        for kind, (key, value) in zip(kinds, trace.args(event).items(), strict=True)
    }


def pairs(records: list[Record]) -> Counter[Any]:
    """Count the pairs: begin and end, the guest and device of the end, its arguments."""
    found: Counter[Any] = Counter()
    open_: dict[Any, int] = {}
    for one in records:
        key = one.pid, one.args.get("dev"), one.args.get("tag")
        if one.raw is None and one.name == "begin":
            open_[key] = one.time_ns
        elif one.raw is None and one.name == "end" and key in open_:
            begun, device = open_.pop(key), one.args["dev"]
            place = one.pid, f"device {device:#x}" if device else ""
            ended = max(begun, one.time_ns)
            found[begun, ended, place, str(details(one))] += 1
    return found


def slices(trace: Perfetto) -> Counter[Any]:
    """Count the slices as :func:`pairs` does; they may not overlap on a track."""
    found: Counter[Any] = Counter()
    open_: dict[int, int] = {}
    for time_ns, uuid, event, name in sorted(trace.events, key=lambda one: one[0]):
        if event.type == perfetto.TrackEvent.TYPE_SLICE_BEGIN:
            assert uuid not in open_
            assert name == "begin"
            open_[uuid] = time_ns
        elif event.type == perfetto.TrackEvent.TYPE_SLICE_END:
            lane = trace.tracks[uuid]
            assert lane.name == "begin to end"
            parent = trace.tracks[lane.parent_uuid]
            if parent.parent_uuid:
                place = shown_at(trace, lane.parent_uuid)
            else:
                place = parent.process.pid if parent.HasField("process") else None, ""
            found[open_.pop(uuid), time_ns, place, str(told(trace, event))] += 1
    assert not open_
    return found


@given(content=CONTENT)
def test_a_trace_says_what_the_records_do(
    content: list[tuple[int | None, list[bytes]]],
) -> None:
    records = [one for batch in decoded(content) for one in batch.records()]
    made = []
    for form in forms():
        with running(form):
            writer = PerfettoTrace(TABLE, [PAIR])
            made.append(b"".join(map(writer.encode, decoded(content))) + writer.finish())
    assert made[0] == made[-1]
    trace = Perfetto(made[0])
    assert [
        (time_ns, shown_at(trace, uuid), name, told(trace, event))
        for time_ns, uuid, event, name in trace.of("INSTANT")
        if name != LEFT_OUT
    ] == [
        (time_ns, place_of(one), one.name or "line", details(one))
        for one, time_ns in zip(records, apart(records), strict=True)
    ]
    found, every = slices(trace), pairs(records)
    assert found <= every
    left_out = sum(trace.args(one)["count"] for *_, one, name in trace.events if name == LEFT_OUT)
    assert (every - found).total() == left_out
    if [one.time_ns for one in records] == sorted(one.time_ns for one in records):
        assert left_out == 0 or len({one.clock for one in records}) > 1

    rates: dict[tuple[int | None, str, int], int] = {}
    for time_ns, uuid, event, _ in trace.of("COUNTER"):
        pid, name = shown_at(trace, uuid)
        span = pid, name.removesuffix(" rate"), time_ns // RATE_NS
        assert span not in rates
        assert time_ns % RATE_NS == 0
        rates[span] = event.counter_value
    spans = Counter(
        (one.pid, one.name, one.time_ns // RATE_NS) for one in records if one.line is None
    )
    wanted = {(pid, name, span + 1): 0 for pid, name, span in spans}
    wanted |= {key: count * 10 for key, count in spans.items()}
    assert rates == wanted
