"""Verbs for several guests at once: each guest is named, and one that fails stops no other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, Ran, Running, eventually

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


def read_line(sector: int) -> str:
    return f"{EVENT} vdev 0x1 req 0x2 sector {sector} nsectors 1"


def following(qtctl: Qtctl, guests: list[FakeProcess], *words: str) -> Running:
    """Start a verb that follows guests, and return once their events are on."""
    running = qtctl.start(*on(guests), *words)
    for number in range(len(guests)):
        running.said(f"vm{number}")
    return running


def objects(ran: Ran, kind: str) -> list[dict[str, Any]]:
    """Return the objects of a type that a stream has."""
    found = map(json.loads, ran.out.splitlines())
    return [one for one in found if one["type"] == kind]


def test_records_of_all_guests_are_one_stream(
    qtctl: Qtctl, guests: list[FakeProcess], declared: Path
) -> None:
    words = ("--events-all", str(declared), "tail", EVENT, "--ndjson")
    running = following(qtctl, guests, *words, "--where", "guest != 'vm1' and sector < 9")
    for came in (2, 4, 6):
        for number, guest in enumerate(guests):
            guest.tell(emit=[read_line(number), read_line(9)])
        running.wrote_often(b'"sector"', came)
    running.signal(signal.SIGINT)
    ran = running.finish(None).said(130, "vm1: 6 read, 0 shown, 6 filtered", "3 guests: 18 read")
    events = objects(ran, "event")
    assert [(one["guest"], one["pid"]) for one in events if one["guest"] == "vm2"] == [
        ("vm2", guests[2].pid)
    ] * 3
    times = [one["time_ns"] for one in events]
    assert times == sorted(times)
    assert {one["guest"] for one in objects(ran, "control")} == {"vm0", "vm1", "vm2"}
    [summary] = objects(ran, "summary")
    assert (summary["read"], summary["shown"]) == (18, 6)
    assert [one["guest"] for one in summary["guests"]] == ["vm0", "vm1", "vm2"]
    assert [guest.tell()["enabled"] for guest in guests] == [[]] * 3


def test_a_guest_that_ends_leaves_the_others_in_the_stream(
    qtctl: Qtctl, guests: list[FakeProcess]
) -> None:
    running = following(qtctl, guests, "tail", EVENT, "--ndjson")
    guests[0].process.kill()
    running.said("vm0: lost")
    guests[1].tell(emit=[read_line(7)])
    running.wrote(b"sector 7")
    running.signal(signal.SIGINT)
    ran = running.finish(None).said(5)
    [error] = objects(ran, "error")
    assert (error["guest"], error["exit_code"]) == ("vm0", 5)
    assert [guest.tell()["enabled"] for guest in guests[1:]] == [[]] * 2


def test_a_guest_that_hangs_delays_no_record_of_another(
    qtctl: Qtctl, guests: list[FakeProcess]
) -> None:
    os.kill(guests[0].pid, signal.SIGSTOP)
    try:
        running = qtctl.start(*on(guests), "tail", EVENT, "--ndjson")
        eventually(lambda: all(one.tell()["enabled"] for one in guests[1:]), "others are on")
        guests[1].tell(emit=[read_line(7)])
        running.wrote(b"sector 7")
        running.signal(signal.SIGINT)
        ran = running.finish(None)
    finally:
        os.kill(guests[0].pid, signal.SIGCONT)
    assert ran.code in (4, 130), ran
    assert objects(ran, "summary")


def test_a_stream_of_guests_ends_with_the_last(qtctl: Qtctl, guests: list[FakeProcess]) -> None:
    running = following(qtctl, guests, "count", EVENT, "--by", "guest", "--json")
    for number, guest in enumerate(guests):
        guest.tell(emit=[read_line(1)] * (number + 1))
        guest.process.kill()
    ran = running.finish(None).said(5, "vm0: lost", "vm2: lost")
    groups = {one["value"].split()[0]: one["count"] for one in json.loads(ran.out)["groups"]}
    assert groups == {"vm0": 1, "vm1": 2, "vm2": 3}


def test_an_event_of_any_guest_is_waited_for(qtctl: Qtctl, guests: list[FakeProcess]) -> None:
    running = following(qtctl, guests, "wait", EVENT, "--ndjson")
    guests[2].process.kill()
    guests[1].tell(emit=[read_line(5)])
    ran = running.finish(None).said(0)
    assert json.loads(ran.out)["guest"] == "vm1"


def test_an_action_is_run_on_the_guest_of_the_record(
    qtctl: Qtctl, guests: list[FakeProcess]
) -> None:
    running = following(qtctl, guests, "on", EVENT, "--once", "do", "enable", OTHER)
    guests[1].tell(emit=[read_line(5)])
    ran = running.finish(None).said(0)
    assert f"do enable {OTHER}" in ran.out or "1 changed" in ran.out
    assert [guest.tell()["enabled"] for guest in guests] == [[]] * 3
    assert f'"name": "{OTHER}"' in json.dumps(guests[1].tell()["commands"])
    assert f'"name": "{OTHER}"' not in json.dumps(guests[0].tell()["commands"])


def test_a_qmp_event_of_any_guest_is_waited_for(qtctl: Qtctl, guests: list[FakeProcess]) -> None:
    running = qtctl.start(*on(guests), "on", "RESET", "--once", "--ndjson", "do", "mark", "reset")
    running.said("waiting for QMP events")
    eventually(lambda: guests[2].tell(event="RESET") and running.ended, "it ends")
    ran = running.finish(None).said(0)
    [fired] = objects(ran, "trigger")
    assert fired["found"]["guest"] == "vm2"


def test_a_recording_has_the_guest_of_each_record(
    qtctl: Qtctl, guests: list[FakeProcess], folder: Path
) -> None:
    out = folder / "all.qtr"
    running = following(qtctl, guests, "record", EVENT, "-o", str(out), "--duration", "2s")
    for number, guest in enumerate(guests):
        guest.tell(emit=[read_line(number)])
    guests[0].process.kill()
    running.finish(None).said(5, "vm0: lost")
    ran = qtctl("replay", str(out), "--ndjson").said(0, "recording of 3 guests")
    assert {one["guest"] for one in objects(ran, "event")} == {"vm0", "vm1", "vm2"}
    assert [one["guest"] for one in objects(ran, "error")] == ["vm0"]
    ran = qtctl("count", "--by", "guest", "--from", str(out), "--where", "guest == 'vm1'", "--json")
    assert json.loads(ran.said(0).out)["groups"] == [
        {"value": f"vm1 pid {guests[1].pid}", "count": 1}
    ]


def test_rates_are_by_guest(qtctl: Qtctl, guests: list[FakeProcess]) -> None:
    words = ("top", EVENT, "--by", "guest", "--interval", "3s", "--once", "--json")
    running = following(qtctl, guests, *words)
    guests[1].tell(emit=[read_line(1)] * 3)
    rows = json.loads(running.finish(None).said(0).out)["rows"]
    assert [(one["key"], one["total"]) for one in rows] == [(f"vm1 pid {guests[1].pid}", 3)]


def test_metrics_are_of_each_guest(qtctl: Qtctl, guests: list[FakeProcess]) -> None:
    running = qtctl.start(*on(guests), "metrics", EVENT, "--listen", "127.0.0.1:0")
    running.said("metrics at ")
    eventually(lambda: all(one.tell()["enabled"] for one in guests), "all are followed")
    url = running.err.decode().partition("metrics at ")[2].split()[0]
    for number, guest in enumerate(guests):
        guest.tell(emit=[read_line(number)] * (number + 1))
    expected = {
        f'qtctl_records_total{{event="{EVENT}",guest="vm{number}"}} {number + 1}.0'
        for number in range(3)
    }

    def scraped() -> str:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())

    eventually(lambda: expected <= {*scraped().splitlines()}, "each guest has its records")
    text = scraped()
    assert [f'qtctl_guest{{guest="vm{number}"' in text for number in range(3)] == [True] * 3
    running.signal(signal.SIGINT)
    running.finish().said(130)
    assert [guest.tell()["enabled"] for guest in guests] == [[]] * 3


def test_a_verb_for_one_guest_says_so(qtctl: Qtctl, guests: list[FakeProcess]) -> None:
    qtctl(*on(guests), "share").said(2, "share is for one guest")


def test_a_measurement_of_prices_is_made_on_each(
    qtctl: Qtctl, guests: list[FakeProcess], tmp_path: Path
) -> None:
    guests[0].tell(faults=[])
    shown = by_guest(qtctl(*on(guests), "probe", EVENT, "--each", "50ms", "--json").said(0).out)
    assert [one["events"][0]["name"] for one in shown.values()] == [EVENT] * 3


def test_guests_that_are_not_there_yet_are_followed_again_and_again(
    qtctl: Qtctl, folder: Path
) -> None:
    name = f"vm-again-{os.getpid()}"
    running = qtctl.start("-t", name, "tail", EVENT, "--wait", "--ndjson")
    running.said(f"waiting for {name}")
    for times in (1, 2):
        with fakes(folder, [name]) as [guest]:
            running.wrote_often(b'"action": "enable"', times)
            guest.tell(emit=[read_line(times)])
            running.wrote_often(b'"type": "event"', times)
    running.signal(signal.SIGINT)
    ran = running.finish().said(130)
    assert [one["guest"] for one in objects(ran, "event")] == [name] * 2
    assert objects(ran, "summary")[0]["read"] == 2


def test_a_guest_is_waited_for(qtctl: Qtctl, folder: Path) -> None:
    name = f"vm-late-{os.getpid()}"
    qtctl("-t", name, "wait", "--for-guest", "--timeout", "0.3").said(124, "was not there")
    qtctl("wait").said(2, "--for-guest")
    qtctl("wait", "--for-guest").said(2, "-t NAME")
    running = qtctl.start("-t", name, "wait", "--for-guest", "--json")
    with fakes(folder, [name]):
        ran = running.finish().said(0)
    assert json.loads(ran.out) == {"type": "guest", "guest": name}
