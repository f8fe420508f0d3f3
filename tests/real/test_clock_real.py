"""Times of log lines by the kernel, beside QEMU's own, under a flood, and where they cannot be."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from qtctl.backends.log import clock
from qtctl.backends.ring import tracefs
from qtctl.errors import Unsupported
from qtctl.records.batch import Batch
from qtctl.records.items import Loss
from qtctl.session.attach import attach
from qtctl.session.stream import Stream
from tests import tracing
from tests.qemus import RealGuest, require
from tests.running import Qtctl, eventually

pytestmark = pytest.mark.qemu
PAIR = ("virtio_blk_handle_read", "virtio_blk_req_complete")
LOG = ("-D", "{dir}/log", "-qmp", "unix:{dir}/second.sock,server=on,wait=off")
STAMP = re.compile(r"(?:(\d+)@(\d+)\.(\d{6}):|(\S+Z) )")


@pytest.fixture(autouse=True)
def traceable() -> None:
    tracing.need()


@pytest.fixture
def guest() -> Iterator[RealGuest]:
    with RealGuest(require("path"), image="virtio-blk", extra=LOG) as started:
        yield started


def stamp_of(line: str) -> tuple[int, int | None]:
    """Return QEMU's own time of a line in ns, and the thread, if it prints that."""
    found = STAMP.match(line)
    assert found is not None, line
    if found[1]:
        return int(found[2]) * 10**9 + int(found[3]) * 1000, int(found[1])
    time = datetime.fromisoformat(found[4])
    return int(time.timestamp()) * 10**9 + time.microsecond * 1000, None


async def batches(stream: Stream, seconds: float) -> AsyncIterator[Batch]:
    asyncio.get_running_loop().call_later(seconds, stream.stop)
    async for item in stream:
        assert not isinstance(item, Loss), item
        if isinstance(item, Batch):
            yield item


