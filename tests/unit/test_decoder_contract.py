"""What every decoder promises, checked on all of them: see ``backends.base.Decoder``.

A decoder of a new backend gets a row in ``ROWS``, and all of this holds for it.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from sys import byteorder
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.backends.base import Clocks, Decoder
from qtctl.backends.dtrace.decoder import ProbeDecoder
from qtctl.backends.ftrace.beside import KernelDecoder
from qtctl.backends.ftrace.decoder import TraceDecoder
from qtctl.backends.ftrace.events import FieldPlace, KernelEvent
from qtctl.backends.ftrace.marks import MarkDecoder
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.log.text import TextDecoder
from qtctl.backends.log.writes import Numbers, WriteDecoder
from qtctl.backends.ring.layout import Field
from qtctl.backends.simple.decoder import SimpleDecoder, read_names
from qtctl.backends.syslog.decoder import SyslogDecoder
from qtctl.backends.ust.decoder import HEAD_LIMIT, CtfDecoder
from qtctl.backends.ust.metadata import metadata_text
from qtctl.events.declarations import parse_declarations
from qtctl.model import Declaration, Kind
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss
from tests import ctffiles as ctf
from tests import ringpages as ring
from tests.samples import capture, declarations, event_table, running
from tests.simplefiles import dropped, event, header, mapping

CLOCKS = Clocks(1_795_400_000_000_000_000, 1000)
LIMIT = 100
"""Bytes of the longest line, for decoders that can be told."""
DECLARED = parse_declarations(
    'one(int a, const char *s) "a=%d s=%s"\n'
    "none(void) \n"
    'two(int a, int b) "first %d\\nsecond %d"\n'
    'pair(const char *a, int8_t n, const char *b) "%s %d %s"\n'
).by_name
TABLE = EventTable.build([*DECLARED, "undeclared", "kvm:kvm_pio"], DECLARED)
ONE, NONE, TWO, PAIR, UNDECLARED, KVM = range(6)

Make = Callable[[EventTable], Decoder]
Accounted = Callable[[Decoder, bytes, Items], bool]


def row_lines(items: Items) -> int:
    """Count the lines that are in rows, and each loss as one."""
    lines = 0
    for item in items:
        if isinstance(item, Loss):
            lines += 1
        else:
            spans = zip(item.start.tolist(), item.stop.tolist(), strict=True)
            lines += sum(1 + item.data.count(b"\n", start, stop) for start, stop in spans)
    return lines


def lines_of(data: bytes) -> list[bytes]:
    """Split at newlines only; what stands behind the last one is a line if it is something."""
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def every_byte(decoder: Decoder, data: bytes, items: Items) -> bool:
    kept = b"".join(
        item.data[start:stop]
        for item in items
        if isinstance(item, Batch)
        for start, stop in zip(item.start.tolist(), item.stop.tolist(), strict=True)
    )
    return kept.replace(b"\n", b"") == data.replace(b"\n", b"")


def every_line_but(dropped: Callable[[bytes], bool]) -> Accounted:
    """Expect each line in a row or a loss, but those that hold no record of the guest."""

    def accounted(decoder: Decoder, data: bytes, items: Items) -> bool:
        owed = sum(not dropped(line) for line in lines_of(data))
        return owed <= row_lines(items)

    return accounted


def every_simple_byte(decoder: Decoder, data: bytes, items: Items) -> bool:
    assert isinstance(decoder, SimpleDecoder)
    losses = [item for item in items if isinstance(item, Loss)]
    rows = [item for item in items if isinstance(item, Batch)]
    taken = sum(int((batch.stop - batch.start).sum()) for batch in rows)
    if decoder.unread:
        return bool(losses) and taken + decoder.unread <= len(data)
    return taken <= len(data)


def simple_pieces() -> tuple[bytes, ...]:
    begin = header() + b"".join(mapping(n, name) for n, name in enumerate(TABLE.names))
    return (
        begin,
        event(ONE, 10, -5, b"hi"),
        event(NONE, 20),
        event(PAIR, 30, b"", 7, "é".encode()),
        event(UNDECLARED, 40, 7),
        event(NONE, 60, pid=5),
        event(99, 50, 7),
        event(ONE, 70),
        dropped(12, 75),
        dropped(2**64 - 1, 75),
        mapping(7, "more"),
    )


def mark(text: str, tid: int = 30300, tgid: str = "") -> bytes:
    head = f"qemu-system-x86-{tid:<7} {tgid}[000] ...1.  3183.115907: "
    return f"{head}tracing_mark_write: {text}\n".encode()


HOST = b"2026-11-22T21:37:32.295065+00:00 host "
MINE = HOST + b"qemu-system-x86_64[30513]: "
PREFIX = b"2026-11-22T21:37:32.000123Z host qemu[7]: "
UST_TEXT = struct.pack("<i", -5) + b"hi\0"
UST_PIECES = (
    ctf.packet(ctf.record(ONE, 5, UST_TEXT), ctf.record(NONE, 6), size=200),
    ctf.packet(ctf.record(PAIR, 7, b"a\0\x07b\0"), sequence=1, discarded=5),
    ctf.packet(ctf.record(UNDECLARED, 7, bytes(8)), sequence=3),
    ctf.packet(ctf.record(TWO, 9, bytes(8)), sequence=4, discarded=5),
    ctf.packet(ctf.record(99, 9), ctf.record(NONE, 9)),
    ctf.packet(),
    ctf.packet(ctf.record(ONE, 9, UST_TEXT))[:-3],
    b"\0" * 40,
)

LOG_PIECES = (
    b"one a=5 s=text\n",
    b"one a=5 s=\xff\x00\x1b[31m\n",
    b"one a=x s=bad\n",
    b"12@1795383449.486844:one a=-1 s=\n",
    b"2026-11-22T21:37:32.295065Z one a=1 s=z\n",
    b"2026-13-22T21:37:32.295065Z none\n",
    b"99999999999@1.000000:none\n",
    b"two first 1\nsecond 2\n",
    b"two first 1\n",
    b"7@1.000001:two first 3\nsecond -4\n",
    b"undeclared 1 2 3\n",
    b"onex a=1\n",
    b"IN: \n",
    b"\r\n",
    b"one a=1 s=" + b"long " * 20 + b"\n",
    b"none\n",
)


@dataclass(frozen=True)
class Row:
    """A decoder: how it is made for a table, what it reads, and how its input is accounted for.

    ``sample`` is short and of whole records; ``captured`` is (table, bytes) from a real QEMU.
    ``bound`` is the most it keeps of an endless line.
    """

    make: Make
    pieces: tuple[bytes, ...]
    sample: bytes
    captured: Callable[[], tuple[EventTable, bytes]]
    accounted: Accounted
    bound: int


def captured(name: str, version: str = "7.2") -> Callable[[], tuple[EventTable, bytes]]:
    return lambda: (event_table(version), capture(name))


@cache
def captured_simple() -> tuple[EventTable, bytes]:
    data = capture("qemu-10.2-simple-v4.bin")
    return EventTable.build(read_names(data), declarations("10.2").by_name), data


def captured_ftrace() -> tuple[EventTable, bytes]:
    return event_table("7.2"), capture("qemu-7.2-ftrace-trace_pipe-with-kvm.txt")


def captured_prefixed() -> tuple[EventTable, bytes]:
    lines = capture("qemu-7.2-log-timestamp.txt").splitlines(keepends=True)
    return event_table("7.2"), b"".join(PREFIX + line for line in lines)


@cache
def captured_ust() -> tuple[EventTable, bytes]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "qemu-7.2-ust-ctf/ust/uid/0/64-bit"
        ctf.unpack("qemu-7.2-ust-ctf.tar.gz", Path(name))
        UST_METADATA.append(metadata_text((folder / "metadata").read_bytes()).decode())
        return event_table("7.2"), (folder / "channel0_1").read_bytes()


UST_METADATA: list[str] = []


def packets(table: EventTable) -> CtfDecoder:
    """Return a decoder of a table's events as ``ctffiles`` or the captured trace has them."""
    if table.names == event_table("7.2").names:
        captured_ust()
        return CtfDecoder(ctf.layout(table, UST_METADATA[0]))
    return CtfDecoder(ctf.layout(table), pid=9)


