"""``qtctl latency`` on real guests: live, and on the file of the same run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qtctl.backends.table import TABLE
from qtctl.model import Backend
from tests.qemus import LABELS, RealGuest, require
from tests.real.test_syslog_real import SOCKET, Rsyslog
from tests.running import Qtctl

pytestmark = pytest.mark.qemu

VERB = ("latency", "virtio_blk_handle_read", "virtio_blk_req_complete")


def measured(run: Qtctl, *words: str, says: str) -> dict[str, Any]:
    """Return what ``latency`` finds in a second, or in longer where the guest is slow."""
    for seconds in (1, 5, 30):
        ran = run(*words, "--duration", f"{seconds}s", "--json", limit=None).said(0, says)
        found: dict[str, Any] = json.loads(ran.out)
        if found["count"] > 10:
            break
    return found


def nothing_wrong(found: dict[str, Any]) -> None:
    """Insist that none is in half but the first and the last: one comes after the other."""
    assert found["count"] > 10
    assert (found["unpaired"], found["reused"]) == (0, 0), found
    assert max(found["unseen"], found["in_flight"]) <= 1, found
    assert found["disordered"] == found["unreadable"] == found["dropped"] == 0


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("pattern", [False, True])
def test_live_on_the_log(label: str, pattern: bool, run: Qtctl) -> None:
    verb = ("latency", "virtio_blk_handle_*", "virtio_blk_req_c*") if pattern else VERB
    with RealGuest(require(label), image="virtio-blk", extra=["-msg", "timestamp=on"]) as guest:
        words = ("-t", guest.address, *verb, "--key", "vdev,req")
        found = measured(run, *words, says="0 lost")
        nothing_wrong(found)
        assert 0 < found["p50"] <= found["p99"] <= found["max"]
        listed = run("-t", guest.address, "list", "--state", "enabled").said(0)
        assert listed.out == ""
        assert run.leases() == []


def test_live_on_a_log_without_times_has_no_figures(run: Qtctl) -> None:
    with RealGuest(require("path"), image="virtio-blk") as guest:
        words = ("-t", guest.address, *VERB, "--duration", "3s", "--json", "--clock", "arrival")
        ran = run(*words, limit=None).said(1, "the same vdev and req", "-msg timestamp=on")
        found = json.loads(ran.out)
        assert (found["count"], found["p50"]) == (0, None)
        assert found["arrived"] > 10
        listed = run("-t", guest.address, "list", "--state", "enabled").said(0)
        assert listed.out == ""


@pytest.fixture
def system_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Have somebody serve /dev/log where a backend needs that."""
    if request.getfixturevalue("backend") != Backend.SYSLOG or SOCKET.exists():
        yield
        return
    if os.geteuid() != 0:
        pytest.skip("only root may serve /dev/log")
    with Rsyslog(tmp_path, 'SysSock.RateLimit.Interval="0"'):
        yield


@pytest.mark.parametrize("backend", [one for one in TABLE if one != Backend.NOP])
@pytest.mark.usefixtures("system_log")
def test_live_on_every_backend(backend: Backend, run: Qtctl) -> None:
    extra = ["-msg", "timestamp=on"]
    with RealGuest(require("built"), image="virtio-blk", extra=extra) as guest:
        words = ("-t", guest.address, *VERB, "--backend", backend, "--duration", "3s", "--json")
        ran = run(*words, limit=None)
        if ran.code != 0 and backend in (Backend.UST, Backend.DTRACE, Backend.FTRACE):
            pytest.skip(ran.err)  # their own tests tell what they need of the machine
        nothing_wrong(json.loads(ran.said(0, "0 lost").out))


def test_the_simple_backend_and_its_file_agree(run: Qtctl) -> None:
    with RealGuest(require("built"), image="virtio-blk", extra=["-trace", "file={dir}/own"]) as one:
        words = ("-t", one.address, *VERB, "--backend", "simple", "--duration", "3s", "--json")
        live = json.loads(run(*words, limit=None).said(0, "0 lost").out)
        trace = one.directory / "own"
        file = json.loads(run(*VERB, "--from", str(trace), "--json", limit=None).said(0).out)
    nothing_wrong(live)
    # The file has what came while only one of them was on, too.
    assert 0 <= file["count"] - live["count"] < 0.2 * live["count"]
    bars = {low: count for low, _, count in file["histogram"]}
    assert all(count <= bars.get(low, 0) for low, _, count in live["histogram"])
