"""Kernel events: declarations and arguments from their formats, and the merge with a guest's."""

from __future__ import annotations

import struct
from typing import Any, cast

import numpy as np
import pytest

from qtctl.backends.base import Feed
from qtctl.backends.ftrace.arguments import KernelArguments, reader
from qtctl.backends.ftrace.beside import BesideFeed
from qtctl.backends.ftrace.events import kernel_event, split
from qtctl.backends.ring.feed import RingFeed
from qtctl.backends.ring.layout import parse_format
from qtctl.events.selection import Selection
from qtctl.model import Backend, Clock, Kind
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss
from qtctl.records.origins import Origin
from qtctl.records.printf import hex_arguments

FORMAT = """name: mixed
ID: 372
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char comm[8];\toffset:8;\tsize:8;\tsigned:0;
\tfield:pid_t pid;\toffset:16;\tsize:4;\tsigned:1;
\tfield:unsigned int fd;\toffset:24;\tsize:8;\tsigned:0;
\tfield:const char * buf;\toffset:32;\tsize:8;\tsigned:0;
\tfield:unsigned short args[2];\toffset:40;\tsize:4;\tsigned:0;
\tfield:__data_loc char[] name;\toffset:44;\tsize:4;\tsigned:0;
\tfield:__rel_loc char[] more;\toffset:48;\tsize:4;\tsigned:0;
\tfield:u8 address[16];\toffset:52;\tsize:16;\tsigned:0;

print fmt: "comm=%s, pid=%d fd=0x%08lx %s%%", REC->comm, REC->pid, ((unsigned long)(REC->fd)), \
__print(REC->x, {1, "a,b"})
"""
EVENT = kernel_event("sched:mixed", parse_format(FORMAT))
TABLE = EventTable.build(["plain", "sched:mixed"], {"sched:mixed": EVENT.declaration})
NANO = 1_000_000_000


def record(pid: int = -7, name: bytes = b"a name\0", more: bytes = b"more\0") -> bytes:
    head = struct.pack("=HBBi8sixxxxQQHH", 372, 0, 0, 9, b"qemu\0xyz", pid, 7, 2**63, 1, 65535)
    texts = struct.pack("=II", len(name) << 16 | 68, len(more) << 16 | 16 + len(name))
    return head + texts + bytes(16) + name + more


def test_a_format_gives_a_declaration() -> None:
    declared = EVENT.declaration
    assert EVENT.number == 372
    assert [(one.name, one.kind, one.bits, one.signed) for one in declared.arguments] == [
        ("comm", Kind.STRING, 64, False),
        ("pid", Kind.INTEGER, 32, True),
        ("fd", Kind.INTEGER, 64, False),
        ("buf", Kind.POINTER, 64, False),
        ("args0", Kind.INTEGER, 16, False),
        ("args1", Kind.INTEGER, 16, False),
        ("name", Kind.STRING, 64, False),
        ("more", Kind.STRING, 64, False),
    ]
    assert hex_arguments(declared) == {"fd", "buf"}


def test_arguments_are_read_where_the_format_says() -> None:
    whole = [record(), record(5, b"\0", b"no end")]
    broken = [record()[:40], record().replace(struct.pack("=I", 7 << 16 | 68), b"\xff" * 4)]
    data = b"".join([*whole, *broken])
    sizes = np.array([len(one) for one in [*whole, *broken]], np.int64)
    stop = np.cumsum(sizes).astype(np.int64)
    mine = KernelArguments(TABLE, {"sched:mixed": EVENT.places})
    stored = mine.stored()
    for arguments in (mine, reader(TABLE, cast(Any, stored))):
        columns, ok = arguments.read(data, 1, stop - sizes, stop)
        assert ok.tolist() == [True, True, False, False]
        read = {name: column.tolist()[:2] for name, column in columns.items()}
        assert read == {
            "comm": ["qemu", "qemu"],
            "pid": [-7, 5],
            "fd": [7, 7],
            "buf": [2**63, 2**63],
            "args0": [1, 1],
            "args1": [65535, 65535],
            "name": ["a name", ""],
            "more": ["more", "no end"],
        }