@pytest.mark.parametrize("label", ["path", "rooted"])
async def test_they_are_those_that_qemu_prints(label: str, own_folders: Path) -> None:
    with RealGuest(
        require(label), image="virtio-blk", extra=(*LOG, "-msg", "timestamp=on")
    ) as guest:
        later: list[int] = []
        async with attach(guest.address) as session:
            async with session.follow("virtio_blk_*", clock="kernel") as stream:
                async for batch in batches(stream, 2):
                    assert not batch.arrived.any()
                    for row in np.flatnonzero(batch.event >= 0).tolist():
                        time_ns, thread = stamp_of(batch.text(row))
                        assert thread in (None, batch.tid[row])
                        later.append(int(batch.time_ns[row]) - time_ns)
            assert session.notices == []
    assert len(later) > 50
    # QEMU takes its time before it writes, and cuts it to microseconds; a busy machine may run
    # something else between the two.
    assert min(later) > -5_000
    assert sorted(later)[len(later) // 2] < 50_000


async def test_no_line_of_a_flood_gets_the_time_of_another(own_folders: Path) -> None:
    """The time of a line is between its stamp and the next one of its thread."""
    extra = (*LOG, "-msg", "timestamp=on")
    with RealGuest(require("path"), image="ports", busy=True, extra=extra) as guest:
        seen = exact = 0
        async with (
            attach(guest.address) as session,
            session.follow("memory_region_ops_*", clock="kernel") as stream,
        ):
            async for batch in batches(stream, 2):
                rows = np.flatnonzero(batch.event >= 0)
                seen += len(rows)
                exact += int((~batch.arrived[rows]).sum())
                some = rows[:: max(1, len(rows) // 100)]
                for row in some[some + 1 < len(batch)].tolist():
                    if batch.arrived[row] or batch.event[row + 1] < 0:
                        continue
                    (before, one), (after, two) = map(stamp_of, map(batch.text, (row, row + 1)))
                    assert before - 5_000 <= batch.time_ns[row], batch.text(row)
                    if one == two:
                        assert batch.time_ns[row] <= after + 5_000, batch.text(row)
    assert seen > 10_000
    assert exact > 0.9 * seen


def test_latency_has_figures_on_a_log_without_times(guest: RealGuest, run: Qtctl) -> None:
    ran = run("-t", guest.address, "--json", "latency", *PAIR, "--duration", "1s", limit=None)
    measured = json.loads(ran.said(0, "with the kernel's times").out)
    assert measured["count"] > 5
    assert measured["arrived"] == 0
    assert 1_000 < measured["p50"] < 1_000_000_000
    ran = run(
        "-t", guest.address, "--json", "latency", *PAIR, "--duration", "1s", "--clock", "arrival",
        limit=None,
    )  # fmt: skip
    assert json.loads(ran.said(1, "in no figure").out)["count"] == 0


def test_a_log_on_stderr_opened_to_read_and_write(tmp_path: Path, run: Qtctl) -> None:
    with (
        (tmp_path / "stderr").open("w+b") as log,
        RealGuest(require("path"), image="virtio-blk", stderr=log) as guest,
    ):
        words = ("tail", PAIR[0], "--ndjson", "--clock", "kernel", "--max-events", "5")
        ran = run("-t", guest.address, *words, limit=None).said(0)
    assert ran.out.count('"clock": "realtime"') == 5


def test_the_log_may_move_while_it_is_followed(guest: RealGuest, run: Qtctl) -> None:
    words = ("tail", PAIR[0], "--ndjson", "--clock", "kernel")
    running = run.start("-t", guest.address, *words)
    running.wrote(b'"realtime"')
    (guest.directory / "log").rename(guest.directory / "renamed")
    seen = len(running.out)
    eventually(lambda: len(running.out) > seen + 500, "a renamed log is followed")
    second = str(guest.directory / "second.sock")
    run("-t", second, "hmp", f"logfile {guest.inside('another')}").said(0)
    eventually(lambda: (guest.directory / "another").exists(), "QEMU writes another file")
    seen = len(running.out)
    eventually(lambda: b"realtime" in running.out[seen + 500 :], "times come again")
    running.signal(signal.SIGINT)
    ran = running.finish(None).said(130, "the log moved to")
    events = [json.loads(line) for line in ran.out.splitlines() if '"event"' in line]
    exact = [one for one in events if one["clock"] == "realtime"]
    assert {one["tid"] for one in exact} <= threads(guest)
    times = [one["time_ns"] for one in exact]
    assert times == sorted(times)


def threads(guest: RealGuest) -> set[int]:
    return {int(path.name) for path in Path(f"/proc/{guest.pid}/task").iterdir()}


def test_what_another_writes_to_the_log_has_no_time(guest: RealGuest, run: Qtctl) -> None:
    words = ("tail", PAIR[0], "--ndjson", "--clock", "kernel")
    running = run.start("-t", guest.address, *words)
    running.wrote(b'"realtime"')
    line = f"{PAIR[0]} vdev 0x1 req 0x2 sector 3 nsectors 4\n".encode()
    fake = b'"sector": 3, "nsectors": 4'

    def added() -> bool:
        # QEMU writes where it stopped, over what others wrote: only at the end both are whole.
        with (guest.directory / "log").open("ab", buffering=0) as log:
            log.write(line * 3)
        return fake in running.out

    eventually(added, "a foreign line is shown")
    seen = len(running.out)
    eventually(lambda: b"realtime" in running.out[seen:], "times come again")
    running.signal(signal.SIGINT)
    ran = running.finish(None)
    events = [json.loads(one) for one in ran.out.splitlines() if '"event"' in one]
    foreign = [one for one in events if one.get("args", {}).get("sector") == 3]
    assert foreign
    assert {one["clock"] for one in foreign} == {"arrival"}


@pytest.mark.parametrize("wait", [b"", b"Ctrl-C gives back", b'"realtime"'])
def test_after_sigkill_the_next_verb_removes_the_instance(
    wait: bytes, guest: RealGuest, run: Qtctl
) -> None:
    words = ("tail", "virtio_blk_*", "--ndjson", "--clock", "kernel")
    running = run.start("-t", guest.address, *words)
    if wait:
        eventually(lambda: wait in running.out + running.err, "it has come so far")
    else:
        eventually(lambda: bool(tracing.instances(running.pid)), "the instance is made")
    running.signal(signal.SIGKILL)
    running.finish(None)
    assert tracing.instances(running.pid)
    run("-t", guest.address, "status").said(0, "gave back")
    assert tracing.instances(running.pid) == []
    assert run.leases() == []


def test_a_guest_that_is_killed_takes_the_instance_along(guest: RealGuest, run: Qtctl) -> None:
    words = ("tail", "virtio_blk_*", "--ndjson", "--clock", "kernel")
    running = run.start("-t", guest.address, *words)
    running.wrote(b'"realtime"')
    guest.process.kill()
    assert running.finish(None).code == 5
    assert tracing.instances(running.pid) == []


@pytest.mark.parametrize("chosen", ["kernel", "auto"])
async def test_where_the_kernel_cannot_be_traced(
    chosen: str, guest: RealGuest, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracefs, "PLACES", (own_folders / "none",))
    async with attach(guest.address) as session:
        stream = session.follow("virtio_blk_*", clock=chosen, limit=3, backend="log")
        if chosen == "kernel":
            with pytest.raises(Unsupported, match="not mounted") as raised:
                await stream.__aenter__()
            assert "timestamp=on" in raised.value.hint
            return
        async with stream:
            clocks = [record.clock async for record in stream.records()]
        assert any("not mounted" in note for note in session.notices)
    assert set(clocks) == {"arrival"}


@pytest.mark.parametrize(
    ("part", "reason", "hint"),
    [
        ("buffer_size_kb", errno.ENOMEM, "free memory"),
        ("trace_clock", errno.EROFS, "remount,rw"),
        ("sys_enter_write/filter", errno.EINVAL, "dmesg"),
        ("sys_exit_writev/enable", errno.EPERM, "as root"),
    ],
)
async def test_what_the_kernel_refuses_leaves_nothing(
    part: str,
    reason: int,
    hint: str,
    guest: RealGuest,
    own_folders: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with attach(guest.address) as session:
        with (
            tracing.refused(monkeypatch, part, reason),
            pytest.raises(Unsupported, match=part) as raised,
        ):
            await session.follow("virtio_blk_*", clock="kernel").__aenter__()
        assert hint in raised.value.hint
        assert "timestamp=on" in raised.value.hint
        assert not list(await session.leasing.held("tracefs"))
    assert tracing.instances(os.getpid()) == []


async def test_a_kernel_without_tracepoints_of_system_calls(
    guest: RealGuest, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "_ENTERS", ("sys_enter_nothing",))
    async with attach(guest.address) as session:
        with pytest.raises(Unsupported, match="CONFIG_FTRACE_SYSCALLS"):
            await session.follow("virtio_blk_*", clock="kernel").__aenter__()
    assert tracing.instances(os.getpid()) == []


async def test_records_stand_where_the_kernel_s_events_are(
    guest: RealGuest, own_folders: Path
) -> None:
    """Each line is a write of its thread; each instance takes its own time of it."""
    writes: dict[int, list[int]] = {}
    told: list[tuple[int, int]] = []
    async with (
        attach(guest.address) as session,
        session.follow(PAIR[0], kernel=("syscalls:sys_enter_write",)) as stream,
    ):
        async for batch in batches(stream, 2):
            assert not (batch.arrived & (batch.event >= 0)).any()
            columns = (batch.event, batch.tid, batch.time_ns)
            for event, tid, time_ns in zip(*(one.tolist() for one in columns), strict=True):
                if event >= 0 and batch.names[event] == PAIR[0]:
                    told.append((tid, time_ns))
                elif event >= 0:
                    writes.setdefault(tid, []).append(time_ns)
    assert len(told) > 20
    apart = [min(abs(one - time_ns) for one in writes[tid]) for tid, time_ns in told]
    assert sorted(apart)[len(apart) // 2] < 5_000
    assert max(apart) < 1_000_000
