"""The one loop of verbs that follow a guest: what ends it, and the order in which it closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Self, cast

import pytest

from qtctl.commands.context import Context
from qtctl.commands.following import following
from qtctl.commands.output import Output
from qtctl.errors import LinkLost
from qtctl.events.selection import Selection
from qtctl.model import Backend, Flood, Mark
from qtctl.records.counts import Counts
from qtctl.session.stream import Stream

FLOOD = Flood(900_000, 90_000_000, (("loud", 900_000),), ("loud",), False, 1)


class Log(Context):
    """A context that notes what is printed, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def talk(self, lines: Any) -> None:
        self.steps += lines


class FakeStream:
    """A stream of given items; at its end it waits for a stop, or loses the link."""

    selection = Selection(())
    backend, choices, source, report, began_ns = Backend.LOG, 1, "nowhere", None, 1

    def __init__(self, log: Log, items: list[object], *, lost: bool = False) -> None:
        self.counts = Counts(3, 2, 1)
        self.passed_over: dict[Backend, str] = {}
        self._log = log
        self._items = items
        self._lost = lost
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._log.steps.append("entered")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._log.steps.append("left")

    async def __aiter__(self) -> AsyncGenerator[object]:
        for item in self._items:
            yield item
        if self._lost:
            raise LinkLost("lost it")
        await self._stop.wait()
        yield Mark("the last", 2)

    def undeclared(self) -> list[str]:
        return []

    def stop(self) -> None:
        self._stop.set()

    async def release(self) -> None:
        self._log.steps.append("released")


class FakeOutput:
    def __init__(self, log: Log) -> None:
        self._log = log

    async def finish(self, timeout_s: float) -> bool:
        self._log.steps.append("flushed")
        return True

    def check(self) -> None:
        self._log.steps.append("checked")


async def follow(log: Log, stream: FakeStream, *, duration: float | None = None) -> list[object]:
    found: list[object] = []
    async with following(
        log,
        cast(Stream, stream),
        duration=duration,
        output=cast(Output, FakeOutput(log)),
    ) as items:
        async for item in items:
            found.append(item)
        log.steps.append("read")
    return found


async def test_a_duration_ends_it_and_everything_closes_in_order() -> None:
    log = Log()
    found = await follow(log, FakeStream(log, [Mark("one", 1)]), duration=0.01)
    assert [item.text for item in found if isinstance(item, Mark)] == ["one", "the last"]
    entered, _, *rest = log.steps
    assert entered == "entered"
    assert rest == [
        "released",
        "read",
        "left",
        "flushed",
        "qtctl: 3 read, 2 shown, 1 filtered, 0 lost",
        "checked",
    ]


async def test_a_stop_ends_it() -> None:
    log = Log()
    asyncio.get_running_loop().call_later(0.01, log.stop.set)
    assert len(await follow(log, FakeStream(log, []))) == 1
    assert "released" in log.steps


async def test_a_lost_link_is_raised_after_the_rest_was_shown_and_closed() -> None:
    log = Log()
    with pytest.raises(LinkLost, match="lost it"):
        await follow(log, FakeStream(log, [Mark("one", 1)], lost=True))
    assert log.steps[2:] == [
        "read",
        "left",
        "flushed",
        "qtctl: 3 read, 2 shown, 1 filtered, 0 lost",
    ]


async def test_a_flood_is_reported_as_it_comes() -> None:
    log = Log()
    await follow(log, FakeStream(log, [FLOOD]), duration=0.01)
    assert "flood of 900,000 events/s" in log.steps[2]


async def test_an_error_of_the_verb_closes_everything_too() -> None:
    log = Log()
    stream = FakeStream(log, [])
    with pytest.raises(ZeroDivisionError):
        async with following(log, cast(Stream, stream), output=cast(Output, FakeOutput(log))):
            raise ZeroDivisionError
    assert log.steps[2:4] == ["left", "flushed"]
