"""Records that were queued are written, whatever the machine does meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtctl.commands.output import Sink


async def test_a_file_gets_all_lines_though_they_take_their_time(tmp_path: Path) -> None:
    path, slow = tmp_path / "out", threading.Event()
    with path.open("wb") as file:
        sink = Sink(file.fileno(), lambda: None)

        def lines(_: int) -> Iterator[str]:
            slow.wait(0.3)
            yield "the last line"

        before = set(threading.enumerate())
        await sink.put(lines)
        [thread] = set(threading.enumerate()) - before
        assert await sink.finish(0.01)
        thread.join(60)
    assert not thread.is_alive()
    assert path.read_text() == "the last line\n"


async def test_a_reader_that_stalls_is_given_up() -> None:
    reading, writing = os.pipe()
    try:
        sink = Sink(writing, lambda: None)
        await sink.put(lambda _: ["x" * (1 << 20)])
        assert not await sink.finish(0.01)
    finally:
        os.close(reading)
        with pytest.raises(OSError, match="Broken pipe"):
            os.write(writing, b"x")
        os.close(writing)


async def test_a_fault_in_making_lines_is_raised(tmp_path: Path) -> None:
    """It must not end the thread that writes, or the verb would report success."""
    failed = threading.Event()
    with (tmp_path / "out").open("wb") as file:
        sink = Sink(file.fileno(), failed.set)

        def lines(_: int) -> Iterator[str]:
            yield from ()
            raise IndexError("a fault of a writer")

        await sink.put(lines)
        assert await sink.finish(60)
    assert failed.is_set()
    with pytest.raises(IndexError, match="of a writer"):
        sink.check()
