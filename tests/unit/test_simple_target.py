"""The trace file: asked for, pointed at a spool, put back, and read from under a fast writer."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from qtctl.backends.simple.decoder import SimpleDecoder
from qtctl.backends.simple.feed import BUSY_TICK_S, IDLE_TICK_S, SimpleFeed
from qtctl.backends.simple.target import (
    Status,
    TraceFile,
    TraceReach,
    find_file,
    put_back,
    read_status,
    redirect,
    refusal,
)
from qtctl.backends.spool.growing import HEAD_BYTES, MAX_LAG_BYTES, GrowingRecords, Skipped
from qtctl.backends.spool.spool import MIB, Spool
from qtctl.errors import QtctlError, Unsupported
from qtctl.model import Guest
from qtctl.records.batch import Batch, EventTable
from qtctl.records.items import Loss
from tests.simplefiles import dropped, event, header, mapping

ME = Guest(os.getpid(), 0, "", (), uid=os.getuid())
BEGIN = header() + mapping(0, "tick") + mapping(1, "other")


class FakeQemu:
    """Behaves as ``trace/simple.c``: never tells of a failure."""

    def __init__(self, name: str = "trace-1", on: bool = False, *, broken: str = "") -> None:
        self.name, self.on, self.broken = name, on, broken
        self.said: list[str] = []
        self._file: Any = None

    async def hmp(self, line: str) -> str:
        self.said.append(line)
        await asyncio.sleep(0)
        words = line.split(None, 2)[1:]
        if words and words[0] == self.broken:
            return ""
        match words:
            case ["set", name]:
                self.name = name.strip('"')
            case ["on"]:
                try:
                    self._file = Path(self.name).open("wb")  # noqa: ASYNC230, SIM115
                except OSError:
                    return ""
                self.on = True
            case ["off"]:
                if self._file:
                    self._file.close()
                self.on = False
            case ["flush"]:
                pass
            case []:
                return f'Trace file "{self.name}" {"on" if self.on else "off"}.\n'
        return ""


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('Trace file "trace-1" off.\n', Status("trace-1", False)),
        ('Trace file "a "b" on.c" on.\n', Status('a "b" on.c', True)),
        ('Trace file "" on.', Status("", True)),
    ],
)
async def test_the_status_is_read(text: str, status: Status) -> None:
    async def hmp(line: str) -> str:
        return text

    assert await read_status(SimpleNamespace(hmp=hmp)) == status


@pytest.mark.parametrize("text", ["", "unknown command: 'trace-file'\n", "Trace file on."])
async def test_another_answer_is_told(text: str) -> None:
    async def hmp(line: str) -> str:
        return text

    with pytest.raises(Unsupported, match="does not say"):
        await read_status(SimpleNamespace(hmp=hmp))


async def test_pointed_at_a_spool_and_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", str(tmp_path / "spool"))
    spool.path.touch()
    qemu = FakeQemu()
    await redirect(qemu, ME, TraceFile(TraceReach.OFF, "trace-1"), spool)
    assert (qemu.name, qemu.on) == (spool.seen, True)
    assert qemu.said[-1] == "trace-file flush"
    assert await put_back(qemu, "trace-1", False, spool.seen) == ""
    assert (qemu.name, qemu.on) == ("trace-1", False)
    qemu.name = "somebody-else's"
    assert await put_back(qemu, "trace-1", False, spool.seen) == ""
    assert qemu.name == "somebody-else's"


@pytest.mark.parametrize("broken", ["set", "on"])
async def test_a_silent_failure_is_seen_and_undone(tmp_path: Path, broken: str) -> None:
    spool = Spool(tmp_path / "spool", str(tmp_path / "spool"))
    qemu = FakeQemu(broken=broken)
    with pytest.raises(Unsupported, match="cannot trace to"):
        await redirect(qemu, ME, TraceFile(TraceReach.OFF, "trace-1"), spool)
    assert (qemu.name, qemu.on) == ("trace-1", False)


async def test_what_cannot_be_put_back_is_told(tmp_path: Path) -> None:
    qemu = FakeQemu(str(tmp_path / "spool"), on=True, broken="off")
    assert "was not put back to trace-1" in await put_back(qemu, "trace-1", False, qemu.name)


def test_the_file_is_found_by_what_it_begins_with(tmp_path: Path) -> None:
    path = tmp_path / "moved away"
    status = Status("any-name", True)
    assert find_file(ME, Status("any-name", False)).reach is TraceReach.OFF
    with path.open("wb") as file:
        file.write(BEGIN)
        file.flush()
        found = find_file(ME, status)
        assert (found.reach, found.fd) == (TraceReach.FILE, file.fileno())
        path.unlink()
        assert find_file(ME, status).reach is TraceReach.FILE
    found = find_file(ME, status)
    assert found.reach is TraceReach.OTHER
    assert "any-name" in refusal(found, ME).message
    assert find_file(ME, Status("/dev/null", True)).reach is TraceReach.NULL


class Writer:
    """A spool that a test writes as QEMU would, and a feed on it."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "log"
        self.path.write_bytes(BEGIN)
        self.qemu = FakeQemu(str(self.path), on=True)
        session = SimpleNamespace(
            guest=None, monitor=self.qemu, notices=[], guest_ended=lambda: False
        )
        self.file = GrowingRecords(self.path, offset=0, spool=True)
        decoder = SimpleDecoder(EventTable.build(["tick"], {}))
        self.feed = SimpleFeed(cast(Any, session), self.file, decoder, "spool", spool=True)

    def write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def sums(self) -> tuple[int, int, int]:
        """Read all to the end; return how many were read, lost, and holes of unknown size."""
        read = lost = unknown = 0
        while True:
            before = self.feed.taken
            for item in [*self.feed.read(), *self.feed.finish()]:
                if isinstance(item, Batch):
                    read += len(item)
                else:
                    assert isinstance(item, Loss)
                    lost += item.count or 0
                    unknown += item.count is None
            if self.feed.taken == before and not self.file.behind():
                return read, lost, unknown