def every_packet(decoder: Decoder, data: bytes, items: Items) -> bool:
    """Expect a loss for what could not be read."""
    assert isinstance(decoder, CtfDecoder)
    return decoder.first_bad is None or any(isinstance(one, Loss) for one in items)


def probes(table: EventTable) -> ProbeDecoder:
    return ProbeDecoder(table, ring.LAYOUT, ring.sites(len(table)), pid=9)


def every_ring_record(decoder: Decoder, data: bytes, items: Items) -> bool:
    """Expect each record, loss and unreadable rest of a page."""
    return sum(len(i) if isinstance(i, Batch) else 1 for i in items) == len([*ring.read(data)])


def every_mark(decoder: Decoder, data: bytes, items: Items) -> bool:
    """Expect each mark, loss and unreadable rest of a page; other events are of other programs."""
    number = struct.pack("=H", ring.MARK.number)
    expected = [one for one in ring.read(data) if one[0] != "record" or one[2][:2] == number]
    return sum(len(i) if isinstance(i, Batch) else 1 for i in items) == len(expected)


@cache
def made_pages() -> tuple[EventTable, bytes]:
    """Return pages of the captured log's events, with all arguments made up."""
    table, pages, event = event_table("7.2"), [], 0
    for number in range(200):
        entries: list[bytes] = []
        for _ in range(3):
            event = (event + 7) % 64
            declaration = table.declaration(event)
            kinds = [one.kind for one in declaration.arguments] if declaration else []
            texts = tuple(b"text" for kind in kinds if kind is Kind.STRING)
            numbers = range(number, number + len(kinds) - len(texts))
            one = ring.entry(ring.probe(event, *numbers, texts=texts), number)
            if len(b"".join(entries)) + len(one) < 200:
                entries.append(one)
        pages.append(ring.page(*entries, stamp=1000 * number, lost=None if number % 5 else number))
    return table, b"".join(pages)


