"""The syslog decoder: captured lines, each daemon's forms and notices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.syslog.decoder import SyslogDecoder
from qtctl.backends.syslog.notices import REPEAT_LIMIT
from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.items import Items, Loss
from tests.samples import FORMS, capture, event_table, running

CAPTURE = "qemu-7.2-syslog-datagrams.txt"
PID, NOW = 30513, 1_795_400_000_000_000_000
EVENT = "virtio_notify vdev 0x1 vq 0x2"
HOST = "2026-11-22T21:37:32.295065+00:00 host "
MINE = f"{HOST}qemu-system-x86_64[{PID}]: "


@pytest.fixture(params=FORMS, autouse=True)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    with running(request.param):
        yield


def decoder(line_limit: int = 1 << 16) -> SyslogDecoder:
    return SyslogDecoder(event_table("7.2"), pid=PID, unit="guest.scope", line_limit=line_limit)


def rows(items: Items) -> list[tuple[object, ...]]:
    out: list[tuple[object, ...]] = []
    for item in items:
        if isinstance(item, Loss):
            out.append(("lost", item.count))
            continue
        for record in item.records():
            moment = record.time_ns if record.clock is not Clock.ARRIVAL else 0
            text = record.raw if record.raw is not None else record.line
            out.append((record.name, tuple(record.args.items()), moment, record.clock, text))
    return out


def decode(data: bytes, cuts: list[int] | None = None, line_limit: int = 1 << 16) -> list[object]:
    reader = decoder(line_limit)
    edges = [0, *sorted(cut for cut in cuts or [] if cut < len(data)), len(data)]
    found: list[object] = []
    for one, two in pairwise(edges):
        found += rows(reader.feed(data[one:two], Clocks(NOW)))
    found += rows(reader.flush(Clocks(NOW)))
    assert reader.pending_bytes == 0
    return found


def told(text: str) -> list[tuple[object, ...]]:
    return rows(decoder().feed(text.encode("utf-8", "surrogateescape"), Clocks(NOW)))


def test_captured_datagrams_are_all_read() -> None:
    data = capture(CAPTURE)
    found = rows(decoder().end(data, Clocks(NOW)))
    assert len(found) == data.count(b"\n")
    assert all(name and args and text is None for name, args, _, _, text in found)
    local = time.strptime("2026 Nov 22 21:39:36", "%Y %b %d %H:%M:%S")
    assert found[0] == (
        "virtio_queue_notify",
        (("vdev", 0x5653B3AD1A70), ("n", 0), ("vq", 0x7F55918AC010)),
        int(time.mktime(local)) * 10**9,
        Clock.REALTIME,
        None,
    )


@pytest.mark.parametrize(
    ("head", "moment"),
    [
        ("2026-11-22T21:37:32.295065+00:00 host ", 1795383452_295065_000),
        ("2026-11-22T22:37:32.295065+01:00 host ", 1795383452_295065_000),
        ("2026-11-22T16:07:32-05:30 host ", 1795383452_000000_000),
        ("2026-11-22T21:37:32Z host ", 1795383452_000000_000),
        ("1795383452.295065 host ", 1795383452_295065_000),
    ],
)
def test_every_form_has_its_time(head: str, moment: int) -> None:
    [found] = told(f"{head}qemu-system-x86_64[{PID}]: {EVENT}\n")
    assert found[:4] == ("virtio_notify", (("vdev", 1), ("vq", 2)), moment, Clock.REALTIME)


def test_a_year_is_inferred_across_its_end() -> None:
    january = int(time.mktime((2027, 1, 1, 0, 0, 5, 0, 0, -1)))
    line = f"Dec 31 23:59:58 host qemu[{PID}]: {EVENT}\n".encode()
    [item] = decoder().feed(line, Clocks(january * 10**9))
    assert isinstance(item, Batch)
    assert item.time_ns.tolist() == [(january - 7) * 10**9]


@pytest.mark.parametrize(
    "line",
    [
        f"{HOST}qemu-system-x86_64[{PID + 1}]: {EVENT}",
        f"{HOST}qemu-system-x86_64[{PID}1]: {EVENT}",
        f"{HOST}cron: {EVENT}",
        f"{HOST}evil[1]: x qemu-system-x86_64[{PID}]: {EVENT}",
    ],
)
def test_other_programs_are_not_shown(line: str) -> None:
    assert told(f"{line}\n  and its second line\n") == []


def test_a_text_with_characters_that_rsyslog_may_have_escaped_is_raw() -> None:
    hmp = f"{MINE}handle_hmp_command mon 0x1 cmdline: "
    found = told(f"{hmp}info\n{hmp}a#012b\n{hmp}a#112\n{MINE}{EVENT}\n")
    assert [(row[1][1:], row[4]) for row in found[:3]] == [  # type: ignore[index]
        ((("cmdline", "info"),), None),
        ((), "mon 0x1 cmdline: a#012b"),
        ((("cmdline", "a#112"),), None),
    ]


def test_what_is_no_event_stays_text_with_its_second_line() -> None:
    found = told(f"{MINE}terminating on signal 15\n      more\n")
    assert [row[4] for row in found] == [f"{MINE}terminating on signal 15", "      more"]
    assert [row[0] for row in found] == ["", ""]


def test_squashed_repeats_are_records_again() -> None:
    found = told(f"{MINE}{EVENT}\n{MINE}message repeated 4 times: [ {EVENT}]\n")
    assert len(found) == 5
    assert len(set(found)) == 1
    assert found[0][0] == "virtio_notify"


def test_repeats_beyond_measure_are_counted() -> None:
    more = told(f"{MINE}message repeated {10**17} times: [ {EVENT}]\n")
    assert len(more) == REPEAT_LIMIT + 1
    assert more[-1] == ("lost", 10**17 - REPEAT_LIMIT)
    assert told(f"{MINE}message repeated 0 times: [ {EVENT}]\n") == []
    odd = told(f"{MINE}message repeated x times: [ {EVENT}]\n")
    assert [row[0] for row in odd] == [""]


def test_a_rate_limit_of_rsyslog_is_a_loss_at_its_place() -> None:
    begins = f"{HOST}rsyslogd: imuxsock[pid: {PID}, name: /usr/bin/qemu] from <host:qemu>: "
    begins += "begin to drop messages due to rate-limiting\n"
    lost = f"{HOST}rsyslogd: imuxsock[pid: {PID}, name: /usr/bin/qemu]: 800 messages lost due to "
    lost += "rate-limiting (200 allowed within 2 seconds)\n"
    reader = decoder()
    found = rows(reader.feed(f"{MINE}{EVENT}\n{begins}".encode(), Clocks(NOW)))
    assert [row[0] for row in found] == ["virtio_notify"]
    assert [reader.dropping] == [True]
    found = rows(reader.feed(f"{lost}{MINE}{EVENT}\n".encode(), Clocks(NOW)))
    assert found[0] == ("lost", 800)
    assert found[1][0] == "virtio_notify"
    assert [reader.dropping] == [False]
    assert told(lost.replace(str(PID), "1")) == []
    # A guest cannot report losses itself.
    assert [row[0] for row in told(f"{MINE}rsyslogd: {lost}")] == [""]


def test_a_rate_limit_of_journald_counts_for_the_unit() -> None:
    said = "1795383452.295065 host systemd-journald[99]: Suppressed 4711 messages from "
    assert told(f"{said}guest.scope\n") == [("lost", 4711)]
    assert told(f"{said}other.service\n") == []


def test_a_line_cut_anywhere_is_never_another_record() -> None:
    data = f"{MINE}virtio_blk_req_complete vdev 0x1 req 0x2 status 0".encode()
    for end in range(len(data)):
        for row in decode(data[:end]):
            assert isinstance(row, tuple)
            assert row[0] in ("", "virtio_blk_req_complete")
            assert row[1] == ()
