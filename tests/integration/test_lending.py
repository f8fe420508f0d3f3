"""Many consoles share one monitor through a lender, and replace a lender that leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

from qtctl.monitor.processes import start_ticks
from tests.fake_qmp import FakeProcess
from tests.rawqmp import RawClient
from tests.running import Qtctl, Running, eventually

EVENT = "virtio_blk_handle_read"
OTHER = "virtio_queue_notify"
LINE = f"{EVENT} vdev 0x1 req 0x2 sector 3 nsectors 4"


def tail(qtctl: Qtctl, fake: FakeProcess, *words: str) -> Running:
    """Start a tail, and return it once its events are on."""
    running = qtctl.start("-t", fake.address, "tail", *words)
    running.said("Ctrl-C gives back")
    return running


def documents(running: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bytes(running.out).splitlines()]


def lent_sockets(qtctl: Qtctl) -> list[Path]:
    return sorted((qtctl.runtime / "qtctl").glob("lent-*"))


def test_verbs_and_consoles_share_one_monitor(qtctl: Qtctl, fake: FakeProcess) -> None:
    first = tail(qtctl, fake, EVENT, "--ndjson")
    second = tail(qtctl, fake, OTHER, "--ndjson")
    listed = qtctl("-t", fake.address, "list", "--state", "enabled").said(0)
    assert listed.out.split() == [EVENT, "enabled", OTHER, "enabled"]
    fake.tell(emit=[LINE])
    first.wrote(b"sector 3")
    for running in (second, first):
        running.signal(signal.SIGINT)
        running.finish(None).said(130)
    assert fake.tell()["enabled"] == []
    assert lent_sockets(qtctl) == []


def test_two_consoles_keep_an_event_until_the_last_is_done(qtctl: Qtctl, fake: FakeProcess) -> None:
    """This includes the case where the lender is the first to leave."""
    lender = tail(qtctl, fake, EVENT)
    other = tail(qtctl, fake, EVENT, "--ndjson")
    lender.signal(signal.SIGINT)
    lender.finish(None).said(130)
    assert fake.tell()["enabled"] == [EVENT]
    fake.tell(emit=[LINE])
    other.wrote(b"sector 3")
    other.signal(signal.SIGINT)
    other.finish(None).said(130)
    assert fake.tell()["enabled"] == []
    assert qtctl.leases() == []


def test_marks_switches_and_guest_events_are_in_the_stream(qtctl: Qtctl, fake: FakeProcess) -> None:
    follower = tail(qtctl, fake, EVENT, "--ndjson")
    fake.tell(event="STOP")
    follower.wrote(b'"event": "STOP"')
    fake.tell(event="RTC_CHANGE", data={"offset": 1})
    marked = qtctl("-t", fake.address, "mark", "before", "reset").said(0)
    assert marked.out == "marked on 1 console\n"
    follower.wrote(b'"before reset"')
    qtctl("-t", fake.address, "enable", OTHER).said(0)
    follower.wrote(OTHER.encode())
    follower.signal(signal.SIGINT)
    follower.finish(None).said(130)
    told = [row for row in documents(follower) if row["type"] != "event"]
    assert [row["type"] for row in told] == ["control", "guest", "mark", "control", "summary"]
    assert told[3] == {
        "type": "control",
        "action": "enable",
        "patterns": [OTHER],
        "changed": 1,
        "time_ns": told[3]["time_ns"],
    }


def test_marks_switches_and_guest_events_as_text(qtctl: Qtctl, fake: FakeProcess) -> None:
    follower = tail(qtctl, fake, EVENT)
    fake.tell(event="GUEST_PANICKED", data={"action": "pause"})
    follower.wrote(b"--- GUEST_PANICKED action=pause ---")
    qtctl("-t", fake.address, "mark", "\x1b[31mred").said(0)
    follower.wrote(b"--- mark: \\x1b[31mred ---")
    qtctl("-t", fake.address, "disable", EVENT).said(0)
    follower.wrote(b"--- disable virtio_blk_handle_read: 1 changed ---")


def test_a_mark_that_nobody_sees_is_an_error(qtctl: Qtctl, fake: FakeProcess) -> None:
    qtctl("-t", fake.address, "mark", "hello").said(1, "nobody follows", fake.address)
    waiting = qtctl.start("-t", fake.address, "wait", EVENT)
    waiting.said("Ctrl-C gives back")
    qtctl("-t", fake.address, "mark", "hello").said(1, "nobody follows")


def test_a_flood_of_qmp_events_is_bounded_and_counted(qtctl: Qtctl, fake: FakeProcess) -> None:
    follower = tail(qtctl, fake, EVENT, "--ndjson")
    for _ in range(200):
        fake.tell(event="X_FAKE_FLOOD")
    fake.tell(event="SHUTDOWN")
    follower.wrote(b"SHUTDOWN")
    follower.signal(signal.SIGINT)
    follower.finish(None).said(130)
    told = documents(follower)
    shown = [row for row in told if row.get("event") == "X_FAKE_FLOOD"]
    dropped = [int(row["text"].split()[0]) for row in told if row["type"] == "mark"]
    assert len(shown) + sum(dropped) == 200
    assert sum(dropped) > 0


def test_a_killed_lender_is_replaced_and_its_leases_given_back(
    qtctl: Qtctl, fake: FakeProcess
) -> None:
    lender = tail(qtctl, fake, OTHER)
    follower = tail(qtctl, fake, EVENT, "--ndjson")
    lender.signal(signal.SIGKILL)
    follower.said(f"gave back 1 event that qtctl pid {lender.pid} left")
    eventually(lambda: fake.tell()["enabled"] == [EVENT], "the dead console's event is off")
    fake.tell(emit=[LINE])
    follower.wrote(b"sector 3")
    qtctl("-t", fake.address, "mark", "still here").said(0)
    follower.wrote(b"still here")
    follower.signal(signal.SIGINT)
    follower.finish(None).said(130)
    assert fake.tell()["enabled"] == []
    assert lent_sockets(qtctl) == []


def test_share_lends_until_it_is_stopped(qtctl: Qtctl, fake: FakeProcess) -> None:
    sharing = qtctl.start("-t", fake.address, "share", "-v")
    eventually(lambda: sharing.out.endswith(b"\n") or sharing.ended, "share prints its socket")
    [path] = lent_sockets(qtctl)
    assert bytes(sharing.out).decode() == f"{path}\n"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    told = json.loads(qtctl("-t", fake.address, "status", "--json").said(0).out)
    assert told["lender"] == {"pid": sharing.pid, "path": str(path), "clients": []}
    assert f"qtctl pid {sharing.pid}" in qtctl("-t", fake.address, "doctor").out
    sharing.said("connected")
    sharing.said("left")
    sharing.signal(signal.SIGTERM)
    sharing.finish(None).said(143)
    assert lent_sockets(qtctl) == []
    told = json.loads(qtctl("-t", fake.address, "status", "--json").said(0).out)
    assert told["lender"] is None


def test_share_in_the_background_ends_with_the_guest(qtctl: Qtctl, fake: FakeProcess) -> None:
    shared = json.loads(qtctl("-t", fake.address, "share", "--detach", "--json").said(0).out)
    pid = shared["pid"]
    try:
        assert os.getsid(pid) == pid
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
        outputs = {Path(f"/proc/{pid}/fd/{fd}").readlink() for fd in (0, 1, 2)}
        assert outputs == {Path(os.devnull)}
        again = qtctl("-t", fake.address, "share", "--detach").said(0, f"pid {pid}")
        assert again.out == f"{shared['path']}\n"
        with RawClient(shared["path"]) as client:
            assert client.ask(execute="query-status")["return"]["status"] == "running"
        fake.stop()
        eventually(lambda: start_ticks(pid) is None, "share ends with the guest")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert lent_sockets(qtctl) == []


def test_share_in_the_background_reports_its_error(qtctl: Qtctl, folder: Path) -> None:
    words = ("-t", str(folder / "gone"), "share", "--detach")
    assert not qtctl(*words).said(4, "no such socket").out
    assert json.loads(qtctl(*words, "--json").said(4).out)["exit_code"] == 4
