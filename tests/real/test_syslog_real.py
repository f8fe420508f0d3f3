"""The syslog backend on real daemons of the test's own: rsyslogd and systemd-journald."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self, cast

import pytest

from qtctl.backends.base import FeedRequest
from qtctl.backends.syslog import daemon as syslog
from qtctl.backends.syslog.daemon import find_daemon, find_file
from qtctl.backends.syslog.feed import SyslogFeed, open_feed
from qtctl.errors import Unsupported
from qtctl.leases.journal import Owner
from qtctl.model import Guest
from qtctl.records.batch import Batch, EventTable
from qtctl.records.columns import Record
from qtctl.records.items import Items, Loss
from tests import needs
from tests.qemus import RealGuest, require
from tests.running import PATIENCE_SECONDS, Qtctl, Stopwatch, eventually
from tests.samples import declarations

SOCKET = Path("/dev/log")
JOURNALD = Path("/lib/systemd/systemd-journald")
#: Without cgroups journald ends at once, when its sockets are there already.
_DIES_SECONDS = 0.5
WRITER = """
import json, sys, syslog, time
syslog.openlog("qemu-system-x86_64", syslog.LOG_PID, syslog.LOG_DAEMON)
at = 0
for line in sys.stdin:
    words = line.split()
    before = time.time_ns()
    if words[0] == "say":
        syslog.syslog(syslog.LOG_INFO, json.loads(line[4:]))
        print(0, 0, flush=True)
        continue
    for at in range(at, at + int(words[0])):
        number = 7 if words[1:] else at + 1
        syslog.syslog(syslog.LOG_INFO, "virtio_notify vdev 0x1 vq 0x%x" % number)
    at += 1
    print(before, time.time_ns(), flush=True)
"""


def check_nobody_serves() -> None:
    """Skip where the machine has a system log: it is not ours to fill."""
    if os.geteuid() != 0:
        pytest.skip("only root may serve /dev/log")
    if SOCKET.exists() or SOCKET.is_symlink():
        pytest.skip("/dev/log exists: the machine's own log is left alone")


@pytest.fixture(autouse=True)
def nobody_serves() -> None:
    """Need a machine without a system log."""
    check_nobody_serves()


SOON_MS = 500.0


class Rsyslog:
    """An rsyslogd that serves /dev/log and writes to a file of the test's."""

    def __init__(self, folder: Path, *module: str, before: str = "") -> None:
        self.out = folder / "messages"
        self._pid_file = folder / "rsyslogd.pid"
        config = folder / "rsyslog.conf"
        options = " ".join(('SysSock.Use="on"', *module))
        config.write_text(
            f'module(load="imuxsock" {options})\n{before}\n'
            f'action(type="omfile" file="{self.out}")\n'
        )
        self._command = ["rsyslogd", "-n", "-f", str(config), "-i", str(self._pid_file)]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)
        eventually(SOCKET.exists, "rsyslogd serves /dev/log")
        eventually(self._pid_file.exists, "rsyslogd is up")

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(60)
        SOCKET.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.end()


@pytest.fixture
def rsyslog(tmp_path: Path) -> Callable[..., Rsyslog]:
    needs.program("rsyslogd", "rsyslog")
    return lambda *module, before="": Rsyslog(tmp_path, *module, before=before)


@contextlib.contextmanager
def own_journald() -> Iterator[subprocess.Popen[bytes]]:
    """Run a journald in a namespace of the test's own, with /dev/log pointing at it."""
    if not JOURNALD.exists() or shutil.which("journalctl") is None:
        needs.packaged("systemd-journald", "systemd")
    name = f"qtctltest{os.getpid()}"
    place = Path(f"/run/systemd/journal.{name}")
    process = subprocess.Popen([JOURNALD, name], stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        eventually((place / "dev-log").exists, "journald listens")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_DIES_SECONDS)
            pytest.skip(f"journald does not run here: {process.stderr.read().decode().strip()}")
        SOCKET.symlink_to(place / "dev-log")
        yield process
    finally:
        SOCKET.unlink(missing_ok=True)
        process.terminate()
        process.wait(60)
        process.stderr.close()
        shutil.rmtree(place, ignore_errors=True)
        for base in ("/var/log/journal", "/run/log/journal"):
            for left in Path(base).glob(f"*.{name}"):
                shutil.rmtree(left, ignore_errors=True)


@pytest.fixture
def journald() -> Iterator[subprocess.Popen[bytes]]:
    """Run a journald of the test's own."""
    with own_journald() as process:
        yield process


