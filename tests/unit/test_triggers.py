"""Conditions and triggers: what is waited for, how often is acted, what cannot be right."""

from __future__ import annotations

import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.errors import UsageError
from qtctl.events.declarations import parse_declarations
from qtctl.events.selection import Selection
from qtctl.model import GuestEvent
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.session.conditions import Condition, When
from qtctl.session.triggers import Action, Trigger
from tests.samples import only_batch

DECLARED = parse_declarations('one(int a) "a %d"\ntwo(int a, int b) "a %d b %d"\n').by_name
TABLE = EventTable.build(None, DECLARED)


def batch(text: str) -> Batch:
    return only_batch(LogDecoder(TABLE).end(text.encode(), Clocks(7)))


def condition(*words: str, where: str | None = None) -> Condition:
    return Condition(When.parse(words, where), TABLE.names, DECLARED)


@pytest.mark.parametrize(
    ("words", "guest_event", "events", "where"),
    [
        (("GUEST_PANICKED",), "GUEST_PANICKED", [], None),
        (("one",), "", ["one"], None),
        (("o*", "@virtio-blk"), "", ["o*", "@virtio-blk"], None),
        (("a > 3",), "", [], "a > 3"),
        (("a", ">", "3"), "", [], "a > 3"),
        (('event == "one" and a > 3',), "", ["one"], 'event == "one" and a > 3'),
        (('"one" == event or event in ("two", "x")',), "", ["two", "x", "one"], None),
        (("a >",), "", [], "a >"),
    ],
)
def test_what_a_condition_is_about(
    words: tuple[str, ...], guest_event: str, events: list[str], where: str | None
) -> None:
    when = When.parse(words)
    assert when.guest_event == guest_event
    assert sorted(when.selection.words()) == sorted(events)
    if where is not None:
        assert when.where == where


@pytest.mark.parametrize(
    ("words", "where"), [((), None), (("GUEST_PANICKED",), "a == 1"), (("a == 1",), "b == 1")]
)
def test_conditions_that_cannot_be(words: tuple[str, ...], where: str | None) -> None:
    with pytest.raises(UsageError):
        When.parse(words, where)


def test_conditions_hold_for_what_they_say() -> None:
    found = batch("one a 1\ntwo a 1 b 2\none a 5\nnoise\ntwo a 5 b 9\n")

    def held(*words: str, where: str | None = None) -> tuple[int, object]:
        count, first = condition(*words, where=where).matches(found)
        return count, None if first is None else next(first.records()).args  # type: ignore[union-attr]

    assert held("one") == (2, {"a": 1})
    assert held("*") == (4, {"a": 1})
    assert held("two", where="b > 2") == (1, {"a": 5, "b": 9})
    assert held("a == 5") == (2, {"a": 5})
    assert held('event == "two" and a == 5') == (1, {"a": 5, "b": 9})
    assert held("b == 77") == (0, None)
    assert held("STOP") == (0, None)
    event = GuestEvent("STOP", {}, 1)
    assert condition("STOP").matches(event) == (1, event)
    assert condition("RESET").matches(event) == (0, None)
    assert condition("one").matches(event) == (0, None)


def test_wrong_names_are_refused() -> None:
    with pytest.raises(UsageError, match="argument"):
        condition("nope == 1")
    with pytest.raises(UsageError, match="not followed here"):
        condition("three")


def test_how_often_it_acts() -> None:
    trigger = Trigger(When.parse(["one"]), Action.parse(["stop"]), every_s=10)
    trigger.condition = condition("one")
    found, other = batch("one a 1\none a 2\n"), batch("two a 1 b 2\n")
    first = trigger.look(found, 0)
    assert first is not None
    assert first[0] == 2
    assert trigger.look(found, 9) is None
    assert trigger.look(other, 20) is None
    assert trigger.waiting == 2
    again = trigger.look(found, 20)
    assert again is not None
    assert (again[0], trigger.waiting) == (4, 0)


def test_once_is_once() -> None:
    trigger = Trigger(When.parse(["one"]), Action.parse(["stop"]), once=True, every_s=0)
    trigger.condition = condition("one")
    assert trigger.look(batch("one a 1\n"), 0)
    assert trigger.done
    assert trigger.look(batch("one a 1\n"), 100) is None
    assert trigger.waiting == 0


@pytest.mark.parametrize(
    "words", [[], ["explode"], ["mark"], ["run"], ["enable"], ["stop", "now"], ["dump", "x"]]
)
def test_actions_that_cannot_be(words: list[str]) -> None:
    with pytest.raises(UsageError):
        Action.parse(words)


def test_actions_keep_their_words() -> None:
    assert Action.parse(["run", "sh", "-c", "a | b"]).words == ("sh", "-c", "a | b")
    assert Selection.of(*Action.parse(["disable", "x*", "y"]).words).words() == ["x*", "y"]
