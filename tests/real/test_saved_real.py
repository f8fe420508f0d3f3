"""One run of a real guest, saved as text and files in every way: the same records from each."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.provider.lttng import recording
from tests.qemus import RealGuest, require
from tests.real import test_syslog_real as system_log
from tests.running import Qtctl, eventually

pytestmark = pytest.mark.qemu

READ, DONE = "virtio_blk_handle_read", "virtio_blk_req_complete"


@contextlib.contextmanager
def ftrace_text(into: Path) -> Iterator[None]:
    """Save what is written to trace_marker meanwhile."""
    instance = needs.TRACEFS / "instances" / f"qtctl-test-{os.getpid()}"
    instance.mkdir()
    try:
        option = instance / "options" / "copy_trace_marker"
        if not option.exists():
            pytest.skip("this kernel has no copy_trace_marker")
        option.write_text("1")
        (instance / "buffer_size_kb").write_text("16384")
        yield
        into.write_bytes((instance / "trace").read_bytes())
    finally:
        instance.rmdir()


@contextlib.contextmanager
def system_log_text(daemon: str, folder: Path, into: Path) -> Iterator[None]:
    """Save what the system log gets meanwhile."""
    system_log.check_nobody_serves()
    if daemon == "rsyslog":
        needs.program("rsyslogd", "rsyslog")
        with system_log.Rsyslog(folder, 'SysSock.RateLimit.Interval="0"') as served:
            yield
            into.write_bytes(served.out.read_bytes())
        return
    with system_log.own_journald():
        yield
        name = f"--namespace=qtctltest{os.getpid()}"
        words = ["journalctl", name, "--no-pager", "-o", daemon.partition(" ")[2]]
        ran = subprocess.run(words, capture_output=True, check=True, timeout=30)
        into.write_bytes(ran.stdout)


def of(run: Qtctl, path: Path, where: str = "vdev") -> list[Any]:
    """Return the names and arguments of the events in a file."""
    ran = run("replay", str(path), READ, DONE, "--where", where, "--ndjson", limit=None).said(0)
    every = [json.loads(line) for line in ran.out.splitlines()]
    return [(one["name"], one["args"]) for one in every if one["type"] == "event"]


def unbroken(found: list[Any], first: int, last: int) -> list[Any]:
    places = {args["sector"]: n for n, (name, args) in enumerate(found) if name == READ}
    return found[places[first] : places[last]]


@pytest.mark.parametrize("daemon", ["rsyslog", "journald short", "journald short-unix"])
def test_every_saved_form_says_the_same(daemon: str, run: Qtctl, tmp_path: Path) -> None:
    needs.lttng()
    qemu = require("built")
    names = ("qemu.log", "simple", "ftrace", "system", "lttng")
    log, simple, ftrace, system, lttng = saved = [tmp_path / name for name in names]
    extra = ["-msg", "timestamp=on", "-D", str(log), "-trace", f"file={simple}"]
    with (
        system_log_text(daemon, tmp_path, system),
        RealGuest(qemu, image="sectors", extra=extra) as guest,
        recording(lttng, guest.pid, READ, DONE),
        ftrace_text(ftrace),
    ):
        run("-t", guest.address, "enable", READ, DONE, limit=None).said(0)
        eventually(lambda: log.read_bytes().count(b"\n") > 1500, "events are logged")
        run("-t", guest.address, "disable", READ, DONE, limit=None).said(0)
    logged = of(run, log)
    sectors = [args["sector"] for name, args in logged if name == READ]
    # The kernel's buffer has what all guests of this machine say.
    own = f"vdev == {logged[0][1]['vdev']}"
    # QMP switches one event after the other, so the first and the last records lack some.
    first, last = sectors[20], sectors[-20]
    assert last - first > 500
    wanted = unbroken(logged, first, last)
    for path in saved:
        assert unbroken(of(run, path, own), first, last) == wanted, path
    times = []
    for path in saved:
        ask = ("latency", READ, DONE, "--where", own, "--from", str(path), "--json")
        ran = run(*ask, limit=None).said(0)
        times.append(json.loads(ran.out)["p50"])
        coarse = path == system and daemon == "journald short"
        assert ("times are of whole seconds" in ran.err) == coarse
    print(dict(zip(names, times, strict=True)))
    assert all(0 <= one < 1_000_000_000 for one in times)