@pytest.mark.parametrize(
    "places", ['{"sched:mixed": [[0, 3, "number"]]}', '{"sched:mixed": 7}', "[]", '{"x": [[0]]}']
)
def test_a_recording_with_other_places_is_malformed(places: str) -> None:
    with pytest.raises(ValueError, match=r"size|places|Malformed|pack|unpack"):
        reader(TABLE, {"arguments": "kernel", "places": places, "others": "{}"})


def test_patterns_with_a_colon_are_of_the_kernel() -> None:
    ours, kernels = split(Selection(((True, "virtio_*"), (True, "kvm:*"), (False, "kvm:kvm_fpu"))))
    assert ours == Selection.of("virtio_*")
    assert kernels == Selection(((True, "kvm:*"), (False, "kvm:kvm_fpu")))


def batch(event: int, *times: int, arrived: bool = False) -> Batch:
    data = record() if event else b"plain"
    size = np.zeros(len(times), np.int64)
    return Batch(
        table=TABLE,
        data=data,
        event=np.full(len(times), event, np.int32),
        time_ns=np.array(times, np.int64),
        tid=np.ones(len(times), np.int32),
        start=size,
        begin=size,
        stop=size + len(data),
        arrived=np.full(len(times), arrived),
        origin=np.zeros(len(times), np.int32),
        origins=(Origin(9),),
        clock=Clock.REALTIME,
        backend=Backend.FTRACE if event else Backend.LOG,
        reader=KernelArguments(TABLE, {"sched:mixed": EVENT.places}) if event else None,
    )


class Said:
    """What a feed tells the user; and, as a reader, that all was read."""

    until_ns: int | None = None

    def __init__(self) -> None:
        self.notices: list[str] = []


class Given:
    """A feed of given items."""

    taken = 0
    error_ns = 100
    reader = Said()

    def __init__(self, *items: Items) -> None:
        self.items = list(items)

    def read(self) -> Items:
        return self.items.pop(0) if self.items else []

    def behind(self) -> int:
        return 0

    def finish(self) -> Items:
        return [item for items in self.items for item in items]


def beside(guest: Given, kernel: Given, said: Said) -> BesideFeed:
    return BesideFeed(cast(Feed, guest), cast(RingFeed, kernel), Backend.LOG, said)


def order(items: Items) -> list[object]:
    """Return the name and time of each record, and the count of each loss."""
    out: list[object] = []
    for item in items:
        if isinstance(item, Loss):
            out.append(item.count)
        else:
            out += [(one.name, one.time_ns, str(one.backend)) for one in item.records()]
    return out


def test_records_of_both_are_in_the_order_of_their_times() -> None:
    said = Said()
    guest = Given([batch(0, 10, 30), Loss(Backend.LOG, 4, 30), batch(0, 50)])
    kernel = Given([batch(1, 5, 20), Loss(Backend.FTRACE, 3, 20), batch(1, 40, 60)])
    feed = beside(guest, kernel, said)
    found = feed.read()
    plain = [("plain", time, "log") for time in (10, 30, 50)]
    mixed = [("sched:mixed", time, "ftrace") for time in (5, 20, 40, 60)]
    assert order(found) == [
        *(mixed[0], plain[0], mixed[1], 3, plain[1], 4, mixed[2], plain[2], mixed[3]),
    ]
    assert sum(isinstance(item, Batch) for item in found) < 7
    assert said.notices == [
        "the times of kernel events and of QEMU's records in log compare to within 1.1 us"
    ]


def test_a_record_waits_for_older_ones() -> None:
    late = 1 << 62
    feed = beside(Given([batch(0, 10, late)], [batch(0, late)]), Given([batch(1, late)]), Said())
    assert order(feed.read()) == [("plain", 10, "log")]
    assert order(feed.read()) == []
    assert [time for _, time, _ in cast(Any, order(feed.finish()))] == [late, late, late]


def test_records_without_times_keep_their_bytes() -> None:
    said = Said()
    given = batch(0, 10, 10, arrived=True)
    feed = beside(Given([given]), Given([batch(1, 5, 20)]), said)
    found = feed.read()
    assert [len(item) for item in found if isinstance(item, Batch)] == [1, 2, 1]
    assert found[1] is given
    assert "--clock auto" in said.notices[0]
