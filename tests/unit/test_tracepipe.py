"""Saved text of ftrace: captured text, losses, threads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.ftrace.decoder import TraceDecoder
from qtctl.model import Clock, Declaration
from qtctl.records.batch import Batch, EventTable
from qtctl.records.items import Items, Loss
from tests.samples import CASES, FORMS, capture, declarations, running

CAPTURE = "qemu-7.2-ftrace-trace_pipe-with-kvm.txt"
TWO_LINES = Declaration("two_lines", (), "one\ntwo")
OFFSET = 1_700_000_000_000_000_000


@cache
def table() -> EventTable:
    known = declarations("7.2").by_name
    return EventTable.build([*known, "two_lines"], {**known, "two_lines": TWO_LINES})


@pytest.fixture(params=FORMS, autouse=True)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    with running(request.param):
        yield


def rows(items: Items) -> list[object]:
    out: list[object] = []
    for item in items:
        if isinstance(item, Loss):
            out.append(("lost", item.count))
        else:
            for record in item.records():
                clock, args = record.clock, tuple(record.args.items())
                text = record.raw if record.raw is not None else record.line
                time = record.time_ns if clock is not Clock.ARRIVAL else 0
                out.append((record.name, args, time, record.tid, clock, text))
    return out


def decode(data: bytes, cuts: list[int] | None = None) -> list[object]:
    reader = TraceDecoder(table())
    edges = [0, *sorted(cut for cut in cuts or [] if cut < len(data)), len(data)]
    found: list[object] = []
    for one, two in pairwise(edges):
        found += rows(reader.feed(data[one:two], Clocks(5, OFFSET)))
    found += rows(reader.flush(Clocks(5, OFFSET)))
    assert reader.pending_bytes == 0
    return found


def line(text: str, tid: int = 30300, tgid: str = "", comm: str = "qemu-system-x86") -> bytes:
    return comm.encode().rjust(16) + f"-{tid:<7} {tgid}[000] ...1.  3183.115907: {text}\n".encode()


def mark(text: str, **more: object) -> bytes:
    return line(f"tracing_mark_write: {text}", **more)  # type: ignore[arg-type]


def names(found: list[object]) -> list[object]:
    return [item[0] for item in found if isinstance(item, tuple)]


def test_a_captured_trace_gives_every_mark_and_loss() -> None:
    found = decode(capture(CAPTURE))
    told = names(found)
    assert told.count("lost") == 30
    assert sum(item[1] for item in found if isinstance(item, tuple) and item[0] == "lost") == 67088
    assert len([n for n in told if n not in ("lost", "")]) == 230
    texts = [str(item[5]) for item in found if isinstance(item, tuple) and item[0] == ""]
    assert sum(": kvm_pio:" in text for text in texts) == 19
    assert found[told.index("virtio_blk_handle_read")] == (
        "virtio_blk_handle_read",
        (("vdev", 0x55FEB8CB7E80), ("req", 0x55FEB80B28C0), ("sector", 0), ("nsectors", 1)),
        OFFSET + 3183_115950_000,
        30300,
        Clock.MONOTONIC,
        None,
    )


def test_the_loss_stands_at_its_place() -> None:
    data = mark("virtio_blk_req_complete vdev 0x1 req 0x2 status 0")
    found = decode(data + b"CPU:1 [LOST 673 EVENTS]\n" + data + b"CPU:0 [LOST EVENTS]\n")
    assert names(found) == ["virtio_blk_req_complete", "lost", "virtio_blk_req_complete", "lost"]
    assert found[1::2] == [("lost", 673), ("lost", None)]


@pytest.mark.parametrize("comm", ["<...>", "CPU 0/TCG", "a-7 (99) [000]", "-1-2-3", "wörker", ""])
def test_a_thread_may_be_called_anything(comm: str) -> None:
    [found] = decode(mark("virtio_notify vdev 0x1 vq 0x2", comm=comm))
    assert isinstance(found, tuple)
    assert (found[0], found[3]) == ("virtio_notify", 30300)


def test_what_is_no_event_stays_text() -> None:
    data = mark("hello there") + b"and more\n\n" + line("softirq_raise: vec=1")
    found = decode(data)
    assert names(found) == [""] * 4
    assert [item[5] for item in found[1:3] if isinstance(item, tuple)] == ["and more", ""]
    assert {item[3] for item in found if isinstance(item, tuple)} == {30300}


def test_an_event_of_two_lines_is_one_record() -> None:
    data = (
        mark("two_lines one\ntwo") + mark("two_lines one") + mark("virtio_notify vdev 0x1 vq 0x2")
    )
    found = decode(data)
    assert names(found) == ["two_lines", "two_lines", "virtio_notify"]
    assert isinstance(found[1], tuple) and found[1][5] == "one"


def test_a_clock_that_counts_gives_the_arrival() -> None:
    counted = mark("virtio_notify vdev 0x1 vq 0x2").replace(b"3183.115907", b"123456")
    [found] = decode(counted)
    assert isinstance(found, tuple) and found[4] is Clock.ARRIVAL


def test_a_record_cut_anywhere_is_never_another_record() -> None:
    data = mark("virtio_blk_req_complete vdev 0x1 req 0x2 status 0")
    for end in range(len(data) - 1):
        for found in decode(data[:end]):
            assert isinstance(found, tuple)
            assert found[0] in ("", "virtio_blk_req_complete")
            assert found[0] == "" or found[1] == () or end >= len(data) - 2


def test_a_loss_that_is_cut_off_is_a_line_of_text() -> None:
    for text in (b"CPU:1 [LOST ", b"CPU:1 [LOST 7", b"CPU:1 [LOST 7 EVENTS"):
        [found] = decode(text)
        assert isinstance(found, tuple)
        assert (found[0], found[-1]) == ("", text.decode())


def test_a_mark_that_qemu_may_have_cut_is_raw() -> None:
    data = (CASES / "backends" / "ftrace-cut.txt").read_bytes()
    reader = TraceDecoder(table())
    items = reader.feed(data, Clocks(5)) + reader.flush(Clocks(5))
    records = [record for item in items if isinstance(item, Batch) for record in item.records()]
    lines = data.decode().splitlines()
    assert len(records) == len(lines)
    for record, text in zip(records, lines, strict=True):
        size = len(text.partition("tracing_mark_write: ")[2])
        assert (record.raw is None) == (size < 511)
        assert record.raw is None or not record.args