def kernel_events(table: EventTable) -> dict[str, KernelEvent]:
    """Return events of the kernel whose records have the form of ``ringpages.probe``."""
    events = {}
    for number, name in enumerate(table.names):
        declaration = table.declarations.get(name, Declaration(name, (), ""))
        texts = sum(one.kind is Kind.STRING for one in declaration.arguments)
        at, text_at, places = 16, 16 + 8 * len(declaration.arguments), []
        for one in declaration.arguments:
            if one.kind is Kind.STRING:
                places.append(FieldPlace(text_at, 4, "data"))
                text_at += 4
            else:
                places.append(FieldPlace(at, 8, "number"))
                at += 8
        assert at + 8 * texts == 16 + 8 * len(declaration.arguments)
        events[name] = KernelEvent(ring.KIND + number, declaration, tuple(places))
    return events


def every_known_event(decoder: Decoder, data: bytes, items: Items) -> bool:
    """Expect each record of an event that is known, each loss, and each unreadable rest."""
    assert isinstance(decoder, KernelDecoder)
    numbers = decoder._numbers
    expected = [
        what != "record" or bool(numbers[int.from_bytes(content[:2], byteorder)] >= 0)
        for what, _, content in ring.read(data)
    ]
    return sum(len(i) if isinstance(i, Batch) else 1 for i in items) == sum(expected)


