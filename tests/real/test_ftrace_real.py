"""The ftrace backend on the machine's own tracefs: a writer plays QEMU, then a real QEMU does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

import qtctl
from qtctl.backends.base import FeedRequest
from qtctl.backends.ftrace import shared as ftraceshared
from qtctl.backends.ftrace import undo
from qtctl.backends.ftrace.feed import make_instance, open_reader
from qtctl.backends.ring import tracefs as ftrace
from qtctl.backends.ring.feed import RingFeed
from qtctl.errors import Unsupported
from qtctl.leases.journal import Owner, Resource
from qtctl.model import Backend
from qtctl.records.batch import Batch, EventTable
from qtctl.records.columns import Record
from qtctl.records.items import Items, Loss
from tests.qemus import RealGuest, require
from tests.running import Qtctl, Stopwatch, eventually
from tests.samples import declarations

WRITER = """
import os, sys, time
marker = os.open(sys.argv[1], os.O_WRONLY)
at = 0
for line in sys.stdin:
    count = int(line)
    before = time.time_ns()
    for at in range(at, at + count):
        os.write(marker, b"virtio_notify vdev 0x1 vq 0x%x" % (at + 1))
    at += 1
    print(before, time.time_ns(), flush=True)
"""


@pytest.fixture(scope="module")
def tracefs() -> Path:
    """Return where tracefs is; the run mounts it where it may."""
    try:
        return ftrace.find_tracefs()
    except Unsupported as reason:
        pytest.skip(str(reason))


@pytest.fixture
def private(tracefs: Path) -> Path:
    if not ftrace.has_private(tracefs):
        pytest.skip("this kernel has no copy_trace_marker")
    _others.clear()
    _others.update(instances(tracefs))
    return tracefs


_others: set[str] = set()
"""Instances that others had before the test."""


class Writer:
    """A process that writes events to trace_marker as QEMU does, when told to."""

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(root / "trace_marker")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def begin(self, count: int) -> None:
        assert self._process.stdin is not None
        print(count, file=self._process.stdin, flush=True)

    def end(self) -> tuple[int, int]:
        """Return when the first and the last record were written, in ns of Unix time."""
        assert self._process.stdout is not None
        before, after = self._process.stdout.readline().split()
        return int(before), int(after)

    def write(self, count: int = 1) -> tuple[int, int]:
        self.begin(count)
        return self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._process:
            self._process.kill()


class Site:
    """What a decoder of marks tells the user."""

    def __init__(self) -> None:
        self.notices: list[str] = []


class Following:
    """A feed on an instance of the test's own."""

    def __init__(self, root: Path, pid: int, picked: tuple[str, ...] = ()) -> None:
        self.folder = root / "instances" / f"qtctl-test-{os.getpid()}-{pid}"
        make_instance(self.folder)
        known = declarations("7.2").by_name
        self.site = Site()
        site: Any = self.site
        request = FeedRequest(site, Owner(0, 0, 0), EventTable.build(known, known), picked)
        self.feed = RingFeed(open_reader(request, self.folder, pid, True), "a test", Backend.FTRACE)

    async def rest(self) -> Items:
        """Read what was written until now."""
        found: Items = []
        await self.feed.settle()
        while not self.feed.settled():
            found += self.feed.read()
        return found + self.feed.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.feed.reader.close()
        assert ftrace.remove_instance(self.folder) == ""
        assert not self.folder.exists()


def records(items: Items) -> list[Record]:
    return [record for item in items if isinstance(item, Batch) for record in item.records()]


def lost(items: Items) -> int:
    return sum(item.count or 0 for item in items if isinstance(item, Loss))


async def test_a_record_comes_soon_with_its_time(private: Path) -> None:
    late_ms = []
    with Writer(private) as writer, Following(private, writer.pid) as following:
        assert following.feed.read() == []
        for number in range(1, 11):
            waiting = asyncio.ensure_future(following.feed.wait(60.0))
            await asyncio.sleep(0)
            watch = Stopwatch()
            before, after = await asyncio.to_thread(writer.write)
            await waiting
            [record] = records(following.feed.read())
            late_ms.append((time.time_ns() - after) / 1e6 - watch.stalled * 1e3)
            assert record.args == {"vdev": 1, "vq": number}
            # The offset between the clocks is measured.
            assert before - 100_000 <= record.time_ns <= after + 100_000
            assert (record.pid, record.tid) == (writer.pid, writer.pid)
        assert sorted(late_ms)[5] < 500, late_ms


async def test_only_the_guests_own_records(private: Path) -> None:
    with (
        Writer(private) as writer,
        Writer(private) as other,
        Following(private, writer.pid) as following,
    ):
        other.begin(500)
        writer.write(500)
        other.end()
        found = await following.rest()
    assert [record.args["vq"] for record in records(found)] == list(range(1, 501))
    assert lost(found) == 0


