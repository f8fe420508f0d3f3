"""QMP events as news: how each is converted, and how a flood is bounded."""

from __future__ import annotations

from typing import Any

import pytest

from qtctl.model import Control, GuestEvent, Mark
from qtctl.monitor.news import EventQueue, news_of

STAMP = {"seconds": 3, "microseconds": 500_000}


@pytest.mark.parametrize(
    ("event", "news"),
    [
        ({"event": "STOP"}, GuestEvent("STOP", {}, 3_500_000_000)),
        ({"event": "NEW_ONE", "data": {"a": 1}}, GuestEvent("NEW_ONE", {"a": 1}, 3_500_000_000)),
        ({"event": "RTC_CHANGE", "data": {"offset": 1}}, None),
        ({"event": "X_QTCTL_MARK", "data": {"text": "hi"}}, Mark("hi", 3_500_000_000)),
        ({"event": "X_QTCTL_MARK", "data": {"text": 1}}, None),
        (
            {
                "event": "X_QTCTL_CONTROL",
                "data": {"action": "enable", "patterns": ["a*"], "changed": 2},
            },
            Control("enable", ("a*",), 2, 3_500_000_000),
        ),
        ({"event": "X_QTCTL_OF_A_LATER_VERSION"}, None),
        ({"event": 3}, None),
        ({"event": "STOP", "data": []}, None),
    ],
)
def test_how_an_event_is_converted(event: dict[str, Any], news: object) -> None:
    assert news_of({**event, "timestamp": STAMP}) == news


@pytest.mark.parametrize("stamp", [None, {}, {"seconds": -1, "microseconds": -1}, "now"])
def test_our_clock_replaces_a_broken_timestamp(stamp: object) -> None:
    news = news_of({"event": "STOP", "timestamp": stamp})
    assert isinstance(news, GuestEvent)
    assert news.time_ns > 10**18


def flood(name: str, count: int) -> list[GuestEvent]:
    return [GuestEvent(name, {}, number) for number in range(count)]


async def test_a_flood_of_one_kind_leaves_room_for_the_others() -> None:
    queue = EventQueue()
    for news in [*flood("NOISE", 200_000), *flood("SHUTDOWN", 1)]:
        queue.put(news)
    *shown, dropped = queue.take(last=True)
    assert shown[-1] == GuestEvent("SHUTDOWN", {}, 0)
    assert len(shown) < 100
    assert isinstance(dropped, Mark)
    assert int(dropped.text.split()[0]) + len(shown) == 200_001
    assert queue.take(last=True) == []


async def test_many_kinds_at_once_are_bounded_too() -> None:
    queue = EventQueue()
    for number in range(10_000):
        queue.put(GuestEvent(f"KIND_{number}", {}, 0))
    assert len(queue.take()) < 200
