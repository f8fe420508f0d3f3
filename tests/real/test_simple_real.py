"""The simple backend of a real QEMU: followed, given back, and what others do meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.qemus import Qemu, RealGuest, require
from tests.running import Qtctl, Stopwatch, eventually, stopped
from tests.simplefiles import plainly

pytestmark = pytest.mark.qemu

SECOND = ("-qmp", "unix:{dir}/second.sock,server=on,wait=off")


@pytest.fixture
def qemu() -> Qemu:
    return require("built")


def hmp(guest: RealGuest, run: Qtctl, line: str, socket: str = "qmp.sock") -> str:
    ran = run("-t", str(guest.directory / socket), "hmp", *line.split())
    return ran.said(0).out.strip()


def nothing_is_left(run: Qtctl) -> None:
    assert run.leases() == []
    assert run.spools() == []


def events(out: bytes | bytearray | str) -> list[dict[str, object]]:
    lines = out.splitlines() if isinstance(out, str) else bytes(out).splitlines()
    whole = [json.loads(line) for line in lines if line[-1:] in ("}", b"}")]
    return [one for one in whole if one["type"] == "event"]


def test_off_is_off_again_and_the_file_it_named_is_not_touched(qemu: Qemu, run: Qtctl) -> None:
    with RealGuest(qemu, image="virtio-blk") as guest:
        own = guest.directory / "own.bin"
        own.write_bytes(b"precious")
        hmp(guest, run, f"trace-file set {own}")
        words = ("tail", "virtio_blk_*", "--backend", "simple", "--max-events", "20", "--ndjson")
        before = time.time_ns()
        ran = run("-t", guest.address, *words).said(0, "the trace file was off", "0 lost")
        found = events(ran.out)
        assert len(found) == 20
        assert {one["pid"] for one in found} == {guest.pid}
        assert all(one["clock"] == "realtime" for one in found)
        times = [one["time_ns"] for one in found]
        assert all(isinstance(t, int) and before < t < time.time_ns() for t in times)
        reads = [one for one in found if one["name"] == "virtio_blk_handle_read"]
        assert reads
        assert all(list(one["args"]) == ["vdev", "req", "sector", "nsectors"] for one in reads)  # type: ignore[call-overload]
        assert hmp(guest, run, "trace-file") == f'Trace file "{own}" off.'
        assert own.read_bytes() == b"precious"
        nothing_is_left(run)


def test_a_file_in_use_is_followed_and_every_record_of_a_flood_is_accounted_for(
    qemu: Qemu, run: Qtctl
) -> None:
    with RealGuest(qemu, extra=["-trace", "file={dir}/own.bin"]) as guest:
        own = guest.directory / "own.bin"
        state = hmp(guest, run, "trace-file")
        if state.endswith("off."):
            hmp(guest, run, "trace-file on")
            state = hmp(guest, run, "trace-file")
        words = ("tail", "memory_region_ops_*", "--backend", "simple", "--duration", "1s")
        few = ("--where", "addr == 0x71 and value & 0x80", "--ndjson")
        ran = run("-t", guest.address, *words, *few, limit=None).said(0, str(own))
        assert hmp(guest, run, "trace-file") == state
        nothing_is_left(run)
        hmp(guest, run, "trace-file flush")
        rows = list(plainly(own.read_bytes()))
    summary = json.loads(ran.out.splitlines()[-1])
    assert summary["read"] == sum(row[0] != "dropped" for row in rows) > 1000
    lost = (int.from_bytes(row[3], "little") for row in rows if row[0] == "dropped")
    assert summary["lost"] == sum(lost)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system: needs root")
def test_a_full_disk_is_told(qemu: Qemu, run: Qtctl, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        with RealGuest(qemu) as guest:
            hmp(guest, run, f"trace-file set {small}/t")
            hmp(guest, run, "trace-file on")
            words = ("tail", "memory_region_ops_*", "--backend", "simple", "--ndjson")
            running = run.start("-t", guest.address, *words)
            running.wrote(b'"type": "loss", "backend": "simple", "count": null')
            running.signal(signal.SIGTERM)
            ran = running.finish(None)
            assert "is full" in ran.err
            nothing_is_left(run)
            cut = run("replay", f"{small}/t", "--ndjson", limit=None)
        assert len(events(cut.out)) > 1000
        assert cut.code in (0, 1)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_dev_null_is_given_back_and_stays_on(qemu: Qemu, run: Qtctl) -> None:
    with RealGuest(qemu, image="virtio-blk") as guest:
        hmp(guest, run, "trace-file set /dev/null")
        hmp(guest, run, "trace-file on")
        words = ("tail", "virtio_queue_notify", "--backend", "simple", "--max-events", "3")
        run("-t", guest.address, *words).said(0, "was /dev/null")
        assert hmp(guest, run, "trace-file") == 'Trace file "/dev/null" on.'
        nothing_is_left(run)


def test_a_fifo_is_refused_and_left_alone(qemu: Qemu, run: Qtctl, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    stop = threading.Event()

    def drain() -> None:
        while not stop.wait(0.001):
            try:
                while os.read(fd, 1 << 16):
                    pass
            except BlockingIOError:
                continue

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        with RealGuest(qemu, image="virtio-blk") as guest:
            hmp(guest, run, f"trace-file set {fifo}")
            hmp(guest, run, "trace-file on")
            words = ("tail", "virtio_*", "--backend", "simple", "--max-events", "3")
            run("-t", guest.address, *words).said(1, str(fifo), "cannot be followed")
            assert hmp(guest, run, "trace-file") == f'Trace file "{fifo}" on.'
            nothing_is_left(run)
    finally:
        stop.set()
        reader.join()
        os.close(fd)


def more(out: bytearray, count: int) -> Callable[[], bool]:
    """Return a question: whether ``count`` more events have come since now."""
    had = len(events(out))
    return lambda: len(events(out)) >= had + count


def test_others_switch_it_off_and_on_and_move_it(qemu: Qemu, run: Qtctl) -> None:
    with RealGuest(qemu, image="virtio-blk", extra=SECOND) as guest:
        tail = ("tail", "virtio_queue_notify", "--backend", "simple", "--ndjson")
        running = run.start("-t", guest.address, *tail)
        eventually(more(running.out, 3), "events from the spool")
        hmp(guest, run, "trace-file off", "second.sock")
        hmp(guest, run, "trace-file on", "second.sock")
        eventually(more(running.out, 3), "events after off and on")
        moved = guest.directory / "moved.bin"
        hmp(guest, run, f"trace-file set {moved}", "second.sock")
        eventually(more(running.out, 3), "events from the other file")
        running.signal(signal.SIGTERM)
        ran = running.finish(None)
        assert "the trace moved to" in ran.err
        assert hmp(guest, run, "trace-file") == f'Trace file "{moved}" on.'
        names = [row[0] for row in plainly(moved.read_bytes())]
        assert names.count("virtio_queue_notify") >= 3
        nothing_is_left(run)


def test_two_at_once_share_the_spool(qemu: Qemu, run: Qtctl) -> None:
    with RealGuest(qemu, image="virtio-blk", extra=SECOND) as guest:
        before = hmp(guest, run, "trace-file")
        tail = ("tail", "--backend", "simple", "--ndjson")
        one = run.start("-t", guest.address, *tail, "virtio_queue_notify")
        eventually(more(one.out, 3), "events of the first")
        second = str(guest.directory / "second.sock")
        two = run.start("-t", second, *tail, "virtio_blk_handle_read")
        two.said("the spool of another qtctl")
        eventually(more(two.out, 3), "events of the second")
        assert len(run.spools()) == 1
        one.signal(signal.SIGTERM)
        one.finish(None)
        eventually(more(two.out, 3), "events of the second alone")
        two.signal(signal.SIGTERM)
        two.finish(None)
        assert hmp(guest, run, "trace-file") == before
        nothing_is_left(run)


def test_after_a_kill_the_next_run_puts_it_back(qemu: Qemu, run: Qtctl) -> None:
    with RealGuest(qemu, image="virtio-blk") as guest:
        before = hmp(guest, run, "trace-file")
        running = run.start("-t", guest.address, "tail", "virtio_*", "--backend", "simple")
        running.wrote(b"virtio_queue_notify")
        running.signal(signal.SIGKILL)
        running.finish(None)
        assert len(run.spools()) == 1
        run("-t", guest.address, "status").said(0, "gave back")
        assert hmp(guest, run, "trace-file") == before
        nothing_is_left(run)


def test_a_stopped_guest_is_waited_for(qemu: Qemu, run: Qtctl) -> None:
    """Longer than a command may take: the flush that was not answered is no reason to end."""
    with RealGuest(qemu, image="virtio-blk") as guest:
        tail = ("tail", "virtio_queue_notify", "--backend", "simple", "--ndjson")
        running = run.start("-t", guest.address, *tail)
        eventually(more(running.out, 3), "events before")
        with stopped(guest.pid):
            deadline = time.monotonic() + 7
            eventually(lambda: running.ended or time.monotonic() > deadline, "time passes")
            assert not running.ended, bytes(running.err)
        eventually(more(running.out, 3), "events after")
        running.signal(signal.SIGTERM)
        assert running.finish(None).code == 143
        nothing_is_left(run)


def test_a_guest_that_is_killed_leaves_nothing(qemu: Qemu, run: Qtctl) -> None:
    with RealGuest(qemu, image="virtio-blk") as guest:
        running = run.start("-t", guest.address, "tail", "virtio_*", "--backend", "simple")
        running.wrote(b"virtio_queue_notify")
        guest.process.kill()
        ran = running.finish(None)
        assert ran.code == 5
        eventually(lambda: not run.spools(), "the spool is removed")


def test_a_single_record_reaches_the_reader_soon(qemu: Qemu, run: Qtctl) -> None:
    """At a low rate it is the cadence of flushing that counts: 300 ms at most."""
    with RealGuest(qemu, extra=SECOND) as guest:
        event = "qmp_enter_query_status"
        words = ("tail", event, "--backend", "simple", "--ndjson")
        running = run.start("-t", guest.address, *words)
        running.said("1 event on")
        took = []
        for _ in range(5):
            had = len(events(running.out))
            watch = Stopwatch()
            run("-t", str(guest.directory / "second.sock"), "qmp", "query-status").said(0)
            eventually(lambda had=had: len(events(running.out)) > had, "the record")  # type: ignore[misc]
            stamp = events(running.out)[-1]["time_ns"]
            assert isinstance(stamp, int)
            took.append((time.time_ns() - stamp) / 1e9 - watch.stalled)
        running.signal(signal.SIGTERM)
        running.finish(None)
    # The time includes the end of the process that asked: the best one tells of qtctl.
    assert min(took) < 0.3, took


def test_what_was_dropped_before_is_not_ours(qemu: Qemu, run: Qtctl) -> None:
    """With the file off the ring overflows, and QEMU tells of it once the file is on."""
    extra = list(SECOND)
    with RealGuest(qemu, image="ports", busy=True, extra=extra, stderr=subprocess.DEVNULL) as guest:
        second = str(guest.directory / "second.sock")
        run("-t", second, "hmp", "logfile /dev/null").said(0)
        run("-t", second, "hmp", "trace-event memory_region_ops_* on").said(0)
        eventually(lambda: cpu_seconds(guest.pid) > 1, "the ring has overflowed")
        run("-t", second, "hmp", "trace-event memory_region_ops_* off").said(0)
        words = ("tail", "virtio_blk_*", "--backend", "simple", "--duration", "1s", "--strict")
        run("-t", guest.address, *words, limit=None).said(0, "0 lost")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
