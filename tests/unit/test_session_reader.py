"""Files that LTTng writes in turn, read while they grow: here a test writes them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtctl.backends.ust import reader as ust_reader
from qtctl.backends.ust.reader import SessionReader
from qtctl.events.declarations import parse_declarations
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Loss
from tests import ctffiles as ctf

TABLE = EventTable.build(None, parse_declarations("count(uint64_t n)\nlate(uint64_t n)\n").by_name)
COUNT, LATE = range(2)
FILES = 4
ONLY_COUNT = ctf.metadata(ctf.event_text(COUNT, "qemu:count", [ctf.NUMBER % (64, 0, 10, "n")]))


class Writer:
    """Writes packets of one processor as lttng-consumerd does."""

    def __init__(self, folder: Path, cpu: int = 0) -> None:
        self.prefix = folder / f"qtctl_{cpu}"
        self.cpu = cpu
        self.sequence = self.number = -1
        self.discarded = 0

    def rotate(self) -> None:
        self.number += 1
        path = self._path
        path.unlink(missing_ok=True)
        path.touch()

    def write(self, *numbers: int, event: int = COUNT) -> None:
        self.sequence += 1
        if self.number < 0:
            self.rotate()
        records = [ctf.record(event, n, n.to_bytes(8, "little")) for n in numbers]
        data = ctf.packet(
            *records, first=numbers[0], last=numbers[-1], sequence=self.sequence, size=1024,
            discarded=self.discarded, instance=self.cpu,
        )  # fmt: skip
        with self._path.open("ab") as file:
            file.write(data)

    @property
    def _path(self) -> Path:
        return Path(f"{self.prefix}_{self.number % FILES}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "ust/uid/0/64-bit"
    made.mkdir(parents=True)
    (made / "metadata").write_text(ctf.table_text(TABLE))
    return made


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[SessionReader]:
    made = SessionReader(tmp_path, "qtctl", FILES, 8 << 10, TABLE, 9)
    yield made
    made.close()


def numbers(reader: SessionReader, *, final: bool = False) -> list[int | str | None]:
    """Return the numbers read, a loss as ``-COUNT`` or None."""
    found: list[int | str | None] = []
    for _ in range(100):
        for item in reader.read(final=final):
            if isinstance(item, Loss):
                found.append(None if item.count is None else -item.count)
            elif isinstance(item, Batch):
                found += [int(one.args["n"] or 0) for one in item.records()]
        if reader.dry and (final or not reader.holds):
            break
        time.sleep(0.01)
    return found


def test_files_are_followed_in_turn(folder: Path, reader: SessionReader) -> None:
    writer, expected = Writer(folder), []
    for turn in range(3 * FILES):
        writer.rotate()
        writer.write(2 * turn + 1)
        writer.write(2 * turn + 2)
        expected += [2 * turn + 1, 2 * turn + 2]
        assert numbers(reader) == expected[-2:]
    assert numbers(reader, final=True) == []


def test_files_that_were_overwritten_are_a_loss(folder: Path, reader: SessionReader) -> None:
    writer = Writer(folder)
    writer.write(1)
    assert numbers(reader) == [1]
    writer.write(2)
    for turn in range(FILES + 2):
        writer.rotate()
        writer.write(10 + turn)
    assert numbers(reader, final=True) == [2, None, 12, 13, 14, 15]


def test_what_would_be_overwritten_is_counted(folder: Path, reader: SessionReader) -> None:
    writer = Writer(folder)
    writer.write(1)
    assert numbers(reader) == [1]
    written = range(2, 32)
    for n in written:
        if n % 8 == 0:
            writer.rotate()
        writer.write(n)
    reader.shed()
    assert reader.behind() <= 4 << 10
    found = [n for n in numbers(reader, final=True) if isinstance(n, int)]
    assert found[0] < 0
    assert found[1:] == [*written][-found[0] :]
    assert -found[0] + len(found) - 1 == len(written)


def test_what_was_discarded_in_a_packet_that_is_not_read_is_counted(
    folder: Path, reader: SessionReader
) -> None:
    writer = Writer(folder)
    writer.write(1)
    assert numbers(reader) == [1]
    writer.discarded = 5
    for n in range(2, 12):
        writer.write(n)
    reader.shed()
    found = [n for n in numbers(reader, final=True) if isinstance(n, int)]
    assert sum(-n for n in found if n < 0) + sum(n > 0 for n in found) == 10 + 5


def test_processors_are_merged_by_time(folder: Path, reader: SessionReader) -> None:
    one, two = Writer(folder, 0), Writer(folder, 1)
    one.write(1, 4, 5)
    two.write(2, 3, 6)
    assert numbers(reader, final=True) == [1, 2, 3, 4, 5, 6]


def test_events_that_are_declared_later_lose_nothing(folder: Path, reader: SessionReader) -> None:
    (folder / "metadata").write_text("")
    writer = Writer(folder)
    writer.write(1)
    assert numbers(reader) == []
    (folder / "metadata").write_text(ONLY_COUNT)
    assert numbers(reader) == [1]
    writer.write(2, event=LATE)
    writer.write(3)
    for _ in range(3):
        assert reader.read() == []
    assert reader.holds
    with (folder / "metadata").open("a") as file:
        file.write(ctf.event_text(LATE, "qemu:late", [ctf.NUMBER % (64, 0, 10, "n")]))
    assert numbers(reader) == [2, 3]
    assert reader.undeclared == 0


def test_events_that_nobody_declares_are_a_loss(
    folder: Path, reader: SessionReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ust_reader, "_PATIENCE_S", 0.1)
    (folder / "metadata").write_text(ONLY_COUNT)
    writer = Writer(folder)
    writer.write(1)
    writer.write(2, event=LATE)
    writer.write(3)
    assert numbers(reader) == [1, None, 3]
    assert reader.undeclared == 1


async def test_a_write_ends_the_wait(folder: Path, reader: SessionReader) -> None:
    writer = Writer(folder)
    writer.write(1)
    assert numbers(reader) == [1]
    began = time.monotonic()
    await reader.wait(0.05)
    assert time.monotonic() - began >= 0.04
    writer.write(2)
    await reader.wait(60)
    assert numbers(reader) == [2]