async def test_a_process_that_has_ended_is_still_told_from_others(private: Path) -> None:
    with Writer(private) as writer, Following(private, writer.pid) as following:
        with Writer(private) as other:
            other.write(3)
            writer.write(3)
        found = await following.rest()
    assert [record.args["vq"] for record in records(found)] == [1, 2, 3]


async def test_read_and_lost_are_what_was_written(private: Path) -> None:
    produced = 600_000
    with Writer(private) as writer, Following(private, writer.pid) as following:
        writer.begin(produced)  # nobody reads until all is written
        await asyncio.to_thread(writer.end)
        found = await following.rest()
    read = sum(len(item) for item in found if isinstance(item, Batch))
    assert read + lost(found) == produced
    assert lost(found) > 0
    at = 0
    for item in found:
        if isinstance(item, Loss):
            at += item.count or 0
            continue
        # One writer on one processor at a time: a record's number is its place.
        values: Any = item.arguments(int(item.event[0])).values["vq"]
        at += len(values)
        if os.cpu_count() == 1:
            assert int(values[-1]) == at
    assert at == produced


async def test_what_waits_is_seen_while_nobody_reads(private: Path) -> None:
    with Writer(private) as writer, Following(private, writer.pid) as following:
        feed = following.feed
        writer.write(1000)
        while not feed.reader.dry or not feed.taken:
            feed.read()
        one = feed.taken / 1000
        assert feed.behind() == 0
        for more, written in ((1000, 1000), (400_000, 401_000)):  # more than there is room for
            writer.write(more)
            feed.keep_up()
            assert 0.9 * written < feed.behind() / one < 1.1 * written
        feed.read()
        assert feed.behind() == 0


async def test_a_text_is_whole_whatever_is_in_it(private: Path) -> None:
    with Following(private, os.getpid()) as following:
        marker = os.open(private / "trace_marker", os.O_WRONLY)
        try:
            for text in ("virtio_notify vdev 0x1 vq 0x2\nand a line", "x" * 3000, "y" * 9000):
                os.write(marker, text.encode())
        finally:
            os.close(marker)
        one, two, three = records(await following.rest())
    assert (one.name, one.raw) == ("virtio_notify", "vdev 0x1 vq 0x2\nand a line")
    # The kernel keeps no more of a write than about a page, and says so to who writes.
    assert (two.line, set(three.line or "")) == ("x" * 3000, {"y"})
    assert 3900 < len(three.line or "") < 9000


async def test_a_mark_without_a_name_is_found_by_its_format(private: Path) -> None:
    picked = ("pl011_irq_state", "pl011_read", "pl011_write")
    with Following(private, os.getpid(), picked) as following:
        marker = os.open(private / "trace_marker", os.O_WRONLY)
        try:
            for text in (b"irq state 1", b"addr 0x00000010 value 0x00000001", b"neither"):
                os.write(marker, text)
        finally:
            os.close(marker)
        found = records(await following.rest())
    assert [(one.name, one.line) for one in found[1:]] == [
        ("", "addr 0x00000010 value 0x00000001"),
        ("", "neither"),
    ]
    assert (found[0].name, found[0].args) == ("pl011_irq_state", {"level": 1})
    [told] = following.site.notices
    assert "fit pl011_read, pl011_write alike" in told


async def test_one_that_has_stopped_takes_nothing_from_another(private: Path) -> None:
    with Writer(private) as writer, Writer(private) as other:
        with Following(private, other.pid) as first, Following(private, writer.pid) as second:
            await first.feed.settle()
            await asyncio.to_thread(writer.write, 5)
            found = await second.rest()
        assert len(records(found)) == 5
        with Following(private, writer.pid) as first, Following(private, other.pid) as second:
            await second.feed.settle()
            await asyncio.to_thread(writer.write, 5)
            assert len(records(await first.rest())) == 5


def test_an_instance_in_use_stays_and_is_named(private: Path) -> None:
    folder = private / "instances" / f"qtctl-test-{os.getpid()}-used"
    make_instance(folder)
    with (folder / "trace_pipe").open():
        note = undo._end(Resource("tracefs", {"instance": str(folder)}))
        assert f"rmdir {folder}" in note
    undo.discard(Resource("tracefs", {"instance": str(folder)}))
    assert not folder.exists()
    assert undo._end(Resource("tracefs", {"instance": str(folder)})) == ""


def shared_buffer(root: Path) -> ftraceshared.Shared:
    """Return the settings of the global buffer, its size as the kernel rounds it.

    A kernel whose pages hold 4,080 bytes shows its default as 1408 KiB until somebody writes a
    size, and the same number of pages as 1410 from then on.
    """
    (root / "buffer_size_kb").write_text(ftraceshared.find(root).before["buffer_size_kb"])
    return ftraceshared.find(root)


def test_the_shared_buffer_gets_its_settings_back(tracefs: Path) -> None:
    found = shared_buffer(tracefs)
    try:
        ftraceshared.prepare(found)
        assert (tracefs / "tracing_on").read_text() == "1\n"
        assert int((tracefs / "buffer_size_kb").read_text()) >= ftrace.per_cpu_kib()
    finally:
        assert ftraceshared.put_back(found.facts()) == ""
    assert ftraceshared.find(tracefs).before == found.before
    assert ftraceshared.put_back(found.facts()) == ""


