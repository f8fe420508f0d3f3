"""Where a real QEMU's log goes: not to what it inherited, and reported where nothing arrives."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.qemus import LABELS, Qemu, RealGuest, require
from tests.running import Qtctl

pytestmark = pytest.mark.qemu

SECOND = ("-qmp", "unix:{dir}/second.sock,server=on,wait=off")
EVENT = "virtio_blk_handle_read"


@pytest.fixture(params=LABELS)
def qemu(request: pytest.FixtureRequest) -> Qemu:
    return require(request.param)


def inheriting(qemu: Qemu, opens: str) -> Qemu:
    """Return the same QEMU, started by a shell that left files open."""
    return replace(qemu, command=("sh", "-c", f'exec {opens}; exec "$@"', "sh", *qemu.command))


def log_of(run: Qtctl, guest: RealGuest) -> dict[str, object]:
    document = json.loads(run("-t", guest.address, "--json", "status").said(0).out)
    log: dict[str, object] = document["log"]
    return log


def tail(run: Qtctl, guest: RealGuest, source: str) -> None:
    words = ("tail", EVENT, "--backend", "log", "--max-events", "3")
    ran = run("-t", guest.address, *words, limit=None).said(0, f"from {source}; ", "3 shown")
    assert ran.out.count(EVENT) == 3
    assert not run.leases()


def test_an_inherited_file_is_not_the_log(qemu: Qemu, run: Qtctl, tmp_path: Path) -> None:
    lock = tmp_path / "lockfile"
    starts = inheriting(qemu, f"9>{lock}")
    with RealGuest(starts, image="virtio-blk", stderr=subprocess.DEVNULL) as guest:
        log = log_of(run, guest)
        assert (log["reach"], log["certain"], log["others"]) == ("null", False, [str(lock)])
        tail(run, guest, "a spool (the log went to /dev/null)")
        assert log_of(run, guest) == log
    assert lock.read_bytes() == b""
    with RealGuest(starts, image="virtio-blk") as guest:
        tail(run, guest, str(guest.stderr_path))
    assert lock.read_bytes() == b""


def test_pid_files_and_outputs_of_devices_are_no_logs(run: Qtctl, tmp_path: Path) -> None:
    locked = inheriting(require("path"), f"8>{tmp_path}/pid; flock 8")
    files = ("-pidfile", "{dir}/own.pid", "-serial", "file:{dir}/serial")
    with RealGuest(locked, extra=files, stderr=subprocess.DEVNULL) as guest:
        assert log_of(run, guest) == {
            "reach": "null",
            "target": "/dev/null",
            "certain": True,
            "others": [],
        }


def test_a_log_that_logfile_moved_is_found_and_left_there(qemu: Qemu, run: Qtctl) -> None:
    for extra in ((), ("-D", "{dir}/q.log")):
        with RealGuest(qemu, image="virtio-blk", extra=extra, stderr=subprocess.DEVNULL) as guest:
            moved = guest.directory / "moved.log"
            run("-t", guest.address, "hmp", f"logfile {guest.inside('moved.log')}").said(0)
            log = log_of(run, guest)
            assert not log["certain"]
            assert str(moved) in str(log["target"])
            tail(run, guest, str(moved))
            assert str(moved) in str(log_of(run, guest)["target"])


def test_nothing_that_arrives_is_reported(run: Qtctl) -> None:
    """Only the events that do not fire are silent without a word."""
    with RealGuest(require("path"), image="virtio-blk", extra=SECOND) as guest:
        target = ("-t", guest.address, "tail")
        here = run.start(*target, "nvme_*", "--ndjson", "--duration", "8s")
        run("-t", str(guest.directory / "second.sock"), "status").said(0)
        ran = here.finish(None).said(0, "0 read")
        assert "arrives" not in ran.err
        assert '"event"' not in ran.out
        assert "qmp_enter_query_name" in guest.stderr_path.read_text()
        run("-t", guest.address, "hmp", "logfile /dev/null").said(0)
        here = run.start(*target, EVENT)
        here.said("nothing arrives")
        here.signal(signal.SIGINT)
        ran = here.finish(None)
        ran.said(130, f"nothing arrives from {guest.stderr_path}: ", "try: qtctl status")
        assert ran.err.count("nothing arrives") == 1
        assert ran.out == ""
        on = run("-t", guest.address, "list", "--state", "enabled").said(0).out
        assert on == ""
    assert not run.leases()
