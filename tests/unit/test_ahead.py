"""Files that are read ahead: the same items, errors and sums, however many threads and bytes."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtctl.backends import saved
from qtctl.errors import QtctlError
from qtctl.events.selection import Selection
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.items import Loss
from qtctl.records.schema import to_object
from qtctl.session.merging import open_reading
from qtctl.writers.ndjson import json_lines
from tests.running import Qtctl
from tests.samples import DATA

SIMPLE, LOG = "qemu-7.2-simple-v4.bin.gz", "qemu-7.2-log-timestamp.txt.gz"
BYTES = 150_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ahead")
    (made / "simple").write_bytes(gzip.decompress((DATA / SIMPLE).read_bytes())[:BYTES])
    (made / "log").write_bytes(gzip.decompress((DATA / LOG).read_bytes())[:BYTES])
    events = gzip.decompress((DATA / "trace-events-all-7.2.gz").read_bytes()).splitlines(True)
    (made / "events").write_bytes(b"".join(one for one in events if one.startswith(b"virtio_")))
    return made


def read(folder: Path, names: list[str], jobs: int, where: str | None, limit: int | None) -> object:
    """Return the lines, losses and sums of files, and what could not be read."""
    reading = open_reading(
        [folder / name for name in names],
        ordered=True,
        limit=limit,
        jobs=jobs,
        events_all=folder / "events",
        selection=Selection(),
        where=where,
        text=True,
    )
    lines: list[str] = []
    with contextlib.closing(reading):
        while (items := reading.step()) is not None:
            for item in items:
                if isinstance(item, Batch):
                    lines += json_lines(item)
                else:
                    lines.append(str(to_object(item)))
        return lines, reading.counts, reading.problem, reading.unread_lines, reading.remark


@pytest.mark.parametrize("names", [["simple"], ["log"], ["simple", "log"]], ids="+".join)
@pytest.mark.parametrize(
    ("where", "limit"), [(None, None), (None, 70), ("event == 'virtio_blk_handle_read'", None)]
)
def test_the_same_for_all_jobs_and_chunks(
    folder: Path,
    names: list[str],
    where: str | None,
    limit: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected: object = None
    for size, jobs in ((1 << 19, 1), (1 << 19, 2), (4000, 1), (4000, 2), (4000, 5)):
        monkeypatch.setattr(saved, "CHUNK_BYTES", size)
        found = read(folder, names, jobs, where, limit)
        if expected is None or (limit and jobs == 1):  # which unread lines are before the last
            expected = found  # record of N is seen by chunks
        assert found == expected


class Failing:
    """A file of two losses that cannot be read further; it notes what was called."""

    table = notes = declared = None
    unread_lines = ()
    problem = ""
    size, taken, unread = 100, 0, 0

    def __init__(self, endless: bool = False) -> None:
        self.calls: list[str] = []
        self.endless = endless

    def read(self) -> list[Loss] | None:
        self.calls.append("read")
        if not self.endless and len(self.calls) > 2:
            raise QtctlError("the disk has gone")
        self.taken += 1
        return [Loss(Backend.LOG, self.taken, 0)]

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    yield
    assert not [one for one in threading.enumerate() if one.name == "qtctl-ahead"]


@pytest.mark.usefixtures("no_thread_left")
def test_an_error_comes_at_its_place() -> None:
    from qtctl.session.ahead import ReadAhead

    file = ReadAhead(Failing(), threading.Semaphore(1))  # type: ignore[arg-type]
    with contextlib.closing(file):
        assert [file.read(), file.taken] == [[Loss(Backend.LOG, 1, 0)], 1]
        assert [file.read(), file.taken] == [[Loss(Backend.LOG, 2, 0)], 2]
        with pytest.raises(QtctlError, match="the disk has gone"):
            file.read()
        assert file.read() is None


@pytest.mark.usefixtures("no_thread_left")
def test_few_steps_are_read_ahead_and_closing_ends_the_thread() -> None:
    from qtctl.session.ahead import ReadAhead

    endless = Failing(endless=True)
    file = ReadAhead(endless, threading.Semaphore(1))  # type: ignore[arg-type]
    assert file.read()
    file.close()
    assert endless.calls.count("read") <= 8
    assert endless.calls[-1] == "close"
    assert file.read() is None


def test_a_file_that_is_never_read_starts_no_thread() -> None:
    from qtctl.session.ahead import ReadAhead

    unused = Failing()
    ReadAhead(unused, threading.Semaphore(1)).close()  # type: ignore[arg-type]
    assert unused.calls == ["close"]


def test_jobs_are_for_files(qtctl: Qtctl) -> None:
    ran = qtctl("count", "--jobs", "2")
    assert (ran.code, "--jobs is for files" in ran.err) == (2, True)