TICK = event(0, 5, 1, 2)
MANY = TICK * 10_000 + dropped(3, 6)


async def test_what_lags_too_far_is_counted_exactly(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    turns = (MAX_LAG_BYTES + 4 * MIB) // len(MANY)
    for _ in range(turns):
        writer.write(MANY)
    read, lost, unknown = writer.sums()
    assert read + lost == turns * 10_003
    assert lost > turns * 3
    assert unknown == 0
    head = os.stat(writer.path).st_blocks * 512  # noqa: PTH116
    assert head < 12 * MIB
    assert writer.file.head()[: len(BEGIN)] == BEGIN
    await writer.feed.close()


async def test_a_busy_reader_counts_too(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    for _ in range(50):
        writer.write(MANY)
        writer.feed.keep_up()
    read, lost, unknown = writer.sums()
    assert (read + lost, unknown) == (50 * 10_003, 0)
    await writer.feed.close()


async def test_emptied_and_begun_anew(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(TICK * 100)
    assert writer.sums() == (100, 0, 0)
    writer.path.write_bytes(header() + mapping(7, "tick") + event(7, 1, 1, 2, pid=5) * 3)
    assert writer.sums() == (3, 0, 1)
    await writer.feed.close()


async def test_a_hole_is_told_and_reading_goes_on(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(TICK * 10)
    assert writer.sums() == (10, 0, 0)
    os.truncate(writer.path, writer.path.stat().st_size + MIB)
    writer.write(TICK * 10)
    read, _, unknown = writer.sums()
    assert (read, unknown) == (10, 1)
    await writer.feed.close()


def test_holes_come_as_gaps(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(BEGIN)
    os.truncate(path, 2 * HEAD_BYTES)
    file = GrowingRecords(path, offset=4096)
    assert file.read() == [Skipped(None)]
    assert file.read() == []
    file.close()


async def test_flushes_follow_the_load(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    loop = asyncio.get_running_loop()

    async def flushes(seconds: float, data: bytes) -> int:
        writer.qemu.said.clear()
        end = loop.time() + seconds
        while loop.time() < end:
            writer.write(data)
            await writer.feed.wait(1.0)
            writer.sums()
            await asyncio.sleep(0.01)
        return writer.qemu.said.count("trace-file flush")

    assert 1 <= await flushes(1.0, b"") <= 1.0 / IDLE_TICK_S + 2
    assert await flushes(1.0, TICK) <= 1.0 / BUSY_TICK_S + 2
    assert await flushes(0.5, TICK * 10_000) <= 3
    await writer.feed.settle()
    assert writer.qemu.said[-1] == "trace-file flush"
    assert writer.feed.settled()
    await writer.feed.close()


async def test_a_flush_that_fails_is_raised(tmp_path: Path) -> None:
    writer = Writer(tmp_path)

    async def hmp(line: str) -> str:
        raise QtctlError("gone")

    writer.sums()
    writer.qemu.hmp = hmp  # type: ignore[method-assign]
    with pytest.raises(QtctlError, match="gone"):
        for _ in range(20):
            await writer.feed.wait(0.05)
    await writer.feed.settle()
    await writer.feed.close()
