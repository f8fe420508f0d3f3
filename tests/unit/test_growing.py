"""A growing file is read whole, waits without polling, and says what it could not deliver."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qtctl.backends.spool import growing
from qtctl.backends.spool.growing import GrowingFile, Skipped
from qtctl.backends.spool.spool import MIB, punch
from tests.running import PATIENCE_SECONDS, Stopwatch


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    return path


@pytest.fixture
def reading(log: Path) -> Iterator[GrowingFile]:
    source = GrowingFile(log)
    yield source
    source.close()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_begins_at_the_end_and_gives_what_is_appended(log: Path, reading: GrowingFile) -> None:
    assert reading.read() == []
    append(log, b"new\nand ")
    append(log, b"more")
    assert reading.behind() == 12
    assert reading.read() == [b"new\nand more"]
    assert reading.read() == []


def test_follows_a_file_that_is_renamed_or_deleted(log: Path, reading: GrowingFile) -> None:
    with log.open("ab") as writer:
        log.rename(log.with_name("log.1"))
        writer.write(b"a\n")
        writer.flush()
        log.with_name("log.1").unlink()
        writer.write(b"b\n")
        writer.flush()
        assert reading.read() == [b"a\nb\n"]


def test_a_truncated_file_is_a_gap_of_unknown_size(log: Path, reading: GrowingFile) -> None:
    append(log, b"1\n2\n")
    os.truncate(log, 0)
    append(log, b"3\n")
    assert reading.read() == [Skipped(None), b"3\n"]


@pytest.mark.parametrize("seen", [True, False])
def test_a_file_that_is_written_anew_is_read_from_its_begin(log: Path, seen: bool) -> None:
    reading = GrowingFile(log)
    append(log, b"1\n")
    if seen:
        assert reading.read() == [b"1\n"]
    log.write_bytes(b"longer than before\n")
    assert reading.read() == [Skipped(None), b"longer than before\n"]
    append(log, b"2\n")
    assert reading.read() == [b"2\n"]
    reading.close()


@pytest.mark.parametrize("seen", [True, False])
def test_a_writer_goes_on_behind_a_hole(tmp_path: Path, seen: bool) -> None:
    """Somebody truncates the file (copytruncate), and its writer does not append."""
    path = tmp_path / "log"
    with path.open("wb", buffering=0) as writer:
        writer.write(b"x" * 4999 + b"\n")
        reading = GrowingFile(path)
        writer.write(b"1\n" * 4000)
        if seen:
            assert reading.read() == [b"1\n" * 4000]
        os.truncate(path, 0)
        writer.write(b"2\n3\n")
        assert reading.read() == ([b"2\n3\n"] if seen else [Skipped(None), b"3\n"])
        writer.write(b"4\n")
        assert reading.read() == [b"4\n"]
        reading.close()


async def test_waiting_ends_when_something_is_written(log: Path, reading: GrowingFile) -> None:
    waiting = asyncio.create_task(reading.wait(30))
    await asyncio.sleep(0)
    assert not waiting.done()
    append(log, b"x\n")
    watch = Stopwatch()
    await waiting
    assert watch.seconds < 0.9  # below the backstop, so inotify did it
    assert reading.read() == [b"x\n"]


async def test_waiting_costs_no_time_when_there_is_something(
    log: Path, reading: GrowingFile
) -> None:
    append(log, b"x\n")
    watch = Stopwatch()
    await reading.wait(30)
    assert watch.seconds < 0.9


async def test_waiting_ends_by_itself(reading: GrowingFile) -> None:
    await asyncio.wait_for(reading.wait(0.01), PATIENCE_SECONDS)
    assert reading.read() == []


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    path.touch()
    return path


def test_a_spool_is_freed_behind_the_reader(spool: Path) -> None:
    source = GrowingFile(spool, offset=0, spool=True)
    try:
        line = b"x" * 99 + b"\n"
        for _ in range(12):
            append(spool, line * 20_000)  # 2 MB
            while source.behind():
                assert all(isinstance(item, bytes) for item in source.read())
        state = spool.stat()
        assert state.st_size == 24_000_000
        assert state.st_blocks * 512 < growing.KEEP_BEHIND_BYTES + 3 * MIB
    finally:
        source.close()


def test_a_hole_somebody_else_punched_is_a_gap_and_no_line_is_torn(spool: Path) -> None:
    source = GrowingFile(spool, offset=0, spool=True)
    try:
        lines = b"".join(b"%07d\n" % i for i in range(4096))  # 32 KiB, 512 lines a page
        append(spool, lines)
        with spool.open("r+b") as file:
            punch(file.fileno(), 0, 8192 + 4)  # the kernel frees whole pages, zeroes the rest
        got = source.read()
        assert got[0] == Skipped(None)
        assert isinstance(got[1], bytes)
        assert got[1].endswith(b"0004095\n")
        assert got[1].splitlines()[0].isdigit()
        assert len(got[1].splitlines()[0]) == 7
    finally:
        source.close()


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 5000), tail=st.binary(max_size=20).filter(lambda b: b"\n" not in b))
def test_a_reader_that_lags_counts_exactly(
    spool: Path, monkeypatch: pytest.MonkeyPatch, cut: int, tail: bytes
) -> None:
    """Lines delivered and lines counted add up, wherever the lag begins."""
    monkeypatch.setattr(growing, "MAX_LAG_BYTES", 3000)
    monkeypatch.setattr(growing, "KEEP_BEHIND_BYTES", 1000)
    monkeypatch.setattr(growing, "CHUNK_BYTES", 700)
    lines = [b"%d" % i * (1 + i % 7) for i in range(1500)]
    whole = b"\n".join(lines) + b"\n" + tail
    spool.write_bytes(whole[:cut])
    source = GrowingFile(spool, offset=0, spool=True)
    try:
        delivered, counted = b"", 0
        append(spool, whole[cut:])
        while source.behind():
            for item in source.read():
                if isinstance(item, Skipped):
                    assert item.lines is not None
                    counted += item.lines
                else:
                    delivered += item
        assert delivered.count(b"\n") + counted == len(lines)
        assert delivered.endswith(tail)
        assert set(delivered.split(b"\n")) <= {*lines, tail}
        assert counted > 0
    finally:
        source.close()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(st.integers(1, 6000), st.booleans()), max_size=6))
def test_a_reader_without_time_still_counts_in_the_right_place(
    spool: Path, monkeypatch: pytest.MonkeyPatch, turns: list[tuple[int, bool]]
) -> None:
    """Between reads, keep_up counts; what is delivered stays whole lines, in order."""
    monkeypatch.setattr(growing, "MAX_LAG_BYTES", 3000)
    monkeypatch.setattr(growing, "BUSY_LAG_BYTES", 2000)
    monkeypatch.setattr(growing, "KEEP_BEHIND_BYTES", 1000)
    monkeypatch.setattr(growing, "CHUNK_BYTES", 700)
    lines = [b"%d" % i for i in range(3000)]
    whole = b"\n".join(lines) + b"\n"
    spool.write_bytes(b"")
    source = GrowingFile(spool, offset=0, spool=True)
    found: list[bytes | Skipped] = []
    try:
        for size, reads in [*turns, (len(whole), True)]:
            written = spool.stat().st_size
            append(spool, whole[written : written + size])
            source.keep_up()
            found += source.read() if reads else []
        while items := source.read():
            found += items
    finally:
        source.close()
    expected, rest = 0, b""
    for item in found:
        if isinstance(item, Skipped):
            assert not rest
            assert item.lines is not None
            expected += item.lines
        else:
            *ended, rest = (rest + item).split(b"\n")
            assert ended == lines[expected : expected + len(ended)]
            expected += len(ended)
    assert expected == len(lines)
