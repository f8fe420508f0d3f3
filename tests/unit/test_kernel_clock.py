"""The kernel's times of a log's lines: each is that of the write that wrote the line, or absent."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.log.ledger import Ledger, Sample
from qtctl.backends.log.timed import with_times
from qtctl.backends.log.writes import Numbers, WriteDecoder, WritePairs
from qtctl.backends.ring.layout import Field, Layout
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Loss
from tests import ringpages as ring

DECLARED = parse_declarations('one(int a) "a=%d"\ntext(const char *s) "s=%s"\n').by_name
TABLE = EventTable.build(DECLARED, DECLARED)
LAYOUT = Layout(4096, 0, 8, 16)
ENTER, ENTERV, EXIT, EXITV = 840, 832, 839, 831
RESULT = Field(16, 8)
OFFSET_NS = 10**18
STEP_NS = 1000


def enter(tid: int, *, kind: int = ENTER) -> bytes:
    return struct.pack("=HBBiiiQQQ", kind, 0, 0, tid, 1, 0, 5, 0, 99)


def left(tid: int, result: int, *, kind: int = EXIT) -> bytes:
    return struct.pack("=HBBiiiq", kind, 0, 0, tid, 1, 0, result)


@dataclass
class World:
    """A guest that writes its log, others that do, and a qtctl that looks now and then.

    ``truth`` is the time of each line's first byte, by the line's offset in the file; None where no
    trace can know it.
    """

    now_ns: int = 1_000_000
    log: bytearray = field(default_factory=bytearray)
    truth: dict[int, tuple[int, int] | None] = field(default_factory=dict)
    decoder: WriteDecoder = field(
        default_factory=lambda: WriteDecoder(
            LAYOUT, Numbers((ENTER, ENTERV), (EXIT, EXITV), RESULT)
        )
    )
    ledger: Ledger = field(default_factory=lambda: Ledger(WritePairs(RESULT)))
    batches: list[tuple[Batch, int]] = field(default_factory=list)
    text: LogDecoder = field(default_factory=lambda: LogDecoder(TABLE))
    _rows: list[tuple[int, bytes]] = field(default_factory=list)
    _samples: list[Sample] = field(default_factory=list)
    _lost: bool = False
    _fed: int = 0

    def pass_time(self, steps: int = 1) -> None:
        self.now_ns += steps * STEP_NS

    def sample(self) -> None:
        self._samples.append(Sample(self.now_ns - 10, len(self.log), self.now_ns + 10))

    def write(
        self,
        data: bytes,
        tid: int,
        *,
        written: int | None = None,
        looks: str = "",
        vector: bool = False,
        traced: bool = True,
    ) -> None:
        """Write; ``written`` bytes of it, -28 for an error. ``looks``: when samples are taken."""
        size = len(data) if written is None else max(0, written)
        kind, kind_left = (ENTERV, EXITV) if vector else (ENTER, EXIT)
        self.pass_time()
        began_ns = self.now_ns
        if traced:
            self._rows.append((self.now_ns, enter(tid, kind=kind)))
        self.pass_time()
        if "b" in looks:
            self.sample()
            self.pass_time()
        start = len(self.log)
        self.log += data[:size]
        if size and (not start or self.log[start - 1 : start] == b"\n"):
            self.truth[start] = (began_ns, tid) if traced else None
        for at in range(start, len(self.log) - 1):
            if self.log[at] == ord("\n"):
                self.truth[at + 1] = (began_ns, tid) if traced else None
        self.pass_time()
        if "a" in looks:
            self.sample()
            self.pass_time()
        if traced:
            result = len(data) if written is None else written
            self._rows.append((self.now_ns, left(tid, result, kind=kind_left)))
        self.pass_time()

    def lose(self, count: int) -> None:
        """Lose what was traced and not read."""
        for place, known in self.truth.items():
            if known and self._rows and known[0] >= self._rows[0][0]:
                self.truth[place] = None
        self._rows.clear()
        self._lost = True

    def read(self, *, far: bool = True) -> None:
        """Read the log, then the trace."""
        self.pass_time()
        data = bytes(self.log[self._fed :])
        self._fed = len(self.log)
        for item in self.text.feed(data, Clocks(1)):
            assert isinstance(item, Batch)
            self.batches.append((item, self._fed - len(item.data)))
        self.ledger.sample(self._samples)
        self._samples = []
        pages, begin = b"", 0
        while begin < len(self._rows) or self._lost:
            some = self._rows[begin : begin + 60]
            begin += len(some)
            stamp = some[0][0] if some else self.now_ns
            entries, before = [], stamp
            for time_ns, data in some:
                entries.append(ring.entry(data, time_ns - before))
                before = time_ns
            pages += ring.page(
                *entries, stamp=stamp, lost=-1 if self._lost else None, layout=LAYOUT
            )
            self._lost = False
        self._rows = []
        if pages:
            items = self.decoder.feed(pages, Clocks(1))
            self.ledger.add(items, OFFSET_NS)
        self.ledger.prove(self.now_ns if far else self.now_ns - 3 * STEP_NS)

    def timed(self) -> dict[int, tuple[int, int] | None]:
        """Return what is told of each line: time and thread, or None."""
        found: dict[int, tuple[int, int] | None] = {}
        for batch, place in self.batches:
            made = with_times(batch, place, self.ledger)
            columns = (made.start, made.time_ns, made.tid, made.arrived)
            for start, time_ns, tid, late in zip(*(one.tolist() for one in columns), strict=True):
                found[place + start] = None if late else (time_ns - OFFSET_NS, tid)
        return found


LINES = st.sampled_from(
    [b"one a=5\n", b"one a=6\n", b"one a=12345\n", b"other text\n", b"text s=some words\n"]
)
THREADS = st.integers(30300, 30302)
LOOKS = st.sampled_from(["", "", "a", "b", "ab"])
ACTIONS = st.one_of(
    st.tuples(st.just("line"), LINES, THREADS, LOOKS),
    st.tuples(st.just("line"), LINES, THREADS, LOOKS),
    st.tuples(st.just("line"), LINES, THREADS, LOOKS),
    st.tuples(st.just("vector"), LINES, THREADS, LOOKS),
    st.tuples(st.just("parts"), LINES, THREADS, LOOKS),
    st.tuples(st.just("failed"), LINES, THREADS, LOOKS),
    st.tuples(st.just("partial"), LINES, THREADS, LOOKS),
    st.tuples(st.just("foreign"), LINES, THREADS, LOOKS),
    st.tuples(st.just("several"), LINES, THREADS, LOOKS),
    st.tuples(st.just("lose"), LINES, THREADS, LOOKS),
    st.tuples(st.just("sample"), LINES, THREADS, LOOKS),
    st.tuples(st.just("sample"), LINES, THREADS, LOOKS),
    st.tuples(st.just("read"), LINES, THREADS, LOOKS),
    st.tuples(st.just("read"), LINES, THREADS, LOOKS),
)


def act(world: World, what: str, line: bytes, tid: int, looks: str) -> None:
    match what:
        case "line":
            world.write(line, tid, looks=looks)
        case "vector":
            world.write(line, tid, looks=looks, vector=True)
        case "parts":
            world.write(line[:3], tid, looks=looks)
            world.write(line[3:], tid, looks=looks)
        case "failed":
            world.write(line, tid, written=-28, looks=looks)
        case "partial":
            world.write(line, tid, written=4, looks=looks)
            world.write(line[4:], tid, looks=looks)
        case "several":
            world.write(line + line, tid, looks=looks)
        case "foreign":
            world.write(line, tid, looks=looks, traced=False)
        case "lose":
            world.lose(1)
        case "sample":
            world.pass_time(2)
            world.sample()
            world.pass_time(2)
        case _:
            world.read(far=bool(looks))


@settings(max_examples=200)
@given(st.lists(ACTIONS, max_size=60))
def test_a_time_is_the_true_one_or_absent(actions: list[Any]) -> None:
    world = World()
    for one in actions:
        act(world, *one)
    for _ in range(3):
        act(world, "sample", b"", 0, "")
        world.read()
    for place, known in world.timed().items():
        assert known is None or known == world.truth[place], place


@settings(max_examples=60)
@given(st.lists(ACTIONS.filter(lambda one: one[0] not in ("foreign", "lose")), max_size=60))
def test_an_undisturbed_log_gets_all_times(actions: list[Any]) -> None:
    world = World()
    act(world, "sample", b"", 0, "")
    world.read()
    for one in actions:
        act(world, *one)
    for _ in range(2):
        act(world, "sample", b"", 0, "")
        world.read()
    records = world.timed()
    # The second of two lines of one write is not proven by its length.
    several = {line + line for what, line, *_ in actions if what == "several"}
    missing = {place for place, known in records.items() if known is None}
    assert not missing or several
    assert not world.ledger.breaks


@pytest.mark.parametrize("disturbance", ["foreign", "lose"])
def test_after_a_gap_times_come_again(disturbance: str) -> None:
    world = World()
    act(world, "sample", b"", 0, "")
    world.read()
    for round_ in range(3):
        for _ in range(20):
            act(world, "line", b"one a=5\n", 30300, "")
        if round_ == 1:
            if disturbance == "lose":
                act(world, "line", b"one a=5\n", 30300, "")
            act(world, disturbance, b"one a=5\n", 30300, "")
        act(world, "sample", b"", 0, "")
        world.read()
        act(world, "sample", b"", 0, "")
        world.read()
    told = list(world.timed().values())
    assert None not in told[:20]
    assert None not in told[-20:]
    assert None in told[20:-20]
    assert world.ledger.breaks == 1


def test_a_loss_and_a_break_forget_an_open_write() -> None:
    world = World()
    act(world, "sample", b"", 0, "")
    world.ledger.add([Loss(Backend.LOG, None, 5)], 0)
    assert world.ledger.breaks == 0
    assert world.ledger.proven == 0


def test_records_of_a_text_with_newlines_are_of_their_write() -> None:
    world = World()
    act(world, "sample", b"", 0, "")
    world.read()
    world.write(b"text s=a\none a=5\nc\n", 30300)
    world.write(b"one a=7\n", 30301)
    act(world, "sample", b"", 0, "")
    world.read()
    for item in world.text.flush(Clocks(1)):
        assert isinstance(item, Batch)
        world.batches.append((item, len(world.log) - len(item.data)))
    told = world.timed()
    assert told[0] == world.truth[0]
    assert told[len(b"text s=a\n")] is None  # a name in a text, or a record: nothing proves which
    assert told[len(b"text s=a\none a=5\nc\n")] is not None


def test_as_many_writes_are_kept_as_are_waited_for() -> None:
    world = World()
    act(world, "sample", b"", 0, "")
    world.read()
    for _ in range(50):
        world.write(b"one a=5\n", 30300)
    act(world, "sample", b"", 0, "")
    world.read()
    world.ledger.pass_by(8 * 40)
    assert len(world.ledger.writes.begin) == 10
    told = [known for place, known in world.timed().items() if place >= 8 * 40]
    assert told == [world.truth[place] for place in range(8 * 40, 8 * 50, 8)]
    assert np.diff(world.ledger.writes.begin).tolist() == [8] * 9
