"""A guard against floods of a real QEMU, and everything back as it was found."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemus import RealGuest, require
from tests.real.test_syslog_real import SOCKET, Rsyslog
from tests.running import Qtctl, eventually

pytestmark = pytest.mark.qemu

#: Events a second; a guest that gets little of a busy machine has more, too.
GUARD = 2000
PORTS = ("memory_region_ops_read", "memory_region_ops_write")


def enabled(guest: RealGuest, run: Qtctl) -> list[str]:
    listed = run("-t", guest.address, "list", "--state", "enabled", "--json").said(0)
    return [event["name"] for event in json.loads(listed.out)["events"]]


def grows(guest: RealGuest) -> bool:
    """Tell whether the log grows now."""
    before = guest.stderr_path.stat().st_size
    os.sched_yield()
    return any(guest.stderr_path.stat().st_size > before for _ in range(20_000))


@pytest.mark.parametrize("label", ["path", "rooted"])
def test_a_guard_quiets_the_loudest_and_gives_back_what_was_on(label: str, run: Qtctl) -> None:
    with RealGuest(require(label), image="ports", busy=True) as guest:
        target = ("-t", guest.address)
        run(*target, "enable", PORTS[0]).said(0)
        # A filter hides what is read, and the guard still hears it.
        words = ("memory_region_ops_*", "usb_*", "--where", "1 == 2", "--guard", str(GUARD))
        running = run.start(*target, "tail", *words, "--ndjson")
        running.wrote(b'"action": "disable"')
        running.said("switching off")
        eventually(lambda: not grows(guest), "silence")
        running.signal(signal.SIGINT)
        ran = running.finish(None)
        told = [json.loads(line) for line in ran.out.splitlines()]
        floods = [one for one in told if one["type"] == "flood"]
        offs = [one for one in told if one["type"] == "control" and one["action"] == "disable"]
        assert all(flood["guarded"] and flood["per_s"] > GUARD for flood in floods)
        assert {one["name"] for flood in floods for one in flood["loudest"]} <= set(PORTS)
        assert sum(off["changed"] for off in offs) <= 2
        assert ran.code == 130
        assert enabled(guest, run) == [PORTS[0]], "a standing enable is back"
        run(*target, "restore").said(0)
        assert enabled(guest, run) == []


@pytest.fixture
def system_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Have somebody serve /dev/log where a backend needs that."""
    if request.getfixturevalue("backend") != "syslog":
        yield
        return
    if os.geteuid() != 0 or SOCKET.exists():
        pytest.skip("the machine's own log is left alone")
    with Rsyslog(tmp_path, 'SysSock.RateLimit.Interval="0"'):
        yield


@pytest.mark.parametrize(
    ("label", "backend", "guard"),
    [
        ("path", "log", str(GUARD)),
        ("built", "simple", "1MB"),
        ("built", "ftrace", "5000"),
        ("built", "syslog", "3000"),
    ],
)
@pytest.mark.usefixtures("system_log")
def test_a_guard_works_while_nobody_reads_the_records(
    label: str, backend: str, guard: str, run: Qtctl
) -> None:
    with RealGuest(require(label), image="ports", busy=True) as guest:
        reading, writing = os.pipe()
        try:
            words = ("tail", "memory_region_ops_*", "--guard", guard, "--backend", backend)
            running = run.start("-t", guest.address, *words, stdout=writing)
            running.said("events on")
            eventually(lambda: guest.stderr_path.stat().st_size > 50_000, "a flood")
            eventually(lambda: not grows(guest), "silence")
            running.signal(signal.SIGINT)
            running.finish(None)
        finally:
            os.close(reading)
            os.close(writing)
        assert enabled(guest, run) == []


def test_a_guard_needs_states_that_qemu_looks_at(run: Qtctl) -> None:
    with RealGuest(
        require("built"), image="ports", busy=True, extra=("-trace", "file={dir}/t")
    ) as guest:
        words = ("tail", "memory_region_ops_*", "--backend", "ust", "--guard", "10")
        ran = run("-t", guest.address, *words, limit=None)
        if "lttng" in ran.err and ran.code == 1:
            pytest.skip("ust cannot be followed here")
        ran.said(2, "--guard", "ust")
