"""Pages of the kernel's trace buffer: layout, records, times, losses, order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.dtrace.decoder import ProbeDecoder
from qtctl.backends.ring.kernel import BAD, LOST
from qtctl.backends.ring.layout import Layout, parse_format, parse_layout
from qtctl.backends.ring.ordering import Ordering
from qtctl.backends.ring.pages import Pages
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss
from tests import ringpages as ring
from tests.samples import FORMS, running

HEADER_PAGE = """\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;
"""
HEADER_EVENT = """# compressed entry header
\ttype_len    :    5 bits
\ttime_delta  :   27 bits
\tarray       :   32 bits

\tpadding     : type == 29
\ttime_extend : type == 30
\ttime_stamp : type == 31
\tdata max type_len  == 28
"""
FORMAT = """name: a64t1
ID: 2326
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:unsigned long __probe_ip;\toffset:8;\tsize:8;\tsigned:0;
\tfield:u64 a0;\toffset:16;\tsize:8;\tsigned:0;
\tfield:__data_loc char[] s0;\toffset:24;\tsize:4;\tsigned:1;

print fmt: "(%lx) a0=%Lu s0=\\"%s\\"", REC->__probe_ip, REC->a0, __get_str(s0)
"""
DECLARED = parse_declarations('one(int a, const char *s) "a=%d s=%s"\nnone(void) \n').by_name
TABLE = EventTable.build(DECLARED, DECLARED)
ONE, NONE = range(2)


@pytest.fixture(params=FORMS)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    with running(request.param):
        yield


def test_the_layout_is_what_the_kernel_says() -> None:
    one = parse_format(FORMAT)
    assert one.number == 2326
    assert one.fields["a0"] == (16, 8, "u64", False)
    assert one.fields["s0"] == (24, 4, "__data_loc char[]", True)
    assert one.printed.endswith("__get_str(s0)")
    assert parse_layout(HEADER_PAGE, HEADER_EVENT, one) == Layout(4096, 0, 8, 16, 0, 4)
    moved = parse_format(FORMAT.replace("common_pid;\toffset:4", "common_pid;\toffset:2"))
    assert parse_layout(HEADER_PAGE, HEADER_EVENT, moved).thread_at == 2


@pytest.mark.parametrize(
    ("page", "head", "form"),
    [
        ("", HEADER_EVENT, FORMAT),
        (HEADER_PAGE.replace("size:8", "size:4"), HEADER_EVENT, FORMAT),
        (HEADER_PAGE.replace("offset:16", "offset:12"), HEADER_EVENT, FORMAT),
        (HEADER_PAGE, "", FORMAT),
        (HEADER_PAGE, HEADER_EVENT.replace("27 bits", "26 bits"), FORMAT),
        (HEADER_PAGE, HEADER_EVENT.replace("== 30", "== 29"), FORMAT),
        (HEADER_PAGE, HEADER_EVENT, FORMAT.replace("ID: ", "ID ")),
        (HEADER_PAGE, HEADER_EVENT, FORMAT.replace("common_pid", "pid")),
        (HEADER_PAGE, HEADER_EVENT, FORMAT.replace("size:2", "size:4")),
        (HEADER_PAGE, HEADER_EVENT, FORMAT.replace("offset:4;", "offset:12;")),
    ],
)
def test_another_layout_is_refused(page: str, head: str, form: str) -> None:
    with pytest.raises(ValueError, match=r"header_|common|an event"):
        parse_layout(page, head, parse_format(form))


def rows_of(data: bytes, cuts: list[int] | None = None) -> list[tuple[str, int, bytes]]:
    """Return what is read in the form of ``ringpages.read``."""
    pages = Pages(ring.LAYOUT)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    found: list[tuple[str, int, bytes]] = []
    for low, high in [*pairwise(edges), (0, 0)]:
        rows = pages.split(data[low:high], final=(low, high) == (0, 0))
        columns = (rows.kind, rows.time_ns, rows.start, rows.stop)
        for kind, time_ns, start, stop in zip(*(c.tolist() for c in columns), strict=True):
            if kind == LOST:
                count = b"" if start < 0 else int(start).to_bytes(8, "little")
                found.append(("lost", time_ns, count))
            elif kind == BAD:
                found.append(("bad", 0, b""))
            else:
                found.append(("record", time_ns, rows.data[start:stop]))
    assert pages.pending_bytes == 0
    return found


@pytest.mark.usefixtures("kernels")
def test_records_have_their_times() -> None:
    big = bytes(range(8)) * 20
    data = ring.page(
        ring.entry(bytes(8), 0),
        ring.entry(bytes(12), 5),
        ring.extend(1 << 30),
        ring.entry(bytes(8), 2),
        ring.discarded(12, 3),
        ring.entry(bytes(8), 1),
        stamp=100,
    )
    data += ring.page(ring.entry(big, 1), ring.absolute(5000), ring.entry(bytes(8), 1), stamp=200)
    late = 100 + 5 + (1 << 30) + 2
    times = [time_ns for _, time_ns, _ in rows_of(data)]
    assert times == [100, 105, late, late + 4, 201, 5001]
    assert rows_of(data)[4] == ("record", 201, big)


@pytest.mark.usefixtures("kernels")
def test_losses_stand_before_their_page() -> None:
    one = ring.entry(bytes(8))
    data = ring.page(one, lost=7) + ring.page(one) + ring.page(one, lost=-1) + ring.page()
    found = [(what, content) for what, _, content in rows_of(data)]
    record = ("record", bytes(8))
    assert found == [("lost", (7).to_bytes(8, "little")), record, record, ("lost", b""), record]


@given(st.binary(max_size=700), st.lists(st.integers(0, 1000), max_size=5))
def test_any_bytes_are_read_as_a_plain_reader_does(data: bytes, cuts: list[int]) -> None:
    _compare(data, cuts)


ENTRIES = st.one_of(
    st.builds(ring.entry, st.binary(min_size=8, max_size=40), st.integers(0, (1 << 27) - 1)),
    st.builds(ring.extend, st.integers(0, 1 << 40)),
    st.builds(ring.absolute, st.integers(0, 1 << 58)),
    st.builds(ring.discarded, st.sampled_from([4, 8, 12]), st.integers(1, 100)),
)
PAGES = st.builds(
    lambda entries, stamp, lost: ring.page(*entries, stamp=stamp, lost=lost),
    st.lists(ENTRIES, max_size=4),
    st.integers(0, (1 << 61) - 1),
    st.none() | st.integers(-1, 1 << 40).filter(bool),
)


@given(
    st.lists(PAGES, max_size=5),
    st.lists(st.integers(0, 2000), max_size=5),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    st.integers(0, 300),
)
def test_pages_are_read_as_a_plain_reader_does(
    pages: list[bytes], cuts: list[int], spoiled: list[tuple[int, int]], short: int
) -> None:
    data = bytearray(b"".join(pages))
    for at, byte in spoiled:
        if data:
            data[at % len(data)] = byte
    _compare(bytes(data[: max(0, len(data) - short)]), cuts)


def _compare(data: bytes, cuts: list[int]) -> None:
    wanted = []
    for what, time_ns, content in ring.read(data):
        if what == "lost" and not 0 < int.from_bytes(content, "little") < 1 << 63:
            content = b""
        wanted.append((what, time_ns, content))
    assert rows_of(data, cuts) == wanted
    with running("interpreted"):
        assert rows_of(data, cuts) == wanted


def decoder() -> ProbeDecoder:
    return ProbeDecoder(TABLE, ring.LAYOUT, ring.sites(2), pid=9)


@pytest.mark.usefixtures("kernels")
def test_arguments_are_as_declared() -> None:
    every = bytes(range(1, 100))
    data = ring.page(
        ring.entry(ring.probe(ONE, 0xFFFFFFFF_FFFFFFFE, texts=(every,))),
        ring.entry(ring.probe(NONE)),
    )
    data += ring.page(
        ring.entry(ring.probe(ONE, 0x1_0000_0005, texts=(None,))),
        ring.entry(ring.probe(ONE, 6, texts=(b"",))),
    )
    (batch,) = decoder().feed(data, Clocks(77, 1000))
    assert isinstance(batch, Batch)
    args = [record.args for record in batch.records()]
    # What a register has above the declared bits does not count.
    assert args == [{"a": -2, "s": every.decode()}, {}, {"a": 5, "s": None}, {"a": 6, "s": ""}]
    assert [record.time_ns for record in batch.records()] == [1011, 1012, 1011, 1012]
    assert {(record.tid, record.pid) for record in batch.records()} == {(30300, 9)}


@pytest.mark.usefixtures("kernels")
def test_a_text_that_was_not_fetched_is_marked() -> None:
    unfetched = ring.probe(ONE, 1, texts=(None,))
    at = len(unfetched) - 12
    unfetched = unfetched[:at] + (77).to_bytes(8, "little") + unfetched[at + 8 :]
    outside = ring.probe(ONE, 1, texts=(b"abc",))[:-8]
    unended = ring.probe(ONE, 1, texts=(b"abc",))[:-1] + b"d"
    good = ring.probe(ONE, 1, texts=(b"abc",))
    (batch,) = decoder().feed(
        ring.page(*map(ring.entry, (unfetched, outside, unended, good))), Clocks(77)
    )
    assert isinstance(batch, Batch)
    assert [(r.cut, r.args) for r in batch.records()] == [
        (True, {}), (False, {}), (False, {}), (False, {"a": 1, "s": "abc"})
    ]  # fmt: skip
    assert all(record.raw for record in list(batch.records())[:3])


def test_records_of_no_probe_are_counted() -> None:
    other = bytearray(ring.probe(NONE))
    other[8] ^= 1  # another address
    mixed = bytearray(ring.probe(NONE))
    mixed[0] ^= 1  # another kernel event than is at this address
    four = (ring.probe(NONE), ring.probe(7), bytes(other), bytes(mixed), ring.probe(NONE))
    items = decoder().feed(ring.page(*map(ring.entry, four)), Clocks(77))
    shape = [len(item) if isinstance(item, Batch) else -(item.count or 0) for item in items]
    assert shape == [1, -1, -1, -1, 1]


def flat(items: Items) -> list[int]:
    """Return times, those of losses negative."""
    out: list[int] = []
    for item in items:
        out += [-item.time_ns] if isinstance(item, Loss) else item.time_ns.tolist()
    return out


def batch_at(*times: int) -> Batch:
    one = ring.entry(ring.probe(NONE), 0)
    (batch,) = decoder().feed(b"".join(ring.page(one, stamp=at) for at in times), Clocks(0))
    assert isinstance(batch, Batch)
    return batch


def test_what_may_be_overtaken_is_held() -> None:
    ordering = Ordering()
    assert not ordering
    ordering.add([batch_at(10, 30, 50), Loss(Backend.DTRACE, 3, 50), batch_at(55)])
    ordering.add([batch_at(20, 40, 60)])
    assert flat(ordering.take(45)) == [10, 20, 30, 40]
    assert ordering
    ordering.add([batch_at(70)])
    assert flat(ordering.take(45)) == []
    assert flat(ordering.take(60)) == [-50, 50, 55]
    assert flat(ordering.take()) == [60, 70]
    assert ordering.take() == []
    assert not ordering


@given(
    st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=8).map(sorted), max_size=4),
    st.lists(st.integers(0, 1000), max_size=4),
    st.lists(st.integers(0, 1000), max_size=3).map(sorted),
)
def test_order_is_that_of_times(cpus: list[list[int]], losses: list[int], until: list[int]) -> None:
    ordering = Ordering()
    for times in cpus:
        ordering.add([batch_at(*times)])
    ordering.add([Loss(Backend.DTRACE, 1, time_ns) for time_ns in losses])
    items: Items = []
    for before in [*until, None]:
        items += ordering.take(before)
    found = flat(items)
    assert sorted(map(abs, found)) == sorted([*chain(*cpus), *losses])
    assert [abs(time_ns) for time_ns in found] == sorted(map(abs, found))
    assert all(len(item) for item in items if isinstance(item, Batch))