async def test_the_shared_buffer_is_followed_where_there_is_no_other_way(
    tracefs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATE_HOME", "CACHE_HOME", "RUNTIME_DIR"):
        monkeypatch.setenv(f"XDG_{name}", str(tmp_path))
    monkeypatch.setattr(ftrace, "has_private", lambda root: False)
    before = shared_buffer(tracefs)
    with RealGuest(require("built"), image="virtio-blk", stderr=subprocess.DEVNULL) as guest:
        async with qtctl.attach(guest.address) as session:
            async with session.follow("virtio_blk_*", backend="ftrace", limit=50) as stream:
                with pytest.raises(Unsupported, match=r"reads the trace buffer"):
                    ftraceshared.find(tracefs)
                found = [record async for record in stream.records()]
            assert any("everybody shares" in note for note in session.notices)
    assert len(found) == 50
    assert {record.tid for record in found}
    assert ftraceshared.find(tracefs).before == before.before


@pytest.fixture
def guest(private: Path) -> Iterator[RealGuest]:
    qemu = require("built")
    extra = ["-D", "{dir}/own.log", "-qmp", "unix:{dir}/second.sock,server=on,wait=off"]
    with RealGuest(qemu, image="virtio-blk", extra=extra) as started:
        yield started


def instances(root: Path) -> list[str]:
    names = [path.name for path in (root / "instances").iterdir()]
    return [name for name in names if name.startswith("qtctl-") and name not in _others]


def told(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.qemu
def test_a_real_guest_read_and_lost_are_what_its_log_has(
    guest: RealGuest, run: Qtctl, private: Path
) -> None:
    words = ("tail", "--backend", "ftrace", "virtio_*", "memory_region_ops_*", "--ndjson")
    ran = run("-t", guest.address, *words, "--duration", "1s", limit=None).said(0, "tracefs")
    found = told(ran.out)
    logged = (guest.directory / "own.log").read_text().splitlines()
    summary = found[-1]
    assert summary["read"] + summary["lost"] == len(logged)
    assert summary["read"] > 1000
    events = [record for record in found if record["type"] == "event"]
    assert {record["pid"] for record in events} == {guest.pid}
    assert all(record["args"] and "raw" not in record for record in events)
    assert instances(private) == []


@pytest.mark.qemu
def test_after_sigkill_the_next_verb_removes_the_instance(
    guest: RealGuest, run: Qtctl, private: Path
) -> None:
    running = run.start("-t", guest.address, "tail", "--backend", "ftrace", "virtio_*")
    running.wrote(b"virtio_blk_req_complete")
    [name] = [n for n in instances(private) if n.startswith(f"qtctl-{running.pid}-")]
    running.signal(signal.SIGKILL)
    running.finish(None)
    assert name in instances(private)
    run("-t", guest.address, "status").said(0, "gave back")
    assert name not in instances(private)
    assert run.leases() == []


@pytest.mark.qemu
def test_a_guest_that_ended_takes_its_instance_along(
    guest: RealGuest, run: Qtctl, private: Path
) -> None:
    running = run.start("-t", guest.address, "tail", "--backend", "ftrace", "virtio_*")
    running.wrote(b"virtio_blk_req_complete")
    running.signal(signal.SIGKILL)
    running.finish(None)
    guest.process.kill()
    guest.process.wait()
    with RealGuest(guest.qemu) as another:
        run("-t", another.address, "status").said(0)
    eventually(lambda: f"qtctl-{running.pid}-1" not in instances(private), "it is removed")


@pytest.mark.qemu
def test_two_at_once_have_an_instance_each(guest: RealGuest, run: Qtctl, private: Path) -> None:
    words = ("tail", "--backend", "ftrace", "virtio_blk_*")
    one = run.start("-t", guest.address, *words)
    one.wrote(b"virtio_blk_req_complete")
    two = run.start("-t", str(guest.directory / "second.sock"), *words, "--kernel", "sched:*")
    two.wrote(b"sched:sched_switch")
    two.wrote(b"virtio_blk_req_complete")
    one.signal(signal.SIGINT)
    assert one.finish(None).code == 130
    seen = len(two.out)
    eventually(lambda: len(two.out) > seen + 2000, "the other one goes on")
    two.signal(signal.SIGTERM)
    assert two.finish(None).code == 143
    assert instances(private) == []


@pytest.mark.qemu
def test_kernel_patterns_that_match_nothing(guest: RealGuest, run: Qtctl, private: Path) -> None:
    target = ("-t", guest.address, "tail", "virtio_*", "--duration", "1s")
    run(*target, "--kernel", "kvm:kvm_exitt").said(3, "no kernel event", "kvm:kvm_exit")
    assert instances(private) == []