@cache
def marked_pages() -> tuple[EventTable, bytes]:
    """Return pages of the marks of a captured trace."""
    pages, entries = [], list[bytes]()
    lines = capture("qemu-7.2-ftrace-trace_pipe-with-kvm.txt").splitlines(keepends=True)
    for number, line in enumerate(lines):
        _, found, text = line.partition(b"tracing_mark_write: ")
        one = ring.entry(ring.mark(text), number) if found else b""
        if len(b"".join([*entries, one])) > 200:
            pages.append(ring.page(*entries, stamp=1000 * number))
            entries = []
        entries.append(one)
    return event_table("7.2"), b"".join([*pages, ring.page(*entries, stamp=10**9)])


MARKED_PIECES = (
    ring.page(ring.entry(ring.mark(b"one a=5 s=text\n")), ring.entry(ring.mark(b"none"))),
    ring.page(ring.entry(ring.mark(b"two first 1\nsecond 2\n")), stamp=1 << 40),
    ring.page(ring.entry(ring.mark(b"one a=1 s=\0\xff\n")), lost=12),
    ring.page(ring.entry(ring.mark(b"")), ring.extend(1 << 30), lost=-1),
    ring.page(ring.discarded(12), ring.absolute(77), ring.entry(ring.mark(b"onex a=1\n"))),
    ring.page(),
    b"\0" * 40,
)

RING_PIECES = (
    ring.page(ring.entry(ring.probe(ONE, -5, texts=(b"hi",))), ring.entry(ring.probe(NONE))),
    ring.page(ring.entry(ring.probe(PAIR, 7, texts=(b"", None))), stamp=1 << 40),
    ring.page(ring.entry(ring.probe(UNDECLARED, 7)), lost=12),
    ring.page(ring.entry(ring.probe(NONE)), ring.extend(1 << 30), lost=-1),
    ring.page(ring.discarded(12), ring.absolute(77), ring.entry(ring.probe(TWO, 1, 2))),
    ring.page(ring.entry(ring.probe(99))),
    ring.page(),
    b"\0" * 40,
)


ROWS = {
    "log": Row(
        lambda table: LogDecoder(table, line_limit=LIMIT),
        LOG_PIECES,
        b"".join(LOG_PIECES),
        captured("qemu-7.2-log-plain-mixed-with-d-output.txt"),
        every_byte,
        2 * LIMIT,
    ),
    "prefixed log": Row(
        TextDecoder,
        tuple(PREFIX + line for line in LOG_PIECES),
        b"".join(PREFIX + line for line in LOG_PIECES if b"two" not in line),
        captured_prefixed,
        every_line_but(lambda line: False),
        1 << 20,
    ),
    "simple": Row(
        SimpleDecoder,
        simple_pieces(),
        b"".join(simple_pieces()),
        captured_simple,
        every_simple_byte,
        1 << 15,
    ),
    "text of ftrace": Row(
        lambda table: TraceDecoder(table, line_limit=LIMIT),
        (
            mark("one a=5 s=text"),
            mark("one a=5 s=x", tgid="(  30300) "),
            mark("none", tid=7),
            mark("two first 1\nsecond 2"),
            mark("two first 1"),
            mark("hello").replace(b"tracing_mark_write", b"kvm_pio"),
            mark("x").replace(b"tracing_mark_write", b"kvm_other"),
            b"CPU:1 [LOST 673 EVENTS]\n",
            b"CPU:1 [LOST EVENTS]\n",
            b"loose\n",
            b"\n",
        ),
        mark("one a=5 s=text") + b"CPU:1 [LOST 3 EVENTS]\n" + mark("two first 1\nsecond 2"),
        captured_ftrace,
        every_line_but(lambda line: False),
        3 * (LIMIT + 1),
    ),
    "syslog": Row(
        lambda table: SyslogDecoder(table, pid=30513, unit="guest.scope", line_limit=LIMIT),
        (
            MINE + b"one a=5 s=text\n",
            MINE + b"message repeated 3 times: [ none]\n",
            MINE + b"hello\n",
            HOST + b"other[1]: none\n",
            HOST + b"rsyslogd: imuxsock[pid: 30513, q]: 8 messages lost due to rate-limiting\n",
            HOST + b"systemd-journald[9]: Suppressed 12 messages from guest.scope\n",
            b"Nov 22 21:39:36 qemu[30513]: none\n",
            b"<30>Nov  2 21:39:36 qemu[30513]: one a=1 s=\n",
            b"   continued\n",
            b"\n",
        ),
        MINE + b"one a=5 s=text\n" + HOST + b"other[1]: none\n" + MINE + b"none\n",
        captured("qemu-7.2-syslog-datagrams.txt"),
        # What other programs say is not shown, and a line without a head is of the one before.
        every_line_but(lambda line: not line.startswith(MINE)),
        LIMIT,
    ),
    "ust": Row(
        packets,
        UST_PIECES,
        b"".join(UST_PIECES[:4]),
        captured_ust,
        every_packet,
        HEAD_LIMIT,
    ),
    "ftrace": Row(
        lambda table: MarkDecoder(table, ring.LAYOUT, ring.MARK, pid=9),
        MARKED_PIECES,
        b"".join(MARKED_PIECES[:4]),
        marked_pages,
        every_mark,
        ring.LAYOUT.page_bytes,
    ),
    "kernel": Row(
        lambda table: KernelDecoder(table, ring.LAYOUT, kernel_events(table), 9),
        RING_PIECES,
        b"".join(RING_PIECES[:4]),
        made_pages,
        every_known_event,
        ring.LAYOUT.page_bytes,
    ),
    "dtrace": Row(
        probes,
        RING_PIECES,
        b"".join(RING_PIECES[:4]),
        made_pages,
        every_ring_record,
        ring.LAYOUT.page_bytes,
    ),
    "writes of a log": Row(
        lambda _: WriteDecoder(
            ring.LAYOUT, Numbers((ring.KIND,), (ring.KIND + PAIR, ring.KIND + TWO), Field(16, 8))
        ),
        RING_PIECES,
        b"".join(RING_PIECES[:4]),
        made_pages,
        every_ring_record,
        ring.LAYOUT.page_bytes,
    ),
}
EVERY = pytest.mark.parametrize("name", ROWS)


