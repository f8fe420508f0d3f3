"""Prices of events on real QEMUs, and everything given back, however a probe ends."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests import needs
from tests.qemus import RealGuest, require
from tests.running import Qtctl, eventually

pytestmark = pytest.mark.qemu

PORTS = {"memory_region_ops_read", "memory_region_ops_write"}


def enabled(guest: RealGuest, run: Qtctl) -> list[str]:
    listed = run("-t", guest.address, "list", "--state", "enabled", "--json").said(0)
    return [event["name"] for event in json.loads(listed.out)["events"]]


def prices(document: str) -> dict[str, dict[str, Any]]:
    return {event["name"]: event for event in json.loads(document)["events"]}


@pytest.mark.parametrize(
    ("label", "backend"), [("path", "log"), ("rooted", "log"), ("built", "simple")]
)
def test_loud_events_are_priced_alone_and_quiet_ones_together(
    label: str, backend: str, run: Qtctl
) -> None:
    with RealGuest(
        require(label), image="ports", busy=True, extra=("-trace", "file={dir}/trace")
    ) as guest:
        target = ("-t", guest.address)
        run(*target, "enable", "virtio_notify").said(0)
        words = ("probe", "memory_region_*", "virtio_*", "--json", "--backend", backend)
        ran = run(*target, *words, limit=None).said(0)
        assert json.loads(ran.out)["complete"]
        found = prices(ran.out)
        assert list(found)[:2] == sorted(list(found)[:2], key=lambda n: -found[n]["per_s"])
        assert set(list(found)[:2]) == PORTS
        # How fast the guest floods depends on the machine: of two ports one may be quiet.
        assert {name for name, price in found.items() if price["alone"]} <= PORTS
        assert sum(price["per_s"] for price in found.values() if not price["alone"]) <= 10_000
        for price in found.values():
            assert price["share"] == pytest.approx(price["per_s"] / 200_000, abs=1e-4)
        loud = found["memory_region_ops_read"]
        assert 30 < loud["bytes_per_s"] / loud["per_s"] < 120
        assert "logged nothing" in ran.err
        assert enabled(guest, run) == ["virtio_notify"]


def test_ctrl_c_prints_what_is_known_and_gives_back(run: Qtctl) -> None:
    with RealGuest(require("path"), image="ports", busy=True) as guest:
        words = ("probe", "memory_region_ops_*", "usb_*", "--each", "5s", "--json")
        running = run.start("-t", guest.address, *words)
        eventually(lambda: guest.stderr_path.stat().st_size, "a sample")
        running.signal(signal.SIGINT)
        ran = running.finish(None)
        assert ran.code == 130
        assert set(prices(ran.out)) >= PORTS
        assert enabled(guest, run) == []


def test_a_killed_probe_leaves_what_the_next_run_gives_back(run: Qtctl) -> None:
    with RealGuest(require("path"), image="virtio-blk") as guest:
        running = run.start("-t", guest.address, "probe", "virtio_*", "--each", "20s")
        eventually(lambda: guest.stderr_path.stat().st_size, "a sample")
        running.signal(signal.SIGKILL)
        running.finish(None)
        assert enabled(guest, run) == []


def test_backends_that_do_not_look_at_states_are_refused(run: Qtctl) -> None:
    needs.lttng()
    with RealGuest(require("built"), extra=("-trace", "file={dir}/trace")) as guest:
        ran = run("-t", guest.address, "probe", "virtio_*", "--backend", "ust", limit=None)
        ran.said(2, "ust emits nothing until")