class Writer:
    """A process that says events to the system log as QEMU does, when told to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    def say(self, text: str) -> None:
        """Say one message."""
        self.write(f"say {json.dumps(text)}")

    def write(self, count: int | str = 1, same: str = "") -> tuple[int, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(count, same, file=self._process.stdin, flush=True)
        before, after = self._process.stdout.readline().split()
        return int(before), int(after)

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


async def follow(pid: int) -> tuple[SyslogFeed, list[str]]:
    known = declarations("7.2").by_name
    session: Any = SimpleNamespace(guest=Guest(pid, 0, "", ()), notices=[])
    table = EventTable.build(None, known)
    request = FeedRequest(session, Owner(os.getpid(), 0, 1), table, ("virtio_notify",))
    return await open_feed(request), cast(list[str], session.notices)


async def until(feed: SyslogFeed, count: int, seconds: float = PATIENCE_SECONDS) -> Items:
    """Read until ``count`` records were read or lost."""
    found: Items = []
    deadline = time.monotonic() + seconds
    while total(found) < count and time.monotonic() < deadline:
        found += await feed.wait(1.0)
        found += feed.read()
    return found


async def rest(feed: SyslogFeed) -> Items:
    found: Items = []
    await feed.settle()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not feed.settled():
        assert time.monotonic() < deadline
        found += await feed.wait(0.1)
        found += feed.read()
    return found + feed.finish()


def records(items: Items) -> list[Record]:
    return [record for item in items if isinstance(item, Batch) for record in item.records()]


def lost(items: Items) -> int:
    return sum(item.count or 0 for item in items if isinstance(item, Loss))


def total(items: Items) -> int:
    return sum(len(item) for item in items if isinstance(item, Batch)) + lost(items)


async def one_by_one(writer: Writer) -> None:
    """Every record comes by itself, the usual one soon; a busy machine may hold one up."""
    feed, _ = await follow(writer.pid)
    try:
        late_ms = []
        for number in range(1, 11):
            waiting = asyncio.ensure_future(until(feed, 1))
            await asyncio.sleep(0)
            watch = Stopwatch()
            before, after = await asyncio.to_thread(writer.write)
            [record] = records(await waiting)
            late_ms.append((time.time_ns() - after) / 1e6 - watch.stalled * 1e3)
            assert record.args == {"vdev": 1, "vq": number}
            assert before - 50e6 <= record.time_ns <= after + 50e6 + watch.stalled * 1e9
            assert record.pid == writer.pid
        assert sorted(late_ms)[5] < SOON_MS, late_ms
    finally:
        await feed.close()


async def test_rsyslog_gives_a_record_soon(rsyslog: Callable[..., Rsyslog]) -> None:
    with rsyslog() as daemon, Writer() as writer:
        await one_by_one(writer)
        assert find_file(find_daemon()) == daemon.out


async def test_rsyslog_all_that_was_said_is_read(rsyslog: Callable[..., Rsyslog]) -> None:
    with rsyslog(), Writer() as writer, Writer() as other:
        feed, _ = await follow(writer.pid)
        for _ in range(10):
            await asyncio.to_thread(writer.write, 2000)
            await asyncio.to_thread(other.write, 500)
        found = await rest(feed)
        await feed.close()
    assert lost(found) == 0
    assert [record.args["vq"] for record in records(found)] == list(range(1, 20_001))


async def test_rsyslog_rate_limit_read_and_lost_are_what_was_said(
    rsyslog: Callable[..., Rsyslog],
) -> None:
    limits = ('SysSock.RateLimit.Interval="1"', 'SysSock.RateLimit.Burst="200"')
    with rsyslog(*limits), Writer() as writer:
        feed, notices = await follow(writer.pid)
        produced = 5000
        await asyncio.to_thread(writer.write, produced)
        found = await until(feed, 200)
        while total(found) < produced < 5100:  # the count comes with a message a second later
            await asyncio.to_thread(writer.write)
            produced += 1
            found += await until(feed, 1, 0.2)
        found += await rest(feed)
        await feed.close()
    assert lost(found) > 0
    assert total(found) == produced
    assert notices == []


async def test_rsyslog_a_limit_without_its_count_is_said(rsyslog: Callable[..., Rsyslog]) -> None:
    limits = ('SysSock.RateLimit.Interval="60"', 'SysSock.RateLimit.Burst="200"')
    with rsyslog(*limits) as daemon, Writer() as writer:
        feed, notices = await follow(writer.pid)
        await asyncio.to_thread(writer.write, 300)
        # A message of rsyslogd's own has another way to the file than those of programs.
        dropping = b"begin to drop messages"
        await asyncio.to_thread(
            eventually, lambda: dropping in daemon.out.read_bytes(), "rsyslogd drops messages"
        )
        found = await rest(feed)
        await feed.close()
    assert len(records(found)) == 200
    assert isinstance(found[-1], Loss) and found[-1].count is None
    assert "rate limit" in notices[0]


async def test_rsyslog_squashed_repeats_are_counted_in(rsyslog: Callable[..., Rsyslog]) -> None:
    with rsyslog(before="$RepeatedMsgReduction on") as daemon, Writer() as writer:
        feed, _ = await follow(writer.pid)
        await asyncio.to_thread(writer.write, 1000, "same")
        await asyncio.to_thread(writer.write, 3)
        found = await rest(feed)
        await feed.close()
        assert b"message repeated" in daemon.out.read_bytes()
    assert total(found) == 1003


async def test_rsyslog_dies_and_comes_back(rsyslog: Callable[..., Rsyslog]) -> None:
    with rsyslog() as daemon, Writer() as writer:
        feed, notices = await follow(writer.pid)
        await asyncio.to_thread(writer.write)
        assert len(records(await until(feed, 1))) == 1
        await asyncio.to_thread(daemon.end, signal.SIGKILL)
        gap: Items = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not gap and time.monotonic() < deadline:
            gap = await feed.wait(0.1)
        assert [item.count for item in gap if isinstance(item, Loss)] == [None]
        assert "has ended" in notices[0]
        await asyncio.to_thread(daemon.start)
        found: Items = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not found and time.monotonic() < deadline:
            await asyncio.to_thread(writer.write)
            found = await until(feed, 1, 0.3)
        assert records(found)
        await feed.close()


async def test_rsyslog_rotates_its_file(rsyslog: Callable[..., Rsyslog]) -> None:
    with rsyslog() as daemon, Writer() as writer:
        feed, _ = await follow(writer.pid)
        await asyncio.to_thread(writer.write, 100)
        found = await until(feed, 100)
        daemon.out.rename(daemon.out.with_suffix(".1"))
        daemon.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(writer.write, 100)
        found += await until(feed, 100)
        await feed.close()
    assert [record.args["vq"] for record in records(found)] == list(range(1, 201))


async def test_journald_gives_a_record_soon(journald: subprocess.Popen[bytes]) -> None:
    with Writer() as writer:
        await one_by_one(writer)


async def test_journald_all_that_was_said_is_read(journald: subprocess.Popen[bytes]) -> None:
    with Writer() as writer, Writer() as other:
        feed, _ = await follow(writer.pid)
        for _ in range(3):
            await asyncio.to_thread(writer.write, 1000)
            await asyncio.to_thread(other.write, 300)
        found = await rest(feed)
        await feed.close()
    assert lost(found) == 0
    assert [record.args["vq"] for record in records(found)] == list(range(1, 3001))


TEXTS = ("info", "a\nb", "a\n1 b\n", " a \n", "a#012b")
HMP = "handle_hmp_command mon 0x1 cmdline: "


async def texts_of(writer: Writer) -> list[object]:
    """Return the texts of records as they are read back; None for raw ones."""
    feed, _ = await follow(writer.pid)
    for text in TEXTS:
        await asyncio.to_thread(writer.say, HMP + text)
    found = records(await rest(feed))
    await feed.close()
    assert all(record.cut or record.args for record in found)
    return [record.args.get("cmdline") for record in found]


async def test_rsyslog_a_text_that_it_escaped_is_raw(rsyslog: Callable[..., Rsyslog]) -> None:
    with rsyslog(), Writer() as writer:
        found = await texts_of(writer)
    # It also drops a newline at the end ($DropTrailingLFOnReception), which nothing shows.
    assert found == ["info", None, None, " a ", None]


async def test_journald_a_text_with_newlines_is_whole(journald: subprocess.Popen[bytes]) -> None:
    with Writer() as writer:
        assert await texts_of(writer) == ["info", "a\nb", None, " a \n", None]


def test_nobody_serves_the_log() -> None:
    with pytest.raises(Unsupported, match="nobody serves /dev/log"):
        find_daemon()
    with pytest.raises(Unsupported, match="takes no message"):
        syslog.send_mark()


def test_a_daemon_that_writes_nowhere(
    rsyslog: Callable[..., Rsyslog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syslog, "FOUND_TIMEOUT_S", 0.3)
    with rsyslog(before="stop"), pytest.raises(Unsupported, match="wrote it to no file"):
        find_file(find_daemon())


@pytest.mark.qemu
def test_a_real_guest_read_and_lost_are_what_its_log_has(
    rsyslog: Callable[..., Rsyslog], tmp_path: Path
) -> None:
    qemu = require("built")
    with rsyslog(), Qtctl(tmp_path / "home") as run:
        with RealGuest(qemu, image="virtio-blk", extra=["-D", "{dir}/own.log"]) as guest:
            words = ("tail", "--backend", "syslog", "virtio_*", "--ndjson", "--duration", "1s")
            ran = run("-t", guest.address, *words, limit=None).said(0, "written by rsyslogd")
            logged = (guest.directory / "own.log").read_text().splitlines()
            none = run("-t", guest.address, "list", "--state", "enabled", "--json")
            assert json.loads(none.out)["events"] == []
        found = [json.loads(line) for line in ran.out.splitlines()]
        assert found[-1]["read"] + found[-1]["lost"] == len(logged)
        assert found[-1]["read"] > 100
        assert all(record["args"] for record in found if record["type"] == "event")
        assert run.leases() == []


@pytest.mark.qemu
def test_a_real_guest_without_a_log_daemon_is_told_so(tmp_path: Path) -> None:
    with Qtctl(tmp_path / "home") as run, RealGuest(require("built")) as guest:
        words = ("tail", "--backend", "syslog", "virtio_*", "--duration", "1s")
        run("-t", guest.address, *words).said(1, "nobody serves /dev/log", "systemctl start")
