"""Verbs for several guests at once: each guest is named, and one that fails stops no other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, eventually

EVENT = "virtio_blk_handle_read"
OTHER = "virtio_blk_req_complete"


@pytest.fixture
def guests(folder: Path) -> Iterator[list[FakeProcess]]:
    """Return three fakes with the names vm0 to vm2, each with its own log."""
    with fakes(folder, [f"vm{n}" for n in range(3)]) as made:
        yield made


@contextlib.contextmanager
def fakes(folder: Path, names: Sequence[str]) -> Iterator[list[FakeProcess]]:
    """Start fakes that are found among the guests that run, with these names."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                FakeProcess(
                    *("-qmp", f"unix:{folder}/{n},server=on,wait=off", "-name", name),
                    *("-D", str(folder / f"{n}.log")),
                    program="qemu-system-fake",
                )
            )
            for n, name in enumerate(names)
        ]


def on(guests: list[FakeProcess]) -> list[str]:
    """Return the arguments that name guests."""
    return [word for guest in guests for word in ("-t", guest.address)]


def by_guest(out: str) -> dict[str, dict[str, Any]]:
    """Return the parts of one JSON document by guest."""
    return {one.pop("guest"): one for one in json.loads(out)["guests"]}


def test_events_are_switched_on_every_guest(qtctl: Qtctl, guests: list[FakeProcess]) -> None:
    ran = qtctl(*on(guests), "enable", EVENT).said(0)
    assert ran.out == "vm0, vm1, vm2:\n1 matched, 1 changed, 0 already enabled, 0 unavailable\n"
    assert [guest.tell()["enabled"] for guest in guests] == [[EVENT]] * 3
    shown = by_guest(qtctl(*on(guests), "status", "--json").said(0).out)
    assert [shown[name]["events"]["enabled"] for name in ("vm0", "vm1", "vm2")] == [[EVENT]] * 3
    assert by_guest(qtctl(*on(guests), "list", EVENT, "--json").said(0).out)["vm1"] == {
        "events": [{"name": EVENT, "state": "enabled"}]
    }
    assert qtctl(*on(guests), "restore").said(0).out == "vm0, vm1, vm2:\n1 put back\n"
    assert [guest.tell()["enabled"] for guest in guests] == [[]] * 3


def test_a_guest_that_fails_stops_no_other(qtctl: Qtctl, guests: list[FakeProcess]) -> None:
    guests[1].tell(faults=["error-reply:trace-event-set-state"])
    targets = ["-t", "nosuch", *on(guests)]
    ran = qtctl(*targets, "enable", EVENT, "--json")
    ran.said(4, "qtctl: nosuch: no running guest is 'nosuch'", "qtctl: vm1: ", "refused")
    shown = by_guest(ran.out)
    assert list(shown) == ["nosuch", "vm0", "vm1", "vm2"]
    assert (shown["nosuch"]["type"], shown["nosuch"]["exit_code"]) == ("error", 4)
    assert (shown["vm1"]["type"], shown["vm1"]["exit_code"]) == ("error", 1)
    assert [guest.tell()["enabled"] for guest in guests] == [[EVENT], [], [EVENT]]
    qtctl(*on(guests[1:2]), "-t", "nosuch", "enable", EVENT).said(1, "nosuch")


def test_a_target_that_cannot_be_right_switches_nothing(
    qtctl: Qtctl, guests: list[FakeProcess]
) -> None:
    qtctl(*on(guests), "-t", "", "enable", EVENT).said(2, "empty")
    assert [guest.tell()["enabled"] for guest in guests] == [[]] * 3


def test_one_guest_by_two_targets_is_one(qtctl: Qtctl, guests: list[FakeProcess]) -> None:
    first = guests[0]
    ran = qtctl("-t", first.address, "-t", str(first.pid), *on(guests[1:2]), "status", "--json")
    assert list(by_guest(ran.said(0).out)) == ["vm0", "vm1"]


def test_guests_of_one_name_are_called_by_their_pids(qtctl: Qtctl, folder: Path) -> None:
    with fakes(folder, ["twin", "twin"]) as twins:
        shown = by_guest(qtctl(*on(twins), "status", "--json").said(0).out)
        assert list(shown) == [str(twin.pid) for twin in twins]


def test_events_on_for_a_while_are_given_back_on_every_guest(
    qtctl: Qtctl, guests: list[FakeProcess]
) -> None:
    running = qtctl.start(*on(guests), "enable", EVENT, "--for", "1m")
    eventually(lambda: all(one.tell()["enabled"] == [EVENT] for one in guests), "all are on")
    running.signal(signal.SIGTERM)
    ran = running.finish(None).said(128 + signal.SIGTERM)
    assert "vm0, vm1, vm2:" in ran.out
    assert [guest.tell()["enabled"] for guest in guests] == [[]] * 3


def test_a_guest_that_hangs_does_not_keep_others(qtctl: Qtctl, guests: list[FakeProcess]) -> None:
    os.kill(guests[1].pid, signal.SIGSTOP)
    try:
        running = qtctl.start(*on(guests), "enable", EVENT)
        eventually(
            lambda: all(guests[n].tell()["enabled"] == [EVENT] for n in (0, 2)), "others are on"
        )
        assert not running.ended
        running.finish(None).said(4, "vm1: guest", "is stopped")
    finally:
        os.kill(guests[1].pid, signal.SIGCONT)


def test_a_verb_for_one_guest_says_so(qtctl: Qtctl, guests: list[FakeProcess]) -> None:
    qtctl(*on(guests), "share").said(2, "share is for one guest")


def test_a_measurement_of_prices_is_made_on_each(
    qtctl: Qtctl, guests: list[FakeProcess], tmp_path: Path
) -> None:
    guests[0].tell(faults=[])
    shown = by_guest(qtctl(*on(guests), "probe", EVENT, "--each", "50ms", "--json").said(0).out)
    assert [one["events"][0]["name"] for one in shown.values()] == [EVENT] * 3
