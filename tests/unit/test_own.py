"""Records of qtctl's own requests are left out, those of other clients stay."""

from __future__ import annotations

import gzip
import itertools
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.monitor.sent import Sent
from qtctl.records.counts import Counts
from qtctl.records.event_table import EventTable
from qtctl.session.own import OwnTraffic, is_traced
from qtctl.session.warm_up import WarmUpWindow
from tests.samples import batches, only_batch

DECLARED = parse_declarations(
    gzip.decompress(Path("tests/data/trace-events-all-7.2.gz").read_bytes()).decode()
).by_name
TABLE = EventTable.build(None, DECLARED)
MAIN, READER, VCPU = 100, 101, 102
MARK = Sent().mark
OWN_MONITOR, OTHER_MONITOR = 0x5500, 0x6600
BEGAN_NS = 1_795_383_301_000_000_000


class Request:
    """The records of one request: read in one thread, handled in another."""

    def __init__(self, number: int, own: bool, command: str = "trace_event_get_state") -> None:
        self.own = own
        monitor = OWN_MONITOR if own else OTHER_MONITOR
        tag = f'"{MARK}{number}"' if own else f'"libvirt-{number}"'
        req = 0x7000 + 16 * number
        self.read = [
            f'handle_qmp_command mon {monitor:#x} req: {{"execute": "x", "id": {tag}}}',
            f"monitor_suspend mon {monitor:#x}: 1",
            f"monitor_qmp_in_band_enqueue {req:#x} mon {monitor:#x} len 0",
        ]
        self.handled = [
            f"monitor_qmp_in_band_dequeue {req:#x} len 0",
            f"monitor_qmp_cmd_in_band {tag}",
            f"visit_type_str v={number:#x} name=name obj=0x1",
            f'qmp_enter_{command} {{"name": "*"}}',
            f"handle_hmp_command mon {monitor:#x} cmdline: info {number}",
            f"qmp_exit_{command} {{}} 1",
            f"visit_free v={number:#x}",
            f'monitor_qmp_respond mon {monitor:#x} resp: {{"return": {{}}, "id": {tag}}}',
            f"monitor_suspend mon {monitor:#x}: -1",
        ]


def stamped(tid: int, line: str, time_ns: int) -> bytes:
    return f"{tid}@{time_ns // 10**9}.{time_ns // 1000 % 10**6:06}:{line}\n".encode()


def kept(
    lines: Sequence[bytes],
    *,
    sent: Sent | None = None,
    traced: Iterable[str] = DECLARED,
    cuts: Sequence[int] = (),
    begun: bool = False,
) -> tuple[list[str], Counts]:
    """Return the lines that stay, without their stamps, and the counts."""
    counts = Counts()
    own = OwnTraffic(TABLE, set(traced), sent or Sent(), counts, begun=begun)
    decoder, out = LogDecoder(TABLE, pid=MAIN), list[str]()
    bounds = [0, *sorted(cuts), len(lines)]
    for low, high in itertools.pairwise(bounds):
        data = b"".join(lines[low:high])
        items = decoder.end(data, Clocks(time.time_ns())) if data else []
        for batch in batches(items):
            item, _ = own.others(batch)
            out += [item.text(row).partition(":")[2] for row in range(len(item))]
    return out, counts


@st.composite
def traffic(draw: st.DrawFn) -> tuple[list[tuple[int, str, bool | None]], list[int]]:
    """Draw requests on two monitors and other records, in an order that QEMU can trace."""
    whose = draw(st.lists(st.booleans(), max_size=6))
    requests = [Request(number, own) for number, own in enumerate(whose)]
    rows: list[tuple[int, str, bool | None]] = []
    read = [(READER, line, one.own) for one in requests for line in one.read]
    handled = [(MAIN, line, one.own) for one in requests for line in one.handled]
    event = "monitor_protocol_event_queue event=9 data=0x1 rate=0"
    others = draw(
        st.lists(
            st.sampled_from([(VCPU, "pic_set_irq master 0 irq 0 level 1"), (MAIN, event)]),
            max_size=3,
        )
    )
    noise = [(tid, line, None) for tid, line in others]
    places = {line: index for index, (_, line, _) in enumerate(read) if "enqueue" in line}
    done = 0
    while read[done:] or handled or noise:
        # A request is handled once it was read; the next of its monitor is read once answered.
        ready = bool(handled) and done > _enqueued(places, handled[0][1], done)
        choices = [*(["read"] if read[done:] else []), *(["handled"] if ready else [])]
        choices += ["noise"] if noise else []
        match draw(st.sampled_from(choices)):
            case "read":
                rows.append(read[done])
                done += 1
            case "handled":
                rows.append(handled.pop(0))
            case _:
                rows.append(noise.pop())
    cuts = draw(st.lists(st.integers(0, len(rows)), max_size=4))
    return rows, cuts