def shown(items: Iterable[Batch | Loss]) -> list[Any]:
    """Return records and losses as values that do not depend on batches."""
    out: list[Any] = []
    for item in items:
        if isinstance(item, Loss):
            out.append((item.count, item.time_ns))
            continue
        assert len(item)
        for one in item.records():
            args = tuple(one.args.items())
            place = one.time_ns, one.clock, one.tid, one.pid
            out.append((one.name, args, *place, one.raw, one.line))
    return out


def fed(decoder: Decoder, data: bytes, cuts: Iterable[int] = ()) -> Items:
    items: Items = []
    for low, high in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        items += decoder.feed(data[low:high], CLOCKS)
    return items


def decoded(
    row: Row, data: bytes, cuts: Iterable[int] = (), table: EventTable = TABLE
) -> list[Any]:
    decoder = row.make(table)
    items = fed(decoder, data, cuts) + decoder.flush(CLOCKS)
    assert decoder.pending_bytes == 0
    return shown(items)


def texts(row: Row) -> st.SearchStrategy[bytes]:
    """Give pieces that are good, others that are not, and ends that are missing."""
    pieces = st.lists(st.sampled_from(row.pieces) | st.binary(max_size=40), max_size=12)
    whole = pieces.map(b"".join)
    begin = row.pieces[0] if row.make is SimpleDecoder else b""
    return st.builds(lambda data, cut: begin + data[: len(data) - cut], whole, st.integers(0, 30))


@EVERY
def test_a_sample_cut_at_every_byte(name: str) -> None:
    row = ROWS[name]
    whole = decoded(row, row.sample)
    assert any(entry[0] for entry in whole)
    assert decoded(row, row.sample, range(len(row.sample))) == whole
    for cut in range(len(row.sample)):
        assert decoded(row, row.sample, [cut]) == whole


@EVERY
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_capture_cut_anywhere(name: str, data: st.DataObject) -> None:
    row = ROWS[name]
    table, text = row.captured()
    text = text[:400_000]
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    assert decoded(row, text, cuts, table) == decoded(row, text, (), table)


@EVERY
@settings(max_examples=120, deadline=None)
@given(st.data())
def test_chunks_do_not_matter(name: str, data: st.DataObject) -> None:
    row = ROWS[name]
    text = data.draw(texts(row))
    whole = decoded(row, text)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    assert decoded(row, text, cuts) == whole
    assert decoded(row, text, range(len(text))) == whole


@EVERY
@settings(max_examples=120, deadline=None)
@given(st.data())
def test_nothing_is_lost_uncounted(name: str, data: st.DataObject) -> None:
    row = ROWS[name]
    text = data.draw(texts(row))
    decoder = row.make(TABLE)
    items = fed(decoder, text, data.draw(st.lists(st.integers(0, 500), max_size=4)))
    items += decoder.flush(CLOCKS)
    for item in items:
        if isinstance(item, Loss):
            assert item.count is None or item.count > 0
        else:
            assert (item.begin >= item.start).all()
            assert (item.stop >= item.begin).all()
            assert item.stop.max() <= len(item.data)
            assert (item.time_ns >= 0).all()
    assert row.accounted(decoder, text, items)


@EVERY
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_hostile_bytes_never_raise(name: str, data: st.DataObject) -> None:
    row = ROWS[name]
    text = bytearray(row.sample * 3)
    for _ in range(data.draw(st.integers(1, 30))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    decoded(row, bytes(text))
    decoded(row, data.draw(st.binary(max_size=400)))


@EVERY
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_compiled_and_interpreted_agree(name: str, data: st.DataObject) -> None:
    row = ROWS[name]
    text = data.draw(texts(row))
    compiled = decoded(row, text)
    with running("interpreted"):
        table = EventTable.build(TABLE.names, DECLARED)
        assert decoded(row, text, table=table) == compiled


def test_a_record_of_two_lines_behind_a_head_ends_with_the_text() -> None:
    """Such records are moved behind the text: their offsets are of the longer one."""
    row = ROWS["prefixed log"]
    head = b"0000-00-00T00:00:00.000000Z host qemu[0]: "
    text = head + b"one a=0 s=text\n\0" + head + b"two first 0\nsecond "
    with running("interpreted"):
        table = EventTable.build(TABLE.names, DECLARED)
        assert decoded(row, text, table=table) == decoded(row, text)


@EVERY
def test_compiled_and_interpreted_agree_on_a_capture(name: str) -> None:
    row = ROWS[name]
    table, text = row.captured()
    text = text[:40_000] if row.make is not SimpleDecoder else text[:200_000]
    compiled = decoded(row, text, table=table)
    with running("interpreted"):
        again = EventTable.build(table.names, table.declarations)
        assert decoded(row, text, table=again) == compiled


@EVERY
def test_a_flushed_decoder_starts_anew(name: str) -> None:
    row = ROWS[name]
    whole = decoded(row, row.sample)
    for cut in range(len(row.sample)):
        decoder = row.make(TABLE)
        decoder.feed(row.sample[:cut], CLOCKS)
        decoder.flush(CLOCKS)
        assert decoder.pending_bytes == 0
        again = shown(fed(decoder, row.sample) + decoder.flush(CLOCKS))
        assert again == whole, cut
        assert decoder.flush(CLOCKS) == []


@EVERY
def test_what_is_kept_is_bounded(name: str) -> None:
    row = ROWS[name]
    decoder = row.make(TABLE)
    chunk, items = b"x" * 65_521, Items()
    for _ in range(40):
        items += decoder.feed(chunk, CLOCKS)
        assert decoder.pending_bytes <= row.bound + len(chunk)
    items += decoder.flush(CLOCKS)
    assert row.accounted(decoder, chunk * 40, items)
    assert all(item.arrived.all() for item in items if isinstance(item, Batch))