def _enqueued(places: dict[str, int], line: str, done: int) -> int:
    """Return which record of reading must come before a record of handling."""
    if "dequeue" not in line:
        return -1
    pointer = line.split()[1]
    return next(place for found, place in places.items() if f"enqueue {pointer} " in found)


def test_commands_of_a_human_monitor_stay() -> None:
    """They come through no request, so the one before is not theirs."""
    own, human = Request(1, True), "handle_hmp_command mon 0x8800 cmdline: info status"
    lines = [*own.read, *own.handled, human]
    found, counts = kept([stamped(MAIN, line, BEGAN_NS) for line in lines])
    assert found == [human]
    assert counts.own == len(own.read) + len(own.handled)


@settings(max_examples=150)
@given(traffic())
def test_what_belongs_to_other_requests_stays(
    drawn: tuple[list[tuple[int, str, bool | None]], list[int]],
) -> None:
    rows, cuts = drawn
    lines = [stamped(tid, line, BEGAN_NS + at) for at, (tid, line, _) in enumerate(rows)]
    found, counts = kept(lines, cuts=cuts)
    must_stay = [line for _, line, own in rows if not own]
    may_stay = [line for _, line, own in rows if own and line.startswith("visit_")]
    assert [line for line in found if line not in may_stay] == must_stay
    # An event of QMP has visits of its own, which come before it.
    if not any("monitor_protocol" in line for _, line, _ in rows):
        assert found == must_stay
        assert counts == Counts(own=sum(own or False for _, _, own in rows))


def test_a_monitors_records_without_the_requests_are_decided_by_the_ids_behind() -> None:
    """``tail 'monitor_*'``: handle_qmp_command, which comes first, is not traced."""
    rows = [Request(1, True), Request(2, False), Request(3, True)]
    lines = [line for one in rows for line in (*one.read, *one.handled) if line[:4] == "moni"]
    stamps = [stamped(MAIN, line, BEGAN_NS) for line in lines]
    traced = {name for name in DECLARED if name.startswith("monitor_")}
    found, counts = kept(stamps, traced=traced)
    foreign = [line for line in (*rows[1].read, *rows[1].handled) if line[:4] == "moni"]
    assert found == foreign
    assert counts.perhaps_own == 0


@pytest.mark.parametrize("exact", [True, False], ids=["with times", "without"])
def test_commands_alone_are_compared_with_what_was_sent(exact: bool) -> None:
    """``tail 'qmp_*'``: as many are left out as were sent, at that time, with these arguments."""
    sent = Sent()
    sent.add("query-status", None).answered_ns = time.time_ns()
    sent.add("human-monitor-command", {"command-line": "info x"}).answered_ns = time.time_ns()
    lines = [
        "qmp_enter_query_status {}",
        "qmp_exit_query_status {} 1",
        "qmp_enter_query_status {}",
        "qmp_exit_query_status {} 1",
        'qmp_enter_human_monitor_command {"command-line": "info y"}',
        "qmp_exit_human_monitor_command y 1",
        'qmp_enter_human_monitor_command {"command-line": "info x"}',
        "handle_hmp_command mon 0x1 cmdline: info x",
        "qmp_exit_human_monitor_command x 1",
        "handle_hmp_command mon 0x1 cmdline: info x",
    ]
    now_ns = time.time_ns()
    stamps = [stamped(MAIN, line, now_ns) if exact else f":{line}\n".encode()[1:] for line in lines]
    traced = {"qmp_enter_query_status", "handle_hmp_command"}
    counts = Counts()
    own = OwnTraffic(TABLE, traced, sent, counts, begun=False)
    batch, _ = own.others(
        only_batch(LogDecoder(TABLE, pid=1).end(b"".join(stamps), Clocks(now_ns)))
    )
    left = [batch.text(row).rpartition("@")[2].partition(":")[2] for row in range(len(batch))]
    left = left if exact else [batch.text(row) for row in range(len(batch))]
    assert left == [*lines[2:6], lines[-1]]
    assert counts.own == 5


def test_a_command_at_another_time_is_not_ones_own() -> None:
    sent = Sent()
    sent.add("query-status", None).answered_ns = time.time_ns()
    late = stamped(MAIN, "qmp_enter_query_status {}", time.time_ns() + 10**9)
    found, _ = kept([late], sent=sent, traced={"qmp_enter_query_status"})
    assert found == ["qmp_enter_query_status {}"]


def test_visits_without_ids_stay_and_are_counted() -> None:
    line = "visit_free v=0x1"
    found, counts = kept([stamped(MAIN, line, BEGAN_NS)], traced={"visit_free"}, begun=True)
    assert found == [line]
    assert counts == Counts(perhaps_own=1)


def test_the_request_that_switched_the_events_on_is_left_out() -> None:
    tail = Request(1, True).handled[5:]
    other = [*Request(2, False).read, *Request(2, False).handled]
    lines = [stamped(MAIN, line, BEGAN_NS) for line in (*tail, *other)]
    assert kept(lines, begun=True)[0] == other


def test_what_others_switch_on_meanwhile_is_told_apart_too() -> None:
    """A stream without patterns follows what is on: nothing of this was at its begin."""
    sent = Sent()
    sent.add("trace-event-get-state", {"name": "*"})
    rows = [Request(1, True), Request(2, False, "query_status"), Request(3, True)]
    lines = [line for one in rows for line in (*one.read, *one.handled) if line[:6] != "visit_"]
    found, _ = kept(
        [stamped(MAIN, line, time.time_ns()) for line in lines[:24]], sent=sent, traced=[]
    )
    foreign = (*rows[1].read, *rows[1].handled)
    assert found == [line for line in foreign if line[:6] != "visit_"]


READING = [
    "lockcnt_fast_path_attempt lockcnt 0x42 fast path 0->4",
    "lockcnt_fast_path_success lockcnt 0x42 fast path 0->4 succeeded",
    "object_dynamic_cast_assert chardev-socket->chardev (char.h:231:CHARDEV)",
    "object_class_dynamic_cast_assert qio-channel-socket->qio-channel (c.h:2:GET_CLASS)",
]


def test_reading_a_request_is_told_by_its_time_and_what_it_names() -> None:
    sent = Sent()
    request = sent.add("trace-event-get-state", {"name": "*"})
    request.sent_ns, request.answered_ns = BEGAN_NS, BEGAN_NS + 10**8
    foreign = Request(2, False)
    guest = [
        "object_dynamic_cast_assert piix3-ide->ide-bus (ide.h:1:IDE)",
        "lockcnt_fast_path_attempt lockcnt 0x77 fast path 0->4",
        "qemu_mutex_lock waiting on mutex 0x1 (../util/async.c:7)",
    ]
    before = [stamped(READER, line, BEGAN_NS - 10**8) for line in READING]
    within = [stamped(READER, line, BEGAN_NS + 10**7) for line in READING * 60 + guest]
    within += [stamped(READER, line, BEGAN_NS + 2 * 10**7) for line in Request(1, True).read]
    found, counts = kept([*before, *within], sent=sent)
    assert found == READING + guest
    assert counts.own == 60 * len(READING) + 3
    assert counts.perhaps_own == len(guest)
    # What was read before another client's request may be of that.
    within = [stamped(READER, line, BEGAN_NS + 10**7) for line in READING * 60]
    within += [stamped(READER, line, BEGAN_NS + 2 * 10**7) for line in foreign.read]
    found, counts = kept(within, sent=sent)
    assert found == [*READING * 60, *foreign.read]


def test_at_the_edges_only_what_requests_may_cause_is_filtered() -> None:
    """While events are switched on and off, the guest's own records stay."""
    counts = Counts()
    own = OwnTraffic(TABLE, set(DECLARED), Sent(), counts, begun=False, edges=True)
    window = WarmUpWindow(0, time.time_ns())
    guest = "virtio_notify vdev 0x1 vq 0x2"
    early_ns, late_ns = time.time_ns() - 10**6, time.time_ns() + 10**8
    lines = [
        stamped(MAIN, line, early_ns) for line in (READING[0], guest, Request(7, False).read[0])
    ]
    lines += [stamped(MAIN, line, late_ns) for line in (READING[0], guest)]
    whole = only_batch(LogDecoder(TABLE, pid=1).feed(b"".join(lines), Clocks(late_ns)))
    batch, inside = own.others(whole, window.inside(whole, 0))
    assert inside is not None
    assert inside.tolist() == [False, True, True]
    found = [batch.text(row).partition(":")[2] for row in range(len(batch))]
    assert found == [guest, READING[0], guest]
    assert counts == Counts(read=2, filtered=2)


def test_other_events_cost_nothing() -> None:
    assert not is_traced(["virtio_blk_handle_read", "kvm_exit"])
    for name in ("qmp_exit_stop", "monitor_suspend", "visit_free", "qemu_mutex_lock"):
        assert is_traced([name])


_FORKS = """
import os
from qtctl.monitor.sent import Sent
before = Sent().mark
if os.fork():
    os.wait()
    print(before, Sent().mark)
else:
    print(Sent().mark, end=" ", flush=True)
    os._exit(0)
"""


def test_a_process_that_was_forked_is_another_client() -> None:
    # A process with threads, as those of pytest-xdist are, may not fork.
    ran = subprocess.run([sys.executable, "-c", _FORKS], capture_output=True, text=True, check=True)
    child, before, after = ran.stdout.split()
    assert before == after != child
